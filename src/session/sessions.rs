//! The sessions, as connections and tasks call them: [`Engine`] behind a lock,
//! with a clock, and with commands that wait for the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use crate::backend::{Backend, Change, Revision, Write, WriteError};
use crate::map::{Map, Set};
use crate::record::{Key, Kind};
use crate::registry::ConnectionId;
use crate::session::engine::sync::session;
use crate::session::engine::view::{Listed, Offer, Session, State};
use crate::session::engine::{ANSWER_WITHIN, Answer, Engine, Setup, Ticket};
use crate::session::id::RANDOM_BYTES;
use crate::session::place::Place;
use crate::session::registration::ServiceName;
use crate::session::{Command, Problem, Reply, SessionKey};
use crate::time::Now;
use crate::writeback::Source;

/// A store that is written to by the caller makes a command's write, and what it
/// may have conflicted with; more is left to the writer.
const WRITES_AT_ONCE: usize = 4;

/// The proxy sessions.
#[derive(Debug)]
pub struct Sessions {
    inner: Mutex<Inner>,
    /// Told when a write may have become due.
    writes: Notify,
    /// [`Engine::version`], for those who wait for a change.
    version: watch::Sender<u64>,
    /// The store, if callers write to it themselves.
    immediate: Option<Arc<dyn Backend>>,
    random: SystemRandom,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    waiters: Map<Ticket, oneshot::Sender<Reply>>,
}

/// Figures for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many sessions are in which state.
    pub states: BTreeMap<State, usize>,
    /// Writes that wait for the store or are under way.
    pub waiting_writes: usize,
    /// Commands that the store did not take in time.
    pub given_up: u64,
    /// Events that were too many to be logged.
    pub unlogged: u64,
    /// Whether the store has been read.
    pub is_ready: bool,
}

impl Sessions {
    /// The sessions that are in `backend`, which was not read yet.
    #[must_use]
    pub fn new(setup: Setup, backend: &Arc<dyn Backend>) -> Self {
        Self {
            immediate: backend.is_immediate().then(|| Arc::clone(backend)),
            inner: Mutex::new(Inner {
                engine: Engine::new(setup, Now::read()),
                waiters: Map::default(),
            }),
            writes: Notify::new(),
            version: watch::Sender::new(0),
            random: SystemRandom::new(),
        }
    }

    /// A connection was opened.
    pub fn opened(&self, connection: ConnectionId) {
        self.inner.lock().engine.opened(connection);
    }

    /// A connection has ended: its sessions have their grace from now on. Not to
    /// be told of those that end because the registry stops.
    pub fn closed(&self, connection: ConnectionId) {
        let mut inner = self.inner.lock();
        inner.engine.closed(Now::read(), connection);
        self.finish(inner);
    }

    /// Whether a connection keeps a session alive.
    #[must_use]
    pub fn holds_a_session(&self, connection: ConnectionId) -> bool {
        self.inner.lock().engine.holds_a_session(connection)
    }

    /// Whether it is this connection that keeps a session alive.
    #[must_use]
    pub fn keeps(&self, connection: ConnectionId, key: SessionKey) -> bool {
        self.inner.lock().engine.keeps(connection, key)
    }

    /// The service of a session that is known.
    #[must_use]
    pub fn service(&self, key: SessionKey) -> Option<ServiceName> {
        self.inner.lock().engine.service(key).cloned()
    }

    /// Carries a command out, or says why not. Takes at most [`ANSWER_WITHIN`],
    /// whatever the store does; what is not carried out by then is undone. The
    /// caller may go away meanwhile.
    pub async fn ask(&self, connection: ConnectionId, command: Command) -> Reply {
        let Some(random) = self.random(&command) else {
            return Problem::Unavailable.into();
        };
        let (ticket, mut receiver) = {
            let mut inner = self.inner.lock();
            let now = Now::read();
            let ticket = match inner.engine.ask(now, connection, command, random) {
                Answer::Later(ticket) => ticket,
                Answer::Now(reply) => {
                    self.finish(inner);
                    return reply;
                }
            };
            let (sender, receiver) = oneshot::channel();
            inner.waiters.insert(ticket, sender);
            self.write_now(&mut inner, now);
            self.finish(inner);
            (ticket, receiver)
        };
        self.writes.notify_one();
        match timeout(ANSWER_WITHIN, &mut receiver).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Problem::Unavailable.into(),
            Err(_) => {
                let mut inner = self.inner.lock();
                let given_up = inner.engine.give_up(Now::read(), ticket);
                inner.waiters.remove(&ticket);
                self.finish(inner);
                self.writes.notify_one();
                // It was decided at the last moment.
                let decided = || receiver.try_recv().ok();
                given_up
                    .or_else(decided)
                    .unwrap_or_else(|| Problem::Unavailable.into())
            }
        }
    }

    /// For the id of a session, where one is made.
    fn random(&self, command: &Command) -> Option<[u8; RANDOM_BYTES]> {
        let mut random = [0; RANDOM_BYTES];
        if matches!(command, Command::Register(_)) && self.random.fill(&mut random).is_err() {
            tracing::error!(
                "the system gives no random bytes, so no session can be opened; see getrandom(2)"
            );
            return None;
        }
        Some(random)
    }

    /// Makes what is due, if the store does not have to be waited for.
    fn write_now(&self, inner: &mut Inner, now: Now) {
        let Some(store) = &self.immediate else {
            return;
        };
        for _ in 0..WRITES_AT_ONCE {
            let Some((key, write)) = inner.engine.next_write(now) else {
                return;
            };
            let result = store
                .write(write)
                .now_or_never()
                .unwrap_or_else(|| Err(WriteError::Unavailable("it was not made at once".into())));
            inner.engine.written(now, key, &result);
        }
    }

    /// Logs what has happened, then tells those who wait.
    fn finish(&self, mut inner: MutexGuard<'_, Inner>) {
        let answers = inner.engine.take_answers();
        // One who went away does not wait.
        let answers: Vec<_> = answers
            .into_iter()
            .filter_map(|(ticket, reply)| Some((inner.waiters.remove(&ticket)?, reply)))
            .collect();
        let events = inner.engine.take_events();
        let version = inner.engine.version();
        drop(inner);
        for event in events {
            tracing::info!("{event}");
        }
        for (waiter, reply) in answers {
            // The same.
            let _gone = waiter.send(reply);
        }
        self.version.send_if_modified(|known| {
            let is_news = *known < version;
            *known = version.max(*known);
            is_news
        });
    }

    /// The store's watch tells changes, in order. Those of others than sessions
    /// are passed over.
    pub fn apply(&self, changes: &[Change]) {
        let mut inner = None;
        for change in changes {
            let of = match change {
                Change::Reset(kind, ..) => *kind,
                Change::Put(stored) => stored.record.kind(),
                Change::Delete(key, _) => key.kind(),
            };
            if of != Kind::Session {
                continue;
            }
            let engine = &mut inner.get_or_insert_with(|| self.inner.lock()).engine;
            let now = Now::read();
            match change {
                Change::Reset(_, all, revision) => {
                    let all = all.iter().filter_map(session).collect();
                    engine.was_reset(now, all, *revision);
                }
                Change::Put(stored) => {
                    if let Some((record, revision)) = session(stored) {
                        engine.was_put(now, record, revision);
                    }
                }
                Change::Delete(Key::Session(key), revision) => {
                    engine.was_deleted(now, *key, *revision);
                }
                Change::Delete(..) => {}
            }
        }
        if let Some(inner) = inner {
            self.finish(inner);
            self.writes.notify_one();
        }
    }

    /// Who, of other replicas, keeps sessions.
    #[must_use]
    pub fn holders(&self) -> Set<Arc<str>> {
        self.inner.lock().engine.holders()
    }

    /// Looks at every session; to be called every second. `run_out` are those of
    /// [`Sessions::holders`] that have certainly ceased to keep their connections.
    pub fn sweep(&self, run_out: &Set<Arc<str>>) {
        let mut inner = self.inner.lock();
        let now = Now::read();
        inner.engine.sweep(now, |holder| run_out.contains(holder));
        self.finish(inner);
        self.writes.notify_one();
    }

    /// Whether the store has been read; every command is refused before.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.lock().engine.is_ready()
    }

    /// All sessions, in no order.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.inner.lock().engine.sessions().collect()
    }

    /// All sessions, in no order; none before the store was read, when nobody
    /// knows yet. What is locked for that is locked once, for as long as a
    /// pointer for each takes.
    #[must_use]
    pub fn list(&self) -> Option<Vec<Listed>> {
        let engine = &mut self.inner.lock().engine;
        engine.is_ready().then(|| engine.list(Now::read()))
    }

    /// Who serves which place, as [`Engine::served`] tells it, and the version
    /// that this is.
    #[must_use]
    pub fn served(&self) -> (u64, BTreeMap<Place, Vec<Offer>>) {
        let inner = self.inner.lock();
        (inner.engine.version(), inner.engine.served())
    }

    /// Changes whenever [`Sessions::sessions`] or [`Sessions::served`] may have.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.inner.lock().engine.version()
    }

    /// [`Sessions::version`], for waiting until it changes.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Figures for the metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let inner = self.inner.lock();
        let mut states = BTreeMap::new();
        for session in inner.engine.sessions() {
            *states.entry(session.state).or_default() += 1;
        }
        Figures {
            states,
            waiting_writes: inner.engine.waiting_writes(),
            given_up: inner.engine.given_up(),
            unlogged: inner.engine.unlogged(),
            is_ready: inner.engine.is_ready(),
        }
    }
}

impl Source for Sessions {
    type Made = SessionKey;

    // No command of the session waits longer, and the next is not to wait for it.
    const WRITE_TIMEOUT: Duration = ANSWER_WITHIN;

    fn take_writes(&self, max: usize) -> Vec<(SessionKey, Write)> {
        let mut inner = self.inner.lock();
        let now = Now::read();
        let writes = std::iter::from_fn(|| inner.engine.next_write(now))
            .take(max)
            .collect();
        self.finish(inner);
        writes
    }

    fn written(&self, ended: &[(SessionKey, Result<Revision, WriteError>)]) {
        let mut inner = self.inner.lock();
        let now = Now::read();
        for (key, result) in ended {
            inner.engine.written(now, *key, result);
        }
        self.finish(inner);
    }

    async fn write_wanted(&self) {
        self.writes.notified().await;
    }

    fn next_write_due(&self) -> Option<Instant> {
        self.inner.lock().engine.next_write_due()
    }

    fn waiting_writes(&self) -> usize {
        self.inner.lock().engine.waiting_writes()
    }
}

#[cfg(test)]
mod tests;
