//! All that becomes of services, as plain functions that take `now`.
//!
//! Requests, heartbeats and what the store's watch tells come in; answers, events
//! and the writes that are to be made go out. What is shown is what the watch has
//! told, and a request is answered once the watch has told what it did: so events
//! come in the store's own order, on every replica, and whoever was answered reads
//! what it wrote. While the store takes no writes nobody comes, goes or leads who
//! did not before; heartbeats are noted all the same.
//!
//! - [`asking`]: what can be answered at once, and what waits for its turn. Requests
//!   for one record have their turn one by one.
//! - [`steps`]: what becomes of whoever has its turn.
//! - [`writes`]: which write is next, and what its end means. One at a time for a
//!   record.
//! - [`told`]: what a watch tells, and the events that follow.
//! - [`upkeep`]: who is silent, and what goes.
//! - [`view`]: what there is.

pub mod asking;
#[cfg(test)]
mod chaos;
mod known;
pub mod steps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod told;
pub mod upkeep;
pub mod view;
pub mod writes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Revision;
use crate::discoverd::engine::known::{Asked, Entry, Service};
use crate::discoverd::event::Event;
use crate::discoverd::instance::{Instance, InstanceId};
use crate::discoverd::meta::Json;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{InstanceKey, LeaderType, ServiceMeta};
use crate::map::Map;
use crate::record::Key;
use crate::registry::patience::Patience;
use crate::registry::queue::Queue;
use crate::time::Now;

/// How long a request may take. What was not stored by then is answered
/// [`Problem::Unavailable`], and may be stored yet.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// The most requests that wait for their turn at one record.
pub const MAX_ASKED: usize = 64;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who this replica is, as the holder of leases. Must outlive a restart.
    pub identity: Arc<str>,
    /// Whether other replicas write to the same store.
    pub shared: bool,
    /// How long an instance stays without a heartbeat.
    pub ttl: Duration,
    /// The bounds.
    pub limits: Limits,
    /// For spreading retries.
    pub seed: u64,
}

impl Setup {
    /// The silence after which an instance goes, which the protocol promises.
    pub const TTL: Duration = Duration::from_secs(10);
}

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most services.
    pub services: usize,
    /// The most instances of one service.
    pub per_service: usize,
    /// The most instances in all.
    pub instances: usize,
    /// The most requests that wait for the store.
    pub asked: usize,
}

impl Default for Limits {
    /// Ten times what one host's services come to.
    fn default() -> Self {
        Self {
            services: 10_000,
            per_service: 10_000,
            instances: 100_000,
            asked: 100_000,
        }
    }
}

/// What a client wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To make a service.
    Create(ServiceName, LeaderType),
    /// To remove a service, and its instances with it.
    Remove(ServiceName),
    /// To replace a service's meta data, which has this index (0 when there is
    /// none); and to name its leader in the same write.
    SetMeta(ServiceName, Json, u64, Option<InstanceId>),
    /// To name the leader of a service.
    SetLeader(ServiceName, InstanceId),
    /// To register an instance, or to tell that it lives.
    Register(ServiceName, Instance),
    /// To unregister an instance.
    Unregister(ServiceName, InstanceId),
}

/// What a request that was carried out is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing but that.
    Done,
    /// The meta data as it is now.
    Meta(ServiceMeta),
}

/// What a request comes to.
pub type Outcome = Result<Done, Problem>;

/// A request that waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What [`Engine::ask`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, at once.
    Now(Outcome),
    /// What [`Engine::take_answers`] or, after [`ANSWER_WITHIN`],
    /// [`Engine::give_up`] says for this ticket.
    Later(Ticket),
}

/// The services.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    services: Map<ServiceName, Service>,
    tickets: Map<Ticket, Key>,
    last_ticket: u64,
    answers: Vec<(Ticket, Outcome)>,
    events: Vec<Event>,
    queue: Queue<Key>,
    /// Up to which revision services and instances were told.
    told: [Option<Revision>; 2],
    /// Above every index that was ever given out, as far as is known.
    high: u64,
    /// Until when nothing goes, in counted time; none before the store was read.
    grace: Option<Instant>,
    patience: Patience,
    counts: view::Counts,
}

impl Engine {
    /// An engine that has not read its store yet.
    #[must_use]
    pub fn new(setup: Setup, now: Now) -> Self {
        Self {
            queue: Queue::new(fastrand::Rng::with_seed(setup.seed)),
            setup,
            services: Map::default(),
            tickets: Map::default(),
            last_ticket: 0,
            answers: Vec::new(),
            events: Vec::new(),
            told: [None; 2],
            high: 0,
            grace: None,
            patience: Patience::new(now.mono),
            counts: view::Counts::default(),
        }
    }

    fn entry_mut(&mut self, key: &InstanceKey) -> Option<&mut Entry> {
        self.services
            .get_mut(&key.service)?
            .instances
            .get_mut(&key.id)
    }

    fn asked_mut(&mut self, key: &Key) -> Option<&mut VecDeque<Asked>> {
        match key {
            Key::Service(name) => Some(&mut self.services.get_mut(name)?.asked),
            Key::Instance(key) => Some(&mut self.entry_mut(key)?.asked),
            _ => None,
        }
    }

    /// Takes what was decided for requests that waited.
    #[must_use]
    pub fn take_answers(&mut self) -> Vec<(Ticket, Outcome)> {
        std::mem::take(&mut self.answers)
    }

    /// Takes the events since the last time, in order.
    #[must_use]
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether the store has been read. Before that nothing is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.grace.is_some()
    }
}
