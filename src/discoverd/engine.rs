//! All that becomes of services, as plain functions that take `now`.
//!
//! Requests, heartbeats and what the store's watch tells come in; answers, events
//! and the writes that are to be made go out. What is shown is what the watch has
//! told, and a request is answered once the watch has told what it did: so events
//! come in the store's own order, on every replica, and whoever was answered reads
//! what it wrote. While the store takes no writes nobody comes, goes or leads who
//! did not before; heartbeats are noted all the same.
//!
//! - [`writes`]: which write is next, and what its end means. One at a time for a
//!   record; requests for one record have their turn one by one.
//! - [`told`]: what a watch tells, and the events that follow.
//! - [`upkeep`]: who is silent, and what goes.
//! - [`view`]: what there is.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod told;
pub mod upkeep;
pub mod view;
pub mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Revision;
use crate::discoverd::event::Event;
use crate::discoverd::instance::{Instance, InstanceId};
use crate::discoverd::meta::Json;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{
    InstanceKey, InstanceRecord, LeaderType, ServiceMeta, ServiceRecord,
};
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

/// A request that waits for its turn, or has it.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    wish: Request,
    deadline: Instant,
    /// What the store may hold because of it, or that it may hold nothing: a write
    /// that was not answered.
    attempt: Option<Option<Arc<ServiceRecord>>>,
}

/// A write that is under way, or was made and is not told yet.
#[derive(Debug)]
struct Pending<T> {
    /// What is to be stored; nothing, if it is to be removed.
    content: Option<Arc<T>>,
    /// For which request, if for one, and what that is answered.
    asked: Option<(Ticket, Done)>,
    /// The instances to which its last indexes go.
    reserved: Vec<InstanceId>,
    /// What was stored before.
    before: Option<Revision>,
    /// At which revision it was made; none while it is under way.
    made: Option<Revision>,
}

/// A service that is known, or asked for.
#[derive(Debug, Default)]
struct Service {
    stored: Option<(Arc<ServiceRecord>, Revision)>,
    pending: Option<Pending<ServiceRecord>>,
    asked: VecDeque<Asked>,
    /// Instances that wait for an index.
    wanting: Vec<InstanceId>,
    instances: BTreeMap<InstanceId, Entry>,
    /// Those of them that are shown.
    order: BTreeSet<(u64, InstanceId)>,
    /// Who leads, as was told.
    leader: Option<InstanceId>,
    /// Of which life the store was last told to be gone.
    removed: Option<u64>,
    /// Since when there are instances of it without it, in counted time.
    missing: Option<Instant>,
}

/// An instance that is known, or asked for.
#[derive(Debug)]
struct Entry {
    stored: Option<(Arc<InstanceRecord>, Revision)>,
    pending: Option<Pending<InstanceRecord>>,
    asked: VecDeque<Asked>,
    /// The index that it will have, in which life of the service.
    index: Option<(u64, u64)>,
    /// When it was last heard of here, in counted time.
    heard: Option<Instant>,
    /// Since when it is known.
    since: Instant,
    /// Since when nobody keeps it.
    loose: Option<Instant>,
    /// Whether the store may remove it yet, by a write that was not answered.
    unsure: bool,
}

impl Service {
    fn record(&self) -> Option<&Arc<ServiceRecord>> {
        self.stored.as_ref().map(|(record, _)| record)
    }

    fn born(&self) -> Option<u64> {
        self.record().map(|record| record.born)
    }

    /// Whether an instance is of the life that is there.
    fn shows(&self, record: &InstanceRecord) -> bool {
        self.born() == Some(record.born)
    }

    fn shown(&self, id: InstanceId) -> Option<&Arc<InstanceRecord>> {
        let (record, _) = self.instances.get(&id)?.stored.as_ref()?;
        self.shows(record).then_some(record)
    }

    fn is_nothing(&self) -> bool {
        self.stored.is_none()
            && self.pending.is_none()
            && self.asked.is_empty()
            && self.instances.is_empty()
    }
}

impl Entry {
    fn new(at: Instant) -> Self {
        Self {
            stored: None,
            pending: None,
            asked: VecDeque::new(),
            index: None,
            heard: None,
            since: at,
            loose: None,
            unsure: false,
        }
    }

    /// Whether it is being removed.
    fn is_leaving(&self) -> bool {
        self.unsure
            || self
                .pending
                .as_ref()
                .is_some_and(|pending| pending.content.is_none())
    }

    fn is_nothing(&self) -> bool {
        self.stored.is_none() && self.pending.is_none() && self.asked.is_empty()
    }
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

    /// A client asks for something to be done.
    pub fn ask(&mut self, now: Now, request: Request) -> Answer {
        let at = self.patience.counted(now.mono);
        if self.grace.is_none() {
            return Answer::Now(Err(Problem::NotReady));
        }
        match self.enter(now, at, request) {
            Err(outcome) => Answer::Now(outcome),
            Ok(ticket) => Answer::Later(ticket),
        }
    }

    /// Lets a request wait for its turn, unless it can be answered.
    fn enter(&mut self, now: Now, at: Instant, request: Request) -> Result<Ticket, Outcome> {
        if self.tickets.len() >= self.setup.limits.asked {
            return Err(Err(Problem::Full(
                "requests that wait for the store",
                self.setup.limits.asked,
            )));
        }
        match &request {
            Request::Create(name, _) => {
                let known = self.services.get(name);
                if known.is_some_and(|service| service.stored.is_some()) {
                    return Err(Err(Problem::ServiceExists(name.clone())));
                }
                let most = self.setup.limits.services;
                if known.is_none() && self.services.len() >= most {
                    return Err(Err(Problem::Full("services", most)));
                }
                self.services.entry(name.clone()).or_default();
            }
            Request::SetLeader(name, _) => {
                let known = self.services.get(name);
                if known.and_then(Service::record).is_none() {
                    return Err(Err(Problem::NotManual));
                }
            }
            Request::Remove(name) | Request::SetMeta(name, ..) => {
                self.existing(name)?;
            }
            Request::Register(name, instance) => {
                self.heard(now, at, name, instance)?;
                let key = InstanceKey {
                    service: name.clone(),
                    id: instance.id,
                };
                return self.enqueue(now, Key::Instance(key), request);
            }
            Request::Unregister(name, id) => {
                let service = self.existing(name)?;
                if !service.instances.contains_key(id) {
                    return Err(Ok(Done::Done));
                }
                let (service, id) = (name.clone(), *id);
                return self.enqueue(now, Key::Instance(InstanceKey { service, id }), request);
            }
        }
        let (Request::Create(name, _)
        | Request::Remove(name)
        | Request::SetMeta(name, ..)
        | Request::SetLeader(name, _)
        | Request::Register(name, _)
        | Request::Unregister(name, _)) = &request;
        self.enqueue(now, Key::Service(name.clone()), request)
    }

    fn existing(&mut self, name: &ServiceName) -> Result<&mut Service, Outcome> {
        self.services
            .get_mut(name)
            .filter(|service| service.stored.is_some())
            .ok_or_else(|| Err(Problem::NoService(name.clone())))
    }

    /// An instance was heard of. Answers when that is all there is to it.
    fn heard(
        &mut self,
        now: Now,
        at: Instant,
        name: &ServiceName,
        instance: &Instance,
    ) -> Result<(), Outcome> {
        let Limits {
            per_service,
            instances,
            ..
        } = self.setup.limits;
        let known = self.counts.instances;
        let shared = self.setup.shared;
        let service = self.existing(name)?;
        let is_shown = service.shown(instance.id).is_some();
        let is_new = !service.instances.contains_key(&instance.id);
        if is_new && service.instances.len() >= per_service {
            return Err(Err(Problem::Full("instances of a service", per_service)));
        }
        if is_new && known >= instances {
            return Err(Err(Problem::Full("instances", instances)));
        }
        let entry = service.instances.entry(instance.id);
        let entry = entry.or_insert_with(|| Entry::new(at));
        entry.heard = Some(at);
        let is_same = entry
            .stored
            .as_ref()
            .is_some_and(|(record, _)| record.instance == *instance);
        if is_shown && is_same && entry.asked.is_empty() && !entry.is_leaving() {
            if shared && entry.loose.is_some() {
                let key = InstanceKey {
                    service: name.clone(),
                    id: instance.id,
                };
                self.queue.push(&Key::Instance(key), now.mono);
            }
            return Err(Ok(Done::Done));
        }
        self.counts.instances += usize::from(is_new);
        Ok(())
    }

    fn enqueue(&mut self, now: Now, key: Key, wish: Request) -> Result<Ticket, Outcome> {
        let ticket = Ticket(self.last_ticket + 1);
        let Some(asked) = self.asked_mut(&key) else {
            return Err(Err(Problem::Unavailable));
        };
        if asked.len() >= MAX_ASKED {
            return Err(Err(Problem::Full("requests at once for this", MAX_ASKED)));
        }
        asked.push_back(Asked {
            ticket,
            wish,
            deadline: now.mono + ANSWER_WITHIN,
            attempt: None,
        });
        self.last_ticket = ticket.0;
        // Not after the wait for which an earlier write had to be.
        if self.asked_mut(&key).is_some_and(|asked| asked.len() == 1) {
            self.queue.cancel(&key);
        }
        self.queue.push(&key, now.mono);
        self.tickets.insert(ticket, key);
        Ok(ticket)
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

    /// Answers the request that has its turn, if it is still this one.
    fn answer(&mut self, key: &Key, ticket: Ticket, outcome: Outcome) {
        let Some(asked) = self.asked_mut(key) else {
            return;
        };
        if asked.front().is_some_and(|asked| asked.ticket == ticket) {
            asked.pop_front();
            self.tickets.remove(&ticket);
            self.answers.push((ticket, outcome));
        }
    }

    /// A request has waited too long. Returns what is answered; none if that was
    /// decided before.
    #[must_use]
    pub fn give_up(&mut self, ticket: Ticket) -> Option<Outcome> {
        let Some(key) = self.tickets.remove(&ticket) else {
            let place = self.answers.iter().position(|(other, _)| *other == ticket);
            return place.map(|place| self.answers.swap_remove(place).1);
        };
        if let Some(asked) = self.asked_mut(&key) {
            asked.retain(|asked| asked.ticket != ticket);
        }
        self.counts.given_up += 1;
        self.tidy(&key);
        Some(Err(Problem::Unavailable))
    }

    /// Forgets what is nothing any more.
    fn tidy(&mut self, key: &Key) {
        let name = match key {
            Key::Service(name) => name,
            Key::Instance(key) => {
                if let Some(service) = self.services.get_mut(&key.service)
                    && service
                        .instances
                        .get(&key.id)
                        .is_some_and(Entry::is_nothing)
                {
                    service.instances.remove(&key.id);
                    service.wanting.retain(|id| *id != key.id);
                    self.counts.instances -= 1;
                }
                &key.service
            }
            _ => return,
        };
        if self.services.get(name).is_some_and(Service::is_nothing) {
            self.services.remove(name);
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
