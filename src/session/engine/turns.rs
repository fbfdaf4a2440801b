//! Commands that change a session: one at a time, each with one write.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::Revision;
use crate::registry::ConnectionId;
use crate::session::command::Change;
use crate::session::engine::{
    ANSWER_WITHIN, Engine, Entry, MAX_ASKED, MAX_DOUBTS, Ticket, Writing,
};
use crate::session::events::Event;
use crate::session::id::{SessionId, SessionKey};
use crate::session::problem::Problem;
use crate::session::record::SessionRecord;
use crate::session::reply::Reply;
use crate::time::Now;

/// A command that waits for its turn, or has it.
#[derive(Debug)]
pub(super) struct Asked {
    pub ticket: Ticket,
    pub wish: Wish,
    /// When it is given up at the latest.
    pub deadline: Instant,
}

/// What it wants.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// To open the session, for this connection.
    Register(SessionId, ConnectionId, Arc<SessionRecord>),
    Change(Change),
    Shutdown,
}

/// What becomes of a command when it has its turn.
enum Step {
    /// It is answered.
    Answer(Reply),
    /// First the store must hold this, or nothing.
    Store(Option<Arc<SessionRecord>>),
}

impl Engine {
    /// Lets a command wait for its turn at a session that is known.
    pub(super) fn enter(
        &mut self,
        now: Now,
        ticket: Ticket,
        key: SessionKey,
        wish: Wish,
    ) -> Result<(), Problem> {
        let entry = self.entries.get(&key).ok_or(Problem::InvalidSession)?;
        let record = entry.record.as_ref().ok_or(Problem::InvalidSession)?;
        // One that was superseded can only be ended.
        let is_over = entry.superseded && !matches!(wish, Wish::Shutdown);
        if record.is_static || is_over {
            return Err(Problem::InvalidSession);
        }
        if entry.asked.len() >= MAX_ASKED || entry.doubts.len() >= MAX_DOUBTS {
            return Err(Problem::Unavailable);
        }
        self.enqueue(now, ticket, key, wish);
        Ok(())
    }

    pub(super) fn enqueue(&mut self, now: Now, ticket: Ticket, key: SessionKey, wish: Wish) {
        if let Some(entry) = self.entries.get_mut(&key) {
            self.tickets.insert(ticket, key);
            let deadline = now.mono + ANSWER_WITHIN;
            entry.asked.push_back(Asked {
                ticket,
                wish,
                deadline,
            });
        }
        self.turn(now, key);
    }

    /// Gives the first of the commands that wait its turn.
    pub(super) fn turn(&mut self, now: Now, key: SessionKey) {
        while let Some(entry) = self.entries.get(&key)
            && entry.next.is_none()
            && let Some(asked) = entry.asked.front()
        {
            match self.decide(entry, &asked.wish) {
                Step::Answer(reply) => {
                    let Some(asked) = self.pop(key) else {
                        return;
                    };
                    if !matches!(reply, Reply::Error(_)) {
                        self.tell(key, &asked.wish);
                    }
                    self.answers.insert(asked.ticket, reply);
                }
                Step::Store(next) => {
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.next = Some(next);
                    }
                    self.claim(key);
                    // Not after the wait for which an earlier write had to be.
                    self.queue.cancel(&key);
                    self.queue.push(&key, now.mono);
                }
            }
        }
    }

    fn decide(&self, entry: &Entry, wish: &Wish) -> Step {
        let (record, change) = match (wish, &entry.record) {
            (Wish::Register(_, _, record), _) => return Step::Store(Some(Arc::clone(record))),
            (_, None) => return Step::Answer(Problem::InvalidSession.into()),
            (Wish::Shutdown, Some(_)) => return Step::Store(None),
            (Wish::Change(_), Some(_)) if entry.superseded => {
                return Step::Answer(Problem::InvalidSession.into());
            }
            (Wish::Change(change), Some(record)) => (record, change),
        };
        match self.change(record, change) {
            Err(problem) => Step::Answer(problem.into()),
            Ok(Some(changed)) => Step::Store(Some(Arc::new(changed))),
            // Another replica's write may be under way, or what it gave up. Once this
            // is written, neither can be made any more.
            Ok(None) if self.setup.shared => Step::Store(Some(Arc::clone(record))),
            Ok(None) => Step::Answer(reply(wish)),
        }
    }

    /// The session with a change made; none when it is as it is.
    fn change(
        &self,
        record: &SessionRecord,
        change: &Change,
    ) -> Result<Option<SessionRecord>, Problem> {
        if let Change::Route(route) = change {
            let service = &record.registration.instance.service;
            for place in route.places() {
                if let Some(rival) = self.table.rival(&place, service) {
                    let text = format!("{place} is served by {rival}");
                    return Err(Problem::RouteConflict(text));
                }
            }
        }
        let changed = record.with(change)?;
        Ok((changed != *record).then_some(changed))
    }

    /// The store holds what the command that has its turn wanted.
    pub(super) fn acknowledge(&mut self, now: Now, key: SessionKey, revision: Revision) {
        let at = self.patience.counted(now.mono);
        let Some(asked) = self.pop(key) else {
            return;
        };
        self.version += 1;
        match &asked.wish {
            Wish::Register(_, connection, record) => {
                self.bind(at, key, *connection);
                if let Some(open) = self.connections.get_mut(connection) {
                    open.may_register = false;
                }
                for before in &record.supersedes {
                    self.supersede(at, *before);
                }
            }
            Wish::Change(_) => {}
            Wish::Shutdown => {
                self.end_former_sessions(now, key);
                self.forget(now, key, revision);
            }
        }
        self.tell(key, &asked.wish);
        self.answers.insert(asked.ticket, reply(&asked.wish));
        self.claim(key);
        self.turn(now, key);
    }

    /// An instance ends in order: what it had before goes with it.
    fn end_former_sessions(&mut self, now: Now, key: SessionKey) {
        let is_last = self
            .entries
            .get(&key)
            .is_some_and(|entry| !entry.superseded);
        let instance = self.table.instance(key).filter(|_| is_last);
        let others = instance.map(|instance| self.table.of(instance).to_vec());
        for other in others.unwrap_or_default() {
            if other != key
                && self
                    .entries
                    .get(&other)
                    .is_some_and(|entry| entry.superseded)
            {
                self.expire(now, other);
            }
        }
    }

    /// Notes a command that was carried out for the log.
    fn tell(&mut self, key: SessionKey, wish: &Wish) {
        let Some(record) = self
            .entries
            .get(&key)
            .and_then(|entry| entry.record.as_ref())
        else {
            return;
        };
        let instance = &record.registration.instance;
        let service = instance.service.clone();
        self.events.push(match wish {
            Wish::Register(..) => Event::Registered(instance.clone(), Arc::clone(&record.front)),
            Wish::Change(Change::Route(route)) => Event::RouteAdded(service, route.clone()),
            Wish::Change(Change::Header(header)) => Event::HeaderAdded(service, header.clone()),
            Wish::Change(Change::Maintenance(is_on)) => {
                Event::Maintenance(instance.clone(), Arc::clone(&record.front), *is_on)
            }
            // The end is told where the record goes.
            Wish::Change(Change::Option(_)) | Wish::Shutdown => return,
        });
    }

    /// The command that has its turn has had it.
    fn pop(&mut self, key: SessionKey) -> Option<Asked> {
        let entry = self.entries.get_mut(&key)?;
        entry.next = None;
        let asked = entry.asked.pop_front()?;
        self.tickets.remove(&asked.ticket);
        Some(asked)
    }

    /// The command that has its turn cannot be carried out.
    pub(super) fn refuse(&mut self, now: Now, key: SessionKey) {
        if let Some(asked) = self.pop(key) {
            self.answers
                .insert(asked.ticket, Problem::Unavailable.into());
        }
        self.settle(now, key);
    }

    /// A command has waited too long: it is not carried out, and what was written
    /// for it is undone. Returns what is answered; none if that was decided
    /// before.
    #[must_use]
    pub fn give_up(&mut self, now: Now, ticket: Ticket) -> Option<Reply> {
        let Some(key) = self.tickets.remove(&ticket) else {
            return self.answers.remove(&ticket);
        };
        let entry = self.entries.get_mut(&key)?;
        let position = entry
            .asked
            .iter()
            .position(|asked| asked.ticket == ticket)?;
        entry.asked.remove(position);
        self.given_up += 1;
        if position == 0 {
            entry.next = None;
            let under_way = entry.writing.as_ref();
            let for_it = under_way.filter(|writing| writing.ticket == Some(ticket));
            if let Some(Writing { content, .. }) = for_it.cloned() {
                entry.doubt(content);
            }
            entry.stale |= !entry.doubts.is_empty();
            self.settle(now, key);
        }
        Some(Problem::Unavailable.into())
    }

    /// A command was dropped: the next has its turn, and the store is put right.
    fn settle(&mut self, now: Now, key: SessionKey) {
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        if entry.record.is_none() && !entry.attempted {
            // It was never stored.
            self.queue.cancel(&key);
            self.forget(now, key, Revision::default());
            return;
        }
        self.claim(key);
        self.turn(now, key);
        if self.entries.get(&key).is_some_and(Entry::is_due) {
            self.queue.push(&key, now.mono);
        } else {
            self.queue.cancel(&key);
        }
    }
}

/// What is answered to what was carried out.
fn reply(wish: &Wish) -> Reply {
    match wish {
        Wish::Register(id, ..) => Reply::Ack(id.clone()),
        Wish::Change(Change::Route(_)) => Reply::RouteOk,
        Wish::Change(Change::Header(_)) => Reply::HeaderOk,
        Wish::Change(Change::Option(_)) => Reply::OptionsOk,
        Wish::Change(Change::Maintenance(_)) => Reply::MaintOk,
        Wish::Shutdown => Reply::Goodbye,
    }
}
