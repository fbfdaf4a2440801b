//! The registry: what every way in calls, whatever the store is.

pub mod call;
#[cfg(test)]
pub(crate) mod cluster;
pub mod core;
pub mod doubt;
pub mod events;
mod holding;
pub mod lives;
pub mod order;
pub mod patience;
pub mod presence;
pub mod queue;
pub mod refresh;
pub mod restore;
#[cfg(test)]
mod rules;
pub mod sweep;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub mod view;
pub mod vouch;
#[cfg(test)]
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use crate::backend::{Backend, Change, Revision, Stored, Write, WriteError, endpoint_keys};
use crate::listing::{Filter, Listing, Row};
use crate::map::{Map, Set};
use crate::pods::PodChange;
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Kind, Name};
pub use crate::registry::call::{Caller, ClosedBy, ConnectionId, Kept, Limits, Refusal};
use crate::registry::core::{Core, Registered, Setup};
use crate::registry::events::Event;
use crate::registry::sync::Made;
use crate::registry::view::Figures;
use crate::time::Now;
use crate::writeback::Source;

/// Endpoints that are listed or compared before the lock is given to others.
const KEYS_AT_ONCE: usize = 512;

/// The registry: [`Core`] behind a lock, with a clock, and with callers who wait
/// until the store has what they registered.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    /// Told when a write may have become due.
    writes: Notify,
    /// Told when the own lease may have to be written.
    vouch: Notify,
    /// Whether the store has been read.
    read: watch::Sender<bool>,
    /// How long a caller waits for the store.
    wait: Duration,
    /// The store, if callers write to it themselves.
    immediate: Option<Arc<dyn Backend>>,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    waiters: Map<EndpointKey, Vec<oneshot::Sender<()>>>,
    /// Why the last write that failed did.
    failure: Option<String>,
}

impl Registry {
    /// A registry of what is in `backend`, which it has not read yet. `wait`
    /// bounds how long a caller waits for the store.
    #[must_use]
    pub fn new(setup: Setup, backend: &Arc<dyn Backend>, wait: Duration) -> Self {
        Self {
            immediate: backend.is_immediate().then(|| Arc::clone(backend)),
            inner: Mutex::new(Inner {
                core: Core::new(setup, Now::read()),
                waiters: Map::default(),
                failure: None,
            }),
            writes: Notify::new(),
            vouch: Notify::new(),
            read: watch::Sender::new(false),
            wait,
        }
    }

    /// Registers an endpoint, or renews it when it is known as it is. Waits a
    /// bounded time for the store; the write goes on regardless, also when the
    /// caller goes away.
    ///
    /// # Errors
    /// When a limit is reached.
    pub async fn register(&self, caller: &Caller, endpoint: Endpoint) -> Result<Kept, Refusal> {
        let key = endpoint.key.clone();
        let stored = {
            let mut inner = self.inner.lock();
            match inner.core.register(Now::read(), caller, endpoint)? {
                Registered::Known | Registered::Absorbed => return Ok(Kept::Stored),
                Registered::Queued if self.stores_now(&mut inner, &key) => return Ok(Kept::Stored),
                Registered::Queued => inner.wait_for(key),
            }
        };
        Ok(self.stored(stored).await)
    }

    /// Notes that an endpoint lives. Answers from memory, whatever the store does.
    pub fn renew(&self, caller: &Caller, key: &EndpointKey) {
        let mut inner = self.inner.lock();
        let before = inner.core.queue.len();
        let had_news = inner.core.vouch.has_news();
        inner.core.renew(Now::read(), caller, key);
        // Rare: a renewal brings back what was released or had gone.
        if inner.core.queue.len() != before {
            self.writes.notify_one();
        }
        if inner.core.vouch.has_news() && !had_news {
            self.vouch.notify_one();
        }
    }

    /// Withdraws an endpoint: it is not offered from now on. Waits like
    /// [`Registry::register`] for the store.
    pub async fn deregister(&self, caller: &Caller, key: &EndpointKey) -> Kept {
        let stored = {
            let mut inner = self.inner.lock();
            let queued = inner.core.deregister(Now::read(), caller, key);
            if !queued {
                // What was never stored need not be; a Register may wait for it.
                inner.tell(key);
            }
            if !queued || self.stores_now(&mut inner, key) {
                return Kept::Stored;
            }
            inner.wait_for(key.clone())
        };
        self.stored(stored).await
    }

    /// Makes a write that was just queued, if the store does not have to be
    /// waited for. Returns whether that was so.
    fn stores_now(&self, inner: &mut Inner, key: &EndpointKey) -> bool {
        let Some(store) = &self.immediate else {
            return false;
        };
        let now = Now::read();
        // One write stores it; one more, what it conflicted with.
        for _ in 0..2 {
            let Some((made, write)) = inner.core.next_write(now) else {
                break;
            };
            let result = store
                .write(write)
                .now_or_never()
                .unwrap_or_else(|| Err(WriteError::Unavailable("it was not made at once".into())));
            inner.ended(now, &made, &result);
        }
        inner.tell_settled();
        !inner.core.queue.contains(key)
    }

    async fn stored(&self, stored: oneshot::Receiver<()>) -> Kept {
        self.writes.notify_one();
        match tokio::time::timeout(self.wait, stored).await {
            Ok(Ok(())) => Kept::Stored,
            Ok(Err(_)) | Err(_) => Kept::Pending,
        }
    }

    /// Who holds a tunnel, in the order of routing. Does no I/O.
    ///
    /// # Errors
    /// [`Refusal::NotReady`] before the store was read: an empty answer would be a lie.
    pub fn get(&self, caller: &Caller, tunnel: &Name) -> Result<Vec<Arc<EndpointRecord>>, Refusal> {
        self.inner.lock().core.get(Now::read(), caller, tunnel)
    }

    /// A connection has ended.
    pub fn closed(&self, connection: ConnectionId, by: ClosedBy) {
        self.inner.lock().core.closed(connection, by);
        // Those that became suspect are told.
        self.vouch.notify_one();
    }

    /// When this replica's own lease is to be written; none when its store is its
    /// own.
    #[must_use]
    pub fn vouch_due(&self) -> Option<Instant> {
        self.inner.lock().core.vouch_due(Now::read())
    }

    /// This replica's own lease, to be written now; `stopped` gives it up.
    #[must_use]
    pub fn vouch(&self, stopped: bool) -> Option<Write> {
        self.inner.lock().core.vouch(Now::read(), stopped)
    }

    /// The write of the own lease has ended.
    pub fn vouched(&self, result: &Result<Revision, WriteError>) {
        self.inner.lock().core.vouched(Now::read(), result);
    }

    /// Waits until the own lease may have to be written sooner.
    pub async fn vouch_wanted(&self) {
        self.vouch.notified().await;
    }

    /// The watch of pods tells a change.
    pub fn apply_pods(&self, change: PodChange) {
        self.inner.lock().core.apply_pods(Now::read(), change);
    }

    /// Waits until the store has been read.
    pub async fn ready(&self) {
        // It never goes back, and the sender lives as long as this.
        let mut read = self.read.subscribe();
        let _read = read.wait_for(|read| *read).await;
    }

    /// The store's watch tells changes, in order.
    pub fn apply(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Reset(Kind::Endpoint, all, revision) => self.reset(all, revision),
                change => self.inner.lock().core.apply(Now::read(), change),
            }
        }
        self.read.send_replace(self.inner.lock().core.is_ready());
        // A change may have shown that something is to be written.
        self.writes.notify_one();
        self.vouch.notify_one();
    }

    /// Applies a whole store a few endpoints at a time: callers go on in between.
    fn reset(&self, all: Vec<Stored>, revision: Revision) {
        let present = endpoint_keys(&all);
        let mut all = all.into_iter().peekable();
        while all.peek().is_some() {
            let mut inner = self.inner.lock();
            let now = Now::read();
            for stored in all.by_ref().take(KEYS_AT_ONCE) {
                inner.core.was_put(now, stored);
            }
        }
        for from in (0..self.positions()).step_by(KEYS_AT_ONCE) {
            let mut inner = self.inner.lock();
            inner
                .core
                .are_gone(Now::read(), &present, revision, from, KEYS_AT_ONCE);
        }
        self.inner.lock().core.was_reset(Kind::Endpoint, revision);
    }

    /// Looks at the endpoints at positions `from..from + count`; returns whether
    /// there are more behind them.
    #[must_use]
    pub fn sweep(&self, from: usize, count: usize) -> bool {
        let mut inner = self.inner.lock();
        let before = inner.core.queue.len();
        inner.core.sweep(Now::read(), from, count);
        if inner.core.queue.len() != before {
            self.writes.notify_one();
        }
        from + count < inner.core.index.positions()
    }

    /// The positions that [`Registry::sweep`] takes lie below this.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.inner.lock().core.index.positions()
    }

    /// Takes the events that wait to be logged.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        self.inner.lock().core.events.take()
    }

    /// Figures for the metrics and for readiness.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.inner.lock().core.figures(Now::read())
    }

    /// Why the store takes no writes, if so.
    #[must_use]
    pub fn unwritten(&self) -> Option<String> {
        let inner = self.inner.lock();
        let is_away = inner.core.queue.store_is_away();
        inner.failure.clone().filter(|_| is_away)
    }

    /// Why this replica's own lease was not renewed at the last attempt, if so,
    /// and for how long it was not.
    #[must_use]
    pub fn unvouched(&self) -> Option<(Duration, String)> {
        let inner = self.inner.lock();
        let unvouched = inner.core.unvouched(Now::read());
        unvouched.map(|(time, why)| (time, why.to_owned()))
    }

    /// Those of `holders` that certainly maintain nothing now: replicas whose
    /// leases were given up or have run out. One that has none, and of which
    /// nothing was heard before, has the time to appear that begins now.
    #[must_use]
    pub fn run_out(&self, mut holders: Set<Arc<str>>) -> Set<Arc<str>> {
        if !holders.is_empty() {
            let replicas = &mut self.inner.lock().core.replicas;
            holders.iter().for_each(|holder| replicas.expect(holder));
            holders.retain(|holder| replicas.has_run_out(holder));
        }
        holders
    }

    /// How many nodes have endpoints.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.inner.lock().core.presence.len()
    }

    /// How many endpoints a node has.
    #[must_use]
    pub fn endpoints_of(&self, node: &Name) -> usize {
        self.inner.lock().core.presence.endpoints(node)
    }
}

impl Source for Registry {
    type Made = Made;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

    fn take_writes(&self, max: usize) -> Vec<(Made, Write)> {
        let mut inner = self.inner.lock();
        let now = Now::read();
        let writes = std::iter::from_fn(|| inner.core.next_write(now))
            .take(max)
            .collect();
        inner.tell_settled();
        writes
    }

    fn written(&self, ended: &[(Made, Result<Revision, WriteError>)]) {
        let mut inner = self.inner.lock();
        let now = Now::read();
        for (made, result) in ended {
            inner.ended(now, made, result);
        }
    }

    async fn write_wanted(&self) {
        self.writes.notified().await;
    }

    fn next_write_due(&self) -> Option<Instant> {
        self.inner.lock().core.queue.next_due()
    }

    fn waiting_writes(&self) -> usize {
        self.inner.lock().core.queue.len()
    }
}

impl Listing for Registry {
    fn keys(&self, filter: &Filter) -> Vec<EndpointKey> {
        let mut keys = Vec::new();
        for from in (0..self.positions()).step_by(KEYS_AT_ONCE) {
            keys.extend(self.inner.lock().core.keys(from, KEYS_AT_ONCE, filter));
        }
        keys.sort_unstable();
        // One that moved between two looks was met twice.
        keys.dedup();
        keys
    }

    fn rows(&self, keys: &[EndpointKey]) -> Vec<Row> {
        let mut inner = self.inner.lock();
        let now = Now::read();
        keys.iter()
            .filter_map(|key| inner.core.row(now, key))
            .collect()
    }
}

impl Inner {
    fn wait_for(&mut self, key: EndpointKey) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiters = self.waiters.entry(key).or_default();
        // Those who gave up would pile up while the store is away.
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(sender);
        receiver
    }

    fn ended(&mut self, now: Now, made: &Made, result: &Result<Revision, WriteError>) {
        if let Err(WriteError::Unavailable(why)) = result {
            self.failure = Some(why.clone());
        }
        if self.core.written(now, made, result) {
            self.tell(&made.key);
        }
    }

    /// Tells those whose writes have become needless.
    fn tell_settled(&mut self) {
        for key in std::mem::take(&mut self.core.settled) {
            self.tell(&key);
        }
    }

    fn tell(&mut self, key: &EndpointKey) {
        for waiter in self.waiters.remove(key).into_iter().flatten() {
            // One who gave up meanwhile does not mind.
            let _gone = waiter.send(());
        }
    }
}
