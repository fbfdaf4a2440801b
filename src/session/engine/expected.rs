//! Commands for sessions that are not known yet.
//!
//! Another replica may have taken a session a moment ago: the store has it, and its
//! watch tells it within milliseconds, mostly. Whoever asks here for one that is not
//! known, and has not gone lately, is made to wait for that.

use std::time::{Duration, Instant};

use crate::map::Map;
use crate::registry::ConnectionId;
use crate::session::command::Command;
use crate::session::engine::{Answer, Engine, Ticket};
use crate::session::id::SessionKey;
use crate::time::Now;

/// How long a session that is not known may take to appear; it is looked for that
/// once a second. With what a command takes, still less than clients wait.
pub const APPEARS_WITHIN: Duration = Duration::from_secs(1);
/// The most commands that wait for sessions to appear. More are answered at once.
pub const MAX_EXPECTED: usize = 10_000;

/// A command that waits for its session to appear.
#[derive(Debug)]
struct Expecting {
    ticket: Ticket,
    connection: ConnectionId,
    command: Command,
    deadline: Instant,
}

/// The commands that wait for sessions to appear.
#[derive(Debug, Default)]
pub(super) struct Expected {
    commands: Map<SessionKey, Vec<Expecting>>,
    count: usize,
}

impl Engine {
    /// Lets a command wait if its session may appear yet.
    pub(super) fn expect(
        &mut self,
        now: Now,
        ticket: Ticket,
        connection: ConnectionId,
        command: &Command,
    ) -> bool {
        let at = self.patience.counted(now.mono);
        let Some(key) = command.session() else {
            return false;
        };
        let may_appear = self.setup.shared
            && self.expected.count < MAX_EXPECTED
            && !self.entries.contains_key(&key)
            && self.gone.get(&key, at).is_none();
        if may_appear {
            let expecting = Expecting {
                ticket,
                connection,
                command: command.clone(),
                deadline: now.mono + APPEARS_WITHIN,
            };
            let waiting = self.expected.commands.entry(key).or_default();
            waiting.push(expecting);
            self.expected.count += 1;
        }
        may_appear
    }

    /// A session has appeared: what waited for it is carried out, in order.
    pub(super) fn appeared(&mut self, now: Now, key: SessionKey) {
        if let Some(waiting) = self.expected.commands.remove(&key) {
            self.carry_out_all(now, waiting);
        }
    }

    /// Answers the commands whose sessions have not appeared in time.
    pub(super) fn appear_no_more(&mut self, now: Now) {
        let mut late = Vec::new();
        self.expected.commands.retain(|_, waiting| {
            late.extend(waiting.extract_if(.., |one| one.deadline <= now.mono));
            !waiting.is_empty()
        });
        late.sort_unstable_by_key(|one| one.ticket);
        self.carry_out_all(now, late);
    }

    fn carry_out_all(&mut self, now: Now, waiting: Vec<Expecting>) {
        self.expected.count -= waiting.len();
        for one in waiting {
            let answer = self.carry_out(now, one.ticket, one.connection, one.command);
            if let Answer::Now(reply) = answer {
                self.answers.insert(one.ticket, reply);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::engine::testing::{Link, World};
    use crate::session::reply::Reply;

    fn later(world: &mut World, link: Link, line: &str) -> Ticket {
        match world.ask(link, line) {
            Answer::Later(ticket) => ticket,
            Answer::Now(reply) => panic!("{line}: {reply:?}"),
        }
    }

    fn answers(world: &mut World, replica: usize) -> Vec<Reply> {
        let answers = world.engine(replica).take_answers();
        answers.into_iter().map(|(_, reply)| reply).collect()
    }

    #[test]
    fn a_replica_whose_watch_lags_waits_for_what_another_has_taken() {
        let mut world = World::shared(2);
        let (a, b) = (world.connect(0), world.connect(1));
        later(&mut world, a, "REGISTER|api|h|9000|0");
        world.write(0);
        let told = answers(&mut world, 0);
        let [Reply::Ack(id)] = &told[..] else {
            panic!("{told:?}");
        };
        let sid = id.secret();
        later(&mut world, b, &format!("RECONNECT|{sid}"));
        later(&mut world, b, &format!("ROUTE|{sid}|a.com|/|http://h"));
        later(&mut world, b, &format!("VALIDATE|{sid}"));
        world.kill(0);
        world.tell();
        let told = answers(&mut world, 1);
        let is_refused = matches!(told[..], [Reply::Ok, Reply::Error(_)]);
        assert!(is_refused, "there is no route yet: {told:?}");
        world.write(1);
        assert_eq!(answers(&mut world, 1), [Reply::RouteOk]);
        assert_eq!(world.served(1), ["a.com/ -> http://h"]);
    }

    #[test]
    fn what_does_not_appear_is_told_in_time() {
        let mut world = World::shared(2);
        let link = world.connect(0);
        later(&mut world, link, "RECONNECT|nobody");
        later(&mut world, link, "VALIDATE|nobody");
        later(&mut world, link, "RECONNECT|nobody-else");
        assert_eq!(answers(&mut world, 0), []);
        world.pass(1);
        let told = answers(&mut world, 0);
        assert_eq!(told.len(), 3);
        assert_eq!(
            (&told[0], &told[2]),
            (&Reply::Reregister, &Reply::Reregister)
        );
        assert!(matches!(told[1], Reply::Error(_)), "{told:?}");
        // What has gone does not come back.
        let sid = world.register(link, "api|h|9000");
        assert_eq!(world.send(link, &format!("SHUTDOWN|{sid}")), "GOODBYE");
        let answer = world.ask(link, &format!("RECONNECT|{sid}"));
        assert_eq!(answer, Answer::Now(Reply::Reregister));
    }

    #[test]
    fn nobody_waits_for_a_store_of_ones_own_nor_too_many_for_any() {
        let mut world = World::alone();
        let link = world.connect(0);
        let answer = world.ask(link, "RECONNECT|nobody");
        assert_eq!(answer, Answer::Now(Reply::Reregister));
        let mut world = World::shared(1);
        let link = world.connect(0);
        for number in 0..MAX_EXPECTED {
            later(&mut world, link, &format!("RECONNECT|{}", number % 7));
        }
        let answer = world.ask(link, "RECONNECT|nobody");
        assert_eq!(answer, Answer::Now(Reply::Reregister));
        world.pass(1);
        assert_eq!(answers(&mut world, 0).len(), MAX_EXPECTED);
        later(&mut world, link, "RECONNECT|nobody");
    }
}
