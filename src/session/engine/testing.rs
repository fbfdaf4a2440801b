//! Replicas and a store for the stories: the store may be away, or hang and make
//! what it was asked for only later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::memory::decide;
use crate::backend::{Revision, Stored, Write, WriteError};
use crate::record::{Key, Record};
use crate::registry::ConnectionId;
use crate::session::Command;
use crate::session::engine::sync::{StoredSession, session};
use crate::session::engine::{ANSWER_WITHIN, Answer, Engine, Setup, Ticket};
use crate::session::id::SessionKey;
use crate::session::problem::Problem;
use crate::session::record::SessionRecord;
use crate::session::reply::Reply;
use crate::time::Now;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Up,
    /// It refuses connections.
    Away,
    /// It takes writes and does not answer.
    Hung,
    /// It makes writes, and the answers are lost.
    Mute,
    /// It will not take any record.
    Refusing,
}

#[derive(Debug)]
struct Store {
    records: BTreeMap<SessionKey, StoredSession>,
    revision: u64,
    log: Vec<Told>,
}

#[derive(Clone, Debug)]
enum Told {
    Put(StoredSession),
    Deleted(SessionKey, Revision),
}

impl Store {
    fn make(&mut self, write: Write) -> Result<Revision, WriteError> {
        let Key::Session(key) = write.key() else {
            panic!("{write:?} is of no session");
        };
        let current = self.records.get(&key).map(|(record, revision)| Stored {
            record: Record::Session(Arc::clone(record)),
            revision: *revision,
        });
        let next = Revision(self.revision + 1);
        if let Some(edit) = decide(current.as_ref(), write, next)? {
            let told = match edit.stored().as_ref().and_then(session) {
                Some(stored) => {
                    self.records.insert(key, stored.clone());
                    Told::Put(stored)
                }
                None => {
                    self.records.remove(&key);
                    Told::Deleted(key, next)
                }
            };
            self.log.push(told);
            self.revision = next.0;
        }
        Ok(Revision(self.revision))
    }
}

#[derive(Debug)]
struct Replica {
    engine: Engine,
    identity: Arc<str>,
    told: usize,
    lives: bool,
    /// Writes that are not answered yet.
    unanswered: Vec<SessionKey>,
}

/// One store, and replicas that serve it.
#[derive(Debug)]
pub(super) struct World {
    pub now: Now,
    pub mood: Mood,
    store: Store,
    hung: Vec<Write>,
    replicas: Vec<Replica>,
    shared: bool,
    random: u8,
    connections: u64,
    lines: Vec<String>,
}

impl World {
    /// A store of its own, and the registry on it.
    pub fn alone() -> Self {
        Self::with(1, false)
    }

    /// A store that `count` replicas share.
    pub fn shared(count: usize) -> Self {
        Self::with(count, true)
    }

    fn with(count: usize, shared: bool) -> Self {
        let mut world = Self {
            now: Now::read(),
            mood: Mood::Up,
            store: Store {
                records: BTreeMap::new(),
                revision: 0,
                log: Vec::new(),
            },
            hung: Vec::new(),
            replicas: Vec::new(),
            shared,
            random: 0,
            connections: 0,
            lines: Vec::new(),
        };
        for number in 0..count {
            world.start(&format!("replica-{number}"));
        }
        world
    }

    fn start(&mut self, identity: &str) -> usize {
        let setup = Setup {
            identity: identity.into(),
            shared: self.shared,
            grace: Setup::GRACE,
            sessions: 100,
            seed: 1,
        };
        let mut engine = Engine::new(setup, self.now);
        let all = self.store.records.values().cloned().collect();
        engine.was_reset(self.now, all, Revision(self.store.revision));
        self.replicas.push(Replica {
            engine,
            identity: identity.into(),
            told: self.store.log.len(),
            lives: true,
            unanswered: Vec::new(),
        });
        self.replicas.len() - 1
    }

    /// A replica dies, and its connections with it; or is cut off.
    pub fn kill(&mut self, replica: usize) {
        self.replicas[replica].lives = false;
    }

    /// A replica that was cut off, and taken for dead, is told everything anew.
    pub fn heal(&mut self, replica: usize) {
        self.replicas[replica].lives = true;
        self.replicas[replica].told = self.store.log.len();
        let now = self.now;
        let all = self.store.records.values().cloned().collect();
        let revision = Revision(self.store.revision);
        self.engine(replica).was_reset(now, all, revision);
    }

    /// A replica that died starts again, with the identity that it had.
    pub fn restart(&mut self, replica: usize) {
        let identity = Arc::clone(&self.replicas[replica].identity);
        let new = self.start(&identity);
        self.replicas.swap(replica, new);
        self.replicas.pop();
    }

    pub fn engine(&mut self, replica: usize) -> &mut Engine {
        &mut self.replicas[replica].engine
    }

    /// Opens a connection to a replica.
    pub fn connect(&mut self, replica: usize) -> Link {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.engine(replica).opened(connection);
        Link {
            replica,
            connection,
        }
    }

    pub fn close(&mut self, link: Link) {
        let now = self.now;
        self.engine(link.replica).closed(now, link.connection);
    }

    /// Sends a line, and waits for the reply as long as a client would.
    pub fn send(&mut self, link: Link, line: &str) -> String {
        let reply = match self.ask(link, line) {
            Answer::Now(reply) => reply,
            Answer::Later(ticket) => self.wait(link, ticket),
        };
        let events = self.engine(link.replica).take_events();
        self.lines.extend(events.iter().map(ToString::to_string));
        self.tell();
        reply.line().trim_end().to_owned()
    }

    pub fn ask(&mut self, link: Link, line: &str) -> Answer {
        self.random = self.random.wrapping_add(1);
        let (now, random) = (self.now, [self.random; 16]);
        match Command::parse(line) {
            Ok(command) => self
                .engine(link.replica)
                .ask(now, link.connection, command, random),
            Err(problem) => Answer::Now(problem.into()),
        }
    }

    fn wait(&mut self, link: Link, ticket: Ticket) -> Reply {
        let until = self.now.mono + ANSWER_WITHIN;
        loop {
            self.write(link.replica);
            let answers = self.engine(link.replica).take_answers();
            if let Some((_, reply)) = answers.into_iter().find(|(other, _)| *other == ticket) {
                return reply;
            }
            if self.now.mono >= until {
                let now = self.now;
                return self
                    .engine(link.replica)
                    .give_up(now, ticket)
                    .unwrap_or(Problem::Unavailable.into());
            }
            self.now = self.now.plus(SECOND / 2);
            let now = self.now;
            self.engine(link.replica).appear_no_more(now);
        }
    }

    /// Opens a session and returns its id.
    pub fn register(&mut self, link: Link, instance: &str) -> String {
        let reply = self.send(link, &format!("REGISTER|{instance}|0"));
        reply.strip_prefix("ACK|").expect(&reply).to_owned()
    }

    /// Makes the writes of a replica that are due.
    pub fn write(&mut self, number: usize) {
        let now = self.now;
        while let Some((key, write)) = self.engine(number).next_write(now) {
            let result = match self.mood {
                Mood::Up => self.store.make(write),
                Mood::Away => Err(WriteError::Unavailable(String::new())),
                Mood::Refusing => Err(WriteError::Refused(String::new())),
                Mood::Mute => {
                    let _lost = self.store.make(write);
                    Err(WriteError::Unavailable(String::new()))
                }
                Mood::Hung => {
                    self.hung.push(write);
                    self.replicas[number].unanswered.push(key);
                    continue;
                }
            };
            self.engine(number).written(now, key, &result);
        }
    }

    /// The store makes what it was asked for while it hung, in any case too late
    /// for those who asked: they are told that there was no answer.
    pub fn thaw(&mut self) {
        self.mood = Mood::Up;
        for number in 0..self.replicas.len() {
            let now = self.now;
            for key in std::mem::take(&mut self.replicas[number].unanswered) {
                self.engine(number)
                    .written(now, key, &Err(WriteError::Unavailable(String::new())));
            }
        }
        for write in std::mem::take(&mut self.hung) {
            let _nobody_waits = self.store.make(write);
        }
    }

    /// Whether the store answers, and has nothing left to do.
    pub fn is_well(&self) -> bool {
        self.mood == Mood::Up && self.hung.is_empty()
    }

    /// The writes that hang are answered as not made in time; they may be made yet.
    pub fn time_out(&mut self) {
        for number in 0..self.replicas.len() {
            let now = self.now;
            for key in std::mem::take(&mut self.replicas[number].unanswered) {
                self.engine(number)
                    .written(now, key, &Err(WriteError::Unavailable(String::new())));
            }
        }
    }

    /// Watches tell what they have not told yet.
    pub fn tell(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.lives) {
            for told in self.store.log.get(replica.told..).unwrap_or_default() {
                match told.clone() {
                    Told::Put((record, revision)) => {
                        replica.engine.was_put(self.now, record, revision);
                    }
                    Told::Deleted(key, revision) => {
                        replica.engine.was_deleted(self.now, key, revision);
                    }
                }
            }
            replica.told = self.store.log.len();
        }
    }

    /// Time passes, and everybody does their work.
    pub fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now = self.now.plus(SECOND);
            for number in 0..self.replicas.len() {
                if !self.replicas[number].lives {
                    continue;
                }
                let living: Vec<Arc<str>> = self
                    .replicas
                    .iter()
                    .filter(|replica| replica.lives)
                    .map(|replica| Arc::clone(&replica.identity))
                    .collect();
                let now = self.now;
                self.engine(number)
                    .sweep(now, |holder| !living.contains(holder));
                self.write(number);
                let events = self.engine(number).take_events();
                self.lines.extend(events.iter().map(ToString::to_string));
            }
            self.tell();
        }
    }

    /// What a replica serves: `place -> backend`.
    pub fn served(&mut self, replica: usize) -> Vec<String> {
        let served = self.engine(replica).served();
        let offers = served
            .iter()
            .flat_map(|(place, offers)| offers.iter().map(move |offer| (place, offer)));
        offers
            .map(|(place, offer)| format!("{place} -> {}", offer.backend))
            .collect()
    }

    /// What the store holds of a session.
    pub fn stored(&self, id: &str) -> Option<Arc<SessionRecord>> {
        let stored = self.store.records.get(&SessionKey::of(id));
        stored.map(|(record, _)| Arc::clone(record))
    }

    /// How many sessions the store holds.
    pub fn count(&self) -> usize {
        self.store.records.len()
    }

    /// How many writes the store has made.
    pub fn writes(&self) -> u64 {
        self.store.revision
    }

    /// The lines that were logged.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Somebody writes to the store by hand.
    pub fn edit(&mut self, id: &str, edit: impl FnOnce(&mut SessionRecord)) {
        let (record, revision) = self.store.records[&SessionKey::of(id)].clone();
        let mut record = (*record).clone();
        edit(&mut record);
        self.store
            .make(Write::Put(Record::Session(Arc::new(record)), revision))
            .unwrap();
    }

    /// Somebody removes a session by hand.
    pub fn remove(&mut self, id: &str) {
        let key = SessionKey::of(id);
        let (_, revision) = self.store.records[&key];
        self.store
            .make(Write::Delete(Key::Session(key), revision))
            .unwrap();
    }
}

/// A connection to a replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub replica: usize,
    pub connection: ConnectionId,
}
