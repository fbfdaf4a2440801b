//! The services, as requests and tasks call them: [`Engine`] behind a lock, with a
//! clock, with requests that wait for the store, and with those who are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep_until, timeout};

use crate::backend::{Backend, Change, Revision, Write, WriteError};
use crate::discoverd::engine::view::Summary;
use crate::discoverd::engine::{ANSWER_WITHIN, Answer, Engine, Outcome, Request, Setup, Ticket};
use crate::discoverd::event::{Audience, Event, What};
use crate::discoverd::hub::{Hub, Subscription};
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{InstanceRecord, ServiceMeta};
use crate::discoverd::tunnels::{Tunnel, Tunnels};
use crate::map::{Map, Set};
use crate::record::{Key, Kind, Name};
use crate::time::Now;
use crate::writeback::Source;

/// A store that is written to by the caller makes at most so many writes for one
/// request; more is left to the writer.
const WRITES_AT_ONCE: usize = 4;
/// The most subscribers.
pub const SUBSCRIBERS: usize = 10_000;

/// The services.
#[derive(Debug)]
pub struct Services {
    inner: Mutex<Inner>,
    /// Told when a write may have become due.
    writes: Notify,
    /// Told when events are held back, to be told together with others.
    held_back: Notify,
    /// The store, if callers write to it themselves.
    immediate: Option<Arc<dyn Backend>>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    hub: Hub,
    /// Tunnels that somebody follows, as they were told.
    tunnels: Map<ServiceName, Tunnel>,
    waiters: Map<Ticket, oneshot::Sender<Outcome>>,
}

/// Figures for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Services that are there.
    pub services: usize,
    /// Their instances, and those that are asked for.
    pub instances: usize,
    /// Those that subscribe.
    pub subscribers: usize,
    /// Subscribers that were ended because they did not read.
    pub ended: u64,
    /// Events that were told.
    pub events: u64,
    /// Writes that wait for the store or are under way.
    pub waiting_writes: usize,
    /// Requests that the store did not take in time.
    pub given_up: u64,
}

impl Inner {
    /// The instances of a tunnel; of none where a service has its name. Tells what
    /// has changed.
    fn look(
        &mut self,
        name: &ServiceName,
        tunnels: &dyn Tunnels,
    ) -> Result<Vec<Arc<InstanceRecord>>, Problem> {
        let endpoints = match Name::parse(name.as_str()) {
            Ok(tunnel) if !self.engine.has(name) => tunnels.of(&tunnel).ok_or(Problem::NotReady)?,
            _ => Vec::new(),
        };
        let tunnel = self.tunnels.entry(name.clone()).or_default();
        for what in tunnel.is(name, endpoints) {
            self.hub.tell(&Event {
                service: name.clone(),
                of_tunnel: true,
                what,
            });
        }
        Ok(tunnel.instances().cloned().collect())
    }

    /// Forgets what was told of tunnels that nobody follows any more.
    fn forget_unfollowed(&mut self) {
        let followed: Set<&ServiceName> = self.hub.with_tunnels().collect();
        self.tunnels.retain(|name, _| followed.contains(name));
    }

    /// Hands what has happened to the hub, in its order.
    fn tell(&mut self) {
        for event in self.engine.take_events() {
            self.hub.tell(&event);
        }
    }

    /// Answers the requests that were decided.
    fn answer(&mut self) {
        for (ticket, outcome) in self.engine.take_answers() {
            if let Some(waiter) = self.waiters.remove(&ticket) {
                // One who went away does not wait.
                let _gone = waiter.send(outcome);
            }
        }
    }
}

impl Services {
    /// The services that are in `backend`, which was not read yet, with at most
    /// `subscribers`.
    #[must_use]
    pub fn new(setup: Setup, subscribers: usize, backend: &Arc<dyn Backend>) -> Self {
        Self {
            immediate: backend.is_immediate().then(|| Arc::clone(backend)),
            inner: Mutex::new(Inner {
                engine: Engine::new(setup, Now::read()),
                hub: Hub::new(subscribers),
                tunnels: Map::default(),
                waiters: Map::default(),
            }),
            writes: Notify::new(),
            held_back: Notify::new(),
        }
    }

    /// Carries a request out, or says why not. Takes at most [`ANSWER_WITHIN`],
    /// whatever the store does. The caller may go away meanwhile.
    ///
    /// # Errors
    /// When it was not carried out, or nobody knows.
    pub async fn ask(&self, request: Request) -> Outcome {
        let (ticket, mut receiver) = {
            let mut inner = self.inner.lock();
            let now = Now::read();
            let ticket = match inner.engine.ask(now, request) {
                Answer::Now(outcome) => {
                    self.finish(inner);
                    return outcome;
                }
                Answer::Later(ticket) => ticket,
            };
            let (sender, receiver) = oneshot::channel();
            inner.waiters.insert(ticket, sender);
            self.write_now(&mut inner, now);
            self.finish(inner);
            (ticket, receiver)
        };
        match timeout(ANSWER_WITHIN, &mut receiver).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Problem::Unavailable),
            Err(_) => {
                let mut inner = self.inner.lock();
                let given_up = inner.engine.give_up(ticket);
                inner.waiters.remove(&ticket);
                self.finish(inner);
                // It was decided at the last moment.
                let decided = || receiver.try_recv().ok();
                given_up
                    .or_else(decided)
                    .unwrap_or(Err(Problem::Unavailable))
            }
        }
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
            inner.engine.written(now, &key, &result);
        }
    }

    /// Tells subscribers what has happened, then those who wait. Under the lock,
    /// so that events are told in their order.
    fn finish(&self, mut inner: MutexGuard<'_, Inner>) {
        let inner = &mut *inner;
        inner.tell();
        if inner.hub.flush(Now::read().mono).is_some() {
            self.held_back.notify_one();
        }
        inner.answer();
        if inner.engine.waiting_writes() > 0 {
            self.writes.notify_one();
        }
    }

    /// The store's watch tells changes, in order. Those of other kinds are passed
    /// over.
    pub fn apply(&self, changes: &[Change]) {
        let mut inner = None;
        for change in changes {
            let of = match change {
                Change::Reset(kind, ..) => *kind,
                Change::Put(stored) => stored.record.kind(),
                Change::Delete(key, _) => key.kind(),
            };
            if matches!(of, Kind::Service | Kind::Instance) {
                let engine = &mut inner.get_or_insert_with(|| self.inner.lock()).engine;
                engine.apply(Now::read(), change);
            }
        }
        if let Some(inner) = inner {
            self.finish(inner);
        }
    }

    /// Subscribes to a service, or to a tunnel, whether or not there is one of that
    /// name.
    ///
    /// # Errors
    /// When the store was not read yet, or there are too many subscribers.
    pub fn subscribe(
        &self,
        name: &ServiceName,
        audience: Audience,
        tunnels: &dyn Tunnels,
    ) -> Result<Subscription, Problem> {
        let mut inner = self.inner.lock();
        inner.tell();
        let of_tunnel = match audience.tunnels {
            true => inner.look(name, tunnels)?,
            false => Vec::new(),
        };
        let Inner { engine, hub, .. } = &mut *inner;
        hub.subscribe(name, audience, || {
            let of_tunnel = of_tunnel.into_iter().map(|record| Event {
                service: name.clone(),
                of_tunnel: true,
                what: What::Up(record),
            });
            let of_tunnel = of_tunnel.filter(|event| audience.includes(event));
            let present = engine.present(name, audience.wanted)?;
            Ok(of_tunnel.chain(present).collect())
        })
    }

    /// The instances of a tunnel, in the order in which they were met.
    ///
    /// # Errors
    /// When it has none, or nobody knows yet.
    pub fn tunnel(
        &self,
        name: &ServiceName,
        tunnels: &dyn Tunnels,
    ) -> Result<Vec<Arc<InstanceRecord>>, Problem> {
        let mut inner = self.inner.lock();
        let instances = inner.look(name, tunnels)?;
        inner.forget_unfollowed();
        self.finish(inner);
        match instances.is_empty() {
            true => Err(Problem::NoService(name.clone())),
            false => Ok(instances),
        }
    }

    /// Looks what became of the tunnels that somebody follows; to be called every
    /// [`LOOK_EVERY`](crate::discoverd::tunnels::LOOK_EVERY).
    pub fn look(&self, tunnels: &dyn Tunnels) {
        let mut inner = self.inner.lock();
        inner.forget_unfollowed();
        let followed: Vec<ServiceName> = inner.hub.with_tunnels().cloned().collect();
        for name in followed {
            // Before the store was read nobody has been told anything.
            if let Err(Problem::NotReady) = inner.look(&name, tunnels) {
                break;
            }
        }
        self.finish(inner);
    }

    /// Tells subscribers what was held back, without end.
    pub async fn tell(&self) {
        loop {
            let due = self.inner.lock().hub.flush(Now::read().mono);
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => self.held_back.notified().await,
            }
        }
    }

    /// All services, by name.
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub fn list(&self) -> Result<Vec<Summary>, Problem> {
        let mut all = self.inner.lock().engine.list()?;
        all.sort_by(|one, other| one.record.name.cmp(&other.record.name));
        Ok(all)
    }

    /// The instances of a service, by index.
    ///
    /// # Errors
    /// As [`Engine::instances`].
    pub fn instances(&self, name: &ServiceName) -> Result<Vec<Arc<InstanceRecord>>, Problem> {
        self.inner.lock().engine.instances(name)
    }

    /// Who leads a service.
    ///
    /// # Errors
    /// As [`Engine::leader`].
    pub fn leader(&self, name: &ServiceName) -> Result<Arc<InstanceRecord>, Problem> {
        self.inner.lock().engine.leader(name)
    }

    /// The meta data of a service.
    ///
    /// # Errors
    /// As [`Engine::meta`].
    pub fn meta(&self, name: &ServiceName) -> Result<ServiceMeta, Problem> {
        self.inner.lock().engine.meta(name)
    }

    /// Who, of other replicas, hears instances.
    #[must_use]
    pub fn holders(&self) -> Set<Arc<str>> {
        self.inner.lock().engine.holders()
    }

    /// Looks at every instance; to be called every second. `run_out` are those of
    /// [`Services::holders`] that have certainly ceased to hear heartbeats.
    pub fn sweep(&self, run_out: &Set<Arc<str>>) {
        let mut inner = self.inner.lock();
        inner.hub.forget_gone();
        let now = Now::read();
        inner.engine.sweep(now, |holder| run_out.contains(holder));
        self.finish(inner);
    }

    /// Whether the store has been read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.lock().engine.is_ready()
    }

    /// Figures for the metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let inner = self.inner.lock();
        let (counts, told) = (inner.engine.counts(), inner.hub.counts());
        Figures {
            services: inner.engine.services(),
            instances: counts.instances,
            subscribers: told.subscribers,
            ended: told.ended,
            events: told.events,
            waiting_writes: inner.engine.waiting_writes(),
            given_up: counts.given_up,
        }
    }
}

impl Source for Services {
    type Made = Key;

    // No request waits longer.
    const WRITE_TIMEOUT: Duration = ANSWER_WITHIN;

    fn take_writes(&self, max: usize) -> Vec<(Key, Write)> {
        let mut inner = self.inner.lock();
        let now = Now::read();
        let writes = std::iter::from_fn(|| inner.engine.next_write(now))
            .take(max)
            .collect();
        // Not all of `finish`, which would wake the writer that is asking.
        inner.answer();
        writes
    }

    fn written(&self, ended: &[(Key, Result<Revision, WriteError>)]) {
        let mut inner = self.inner.lock();
        let now = Now::read();
        for (key, result) in ended {
            inner.engine.written(now, key, result);
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
