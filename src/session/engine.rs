//! All that becomes of sessions, as plain functions that take `now`.
//!
//! Commands, the ends of connections and the store's changes come in; replies and
//! the writes that are to be made go out. What a session *is* (`Entry::record`)
//! is what its clients were told: a change that the store has not taken is none.
//!
//! - [`turns`]: commands that change a session have their turn one by one, each
//!   one write; one that waits too long is given up, and what its write may have
//!   left in the store is undone (`Entry::doubts`).
//! - [`asking`]: what each command comes to.
//! - `expected`: commands for sessions that another replica may have taken just now.
//! - [`sync`]: which write is next, what its end means, what a watch tells.
//! - [`upkeep`]: who is silent, what goes, which leases are to be written.
//! - [`view`]: what is served.

pub mod asking;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod decisions;
mod expected;
pub mod sync;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod upkeep;
pub mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::backend::Revision;
use crate::map::Map;
use crate::registry::ConnectionId;
use crate::registry::patience::Patience;
use crate::registry::queue::Queue;
use crate::remembered::Remembered;
use crate::session::events::{Event, Events};
use crate::session::id::SessionKey;
use crate::session::record::SessionRecord;
use crate::session::reply::Reply;
use crate::session::table::Table;
use crate::time::Now;

use expected::Expected;
use turns::Asked;

/// How long a command may take; some clients give up a second later.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// The most commands that wait for their turn at one session.
pub const MAX_ASKED: usize = 32;
/// The most different states of one session that a store which does not answer
/// may be left with; until it answers no more is tried.
pub const MAX_DOUBTS: usize = 8;
/// So long, and of so many, it is remembered that they are gone: a store that
/// hung may make an old write only now.
const REMEMBER_GONE: Duration = Duration::from_secs(600);
const MAX_REMEMBERED: usize = 100_000;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who this replica is, as the holder of leases. Must outlive a restart.
    pub identity: Arc<str>,
    /// Whether other replicas write to the same store.
    pub shared: bool,
    /// How long a session stays without a connection.
    pub grace: Duration,
    /// The most sessions.
    pub sessions: usize,
    /// For spreading retries.
    pub seed: u64,
}

impl Setup {
    /// The grace that the protocol promises.
    pub const GRACE: Duration = Duration::from_secs(60);
    /// Far more than a proxy's host has.
    pub const SESSIONS: usize = 50_000;
}

/// A command that waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, at once.
    Now(Reply),
    /// What [`Engine::take_answers`] or, after [`ANSWER_WITHIN`],
    /// [`Engine::give_up`] says for this ticket.
    Later(Ticket),
}

/// A session that is known.
#[derive(Debug, Default)]
struct Entry {
    /// As its clients were told, with the lease that the store holds; none when
    /// there should be no such session.
    record: Option<Arc<SessionRecord>>,
    /// At which revision the store is known to hold it.
    revision: Option<Revision>,
    /// Whether the store may hold something else.
    stale: bool,
    /// Whether a write of it was ever handed out.
    attempted: bool,
    /// The write that is under way.
    writing: Option<Writing>,
    /// What writes that were not answered may have left in the store.
    doubts: Vec<Option<Arc<SessionRecord>>>,
    /// The commands that change it, in order; the first has its turn.
    asked: VecDeque<Asked>,
    /// What the first of them makes of the session.
    next: Option<Option<Arc<SessionRecord>>>,
    /// The connection that keeps it alive.
    connection: Option<ConnectionId>,
    /// Whether the store is to be told that it is kept here, whoever else says so.
    hold_due: bool,
    /// Since when nobody keeps it alive, in counted time.
    silent: Option<Instant>,
    /// Whether its instance has opened another one.
    superseded: bool,
}

/// A write that is under way.
#[derive(Clone, Debug)]
struct Writing {
    /// For which command, if for one.
    ticket: Option<Ticket>,
    /// What is to be stored; nothing, if it is to be removed.
    content: Option<Arc<SessionRecord>>,
}

/// The next moment that a store can tell apart.
fn later(time: Timestamp) -> Timestamp {
    time.checked_add(Duration::from_micros(1)).unwrap_or(time)
}

/// A connection that is open.
#[derive(Debug, Default)]
struct Connection {
    sessions: Vec<SessionKey>,
    /// Whether it was told to register, though it may hold a session.
    may_register: bool,
}

/// The sessions.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    entries: Map<SessionKey, Entry>,
    table: Table,
    connections: Map<ConnectionId, Connection>,
    tickets: Map<Ticket, SessionKey>,
    last_ticket: u64,
    answers: BTreeMap<Ticket, Reply>,
    queue: Queue<SessionKey>,
    /// Sessions that are gone, and at which revision.
    gone: Remembered<SessionKey, Revision>,
    expected: Expected,
    patience: Patience,
    events: Events,
    is_ready: bool,
    version: u64,
    given_up: u64,
}

impl Engine {
    /// An engine that has not read its store yet.
    #[must_use]
    pub fn new(setup: Setup, now: Now) -> Self {
        Self {
            queue: Queue::new(fastrand::Rng::with_seed(setup.seed)),
            setup,
            entries: Map::default(),
            table: Table::default(),
            connections: Map::default(),
            tickets: Map::default(),
            last_ticket: 0,
            answers: BTreeMap::new(),
            gone: Remembered::new(REMEMBER_GONE, MAX_REMEMBERED),
            expected: Expected::default(),
            patience: Patience::new(now.mono),
            events: Events::default(),
            is_ready: false,
            version: 0,
            given_up: 0,
        }
    }

    /// A connection was opened.
    pub fn opened(&mut self, connection: ConnectionId) {
        self.connections.entry(connection).or_default();
    }

    /// A connection has ended, or is no longer read from. The sessions that it
    /// kept alive have their grace from now on. Do not tell of the connections
    /// that the registry itself closes because it stops: their sessions go on.
    pub fn closed(&mut self, now: Now, connection: ConnectionId) {
        let at = self.patience.counted(now.mono);
        let Some(connection) = self.connections.remove(&connection) else {
            return;
        };
        for key in connection.sessions {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.connection = None;
                entry.silent = Some(at);
                self.version += 1;
                if let Some(record) = &entry.record {
                    let instance = record.registration.instance.clone();
                    let (front, grace) = (Arc::clone(&record.front), self.setup.grace);
                    self.events.push(Event::Lost(instance, front, grace));
                }
            }
        }
    }

    /// Whether a connection keeps a session alive: then its silence is no reason
    /// to close it.
    #[must_use]
    pub fn holds_a_session(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| !connection.sessions.is_empty())
    }

    /// Whether it is this connection that keeps a session alive.
    #[must_use]
    pub fn keeps(&self, connection: ConnectionId, key: SessionKey) -> bool {
        let entry = self.entries.get(&key);
        entry.is_some_and(|entry| entry.connection == Some(connection))
    }

    /// The record of a session that was not superseded.
    fn live(&self, key: SessionKey) -> Option<&Arc<SessionRecord>> {
        let entry = self.entries.get(&key)?;
        entry.record.as_ref().filter(|_| !entry.superseded)
    }

    /// A session is kept alive by this connection, and by no other.
    fn bind(&mut self, at: Instant, key: SessionKey, connection: ConnectionId) {
        self.unbind(key, at);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        self.version += 1;
        // It may have ended while the session was stored.
        let Some(open) = self.connections.get_mut(&connection) else {
            return;
        };
        open.sessions.push(key);
        entry.connection = Some(connection);
        entry.silent = None;
    }

    /// A session is not kept alive by a connection to here any more.
    fn unbind(&mut self, key: SessionKey, at: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.hold_due = false;
        entry.silent = entry.silent.or(Some(at));
        if let Some(open) = entry
            .connection
            .take()
            .and_then(|connection| self.connections.get_mut(&connection))
        {
            open.sessions.retain(|other| *other != key);
        }
    }

    /// An instance has opened another session than this one.
    fn supersede(&mut self, at: Instant, key: SessionKey) {
        self.unbind(key, at);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut entry.superseded, true) {
            return;
        }
        self.version += 1;
        if let Some(record) = &entry.record {
            let instance = record.registration.instance.clone();
            let event = Event::Superseded(instance, Arc::clone(&record.front));
            self.events.push(event);
        }
    }

    /// Takes what was decided for commands that waited.
    #[must_use]
    pub fn take_answers(&mut self) -> Vec<(Ticket, Reply)> {
        std::mem::take(&mut self.answers).into_iter().collect()
    }

    /// Takes the events that wait to be logged.
    #[must_use]
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// Whether the store has been read. Before that every command is answered
    /// [`Unavailable`](crate::session::Problem::Unavailable).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }
}
