//! All that the registry decides, as plain functions that take `now`.
//!
//! Calls and the store's changes come in; answers, and the writes that are to
//! be made, go out. No clock, no client, no task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Revision;
use crate::index::{Entry, Index, Wanted};
use crate::lease::Timing;
use crate::map::Map;
use crate::pods::Pods;
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Kind, Name};
use crate::registry::events::{Event, Events};
use crate::registry::lives::Lives;
use crate::registry::order::{self, Candidate, Standing};
use crate::registry::patience::Patience;
use crate::registry::presence::Presence;
use crate::registry::queue::Queue;
use crate::registry::refresh::Refresh;
use crate::registry::restore::{Ghost, Memory, Withdrawn};
use crate::registry::view::Tally;
use crate::registry::vouch::{Sharing, Vouch};
use crate::registry::{Caller, ClosedBy, ConnectionId, Limits, Refusal};
use crate::replicas::Replicas;
use crate::time::Now;

/// How a registry is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who this replica is, as the holder of leases. Must outlive a restart.
    pub identity: Arc<str>,
    /// The uid of the pod that this replica runs in; its callers on loopback are
    /// in it, too.
    pub pod: Option<uuid::Uuid>,
    /// How it shares the store with other replicas; none when the store is its own.
    pub sharing: Option<Sharing>,
    /// When something silent goes.
    pub timing: Timing,
    /// How much is kept.
    pub limits: Limits,
    /// For shuffling and for spreading retries.
    pub seed: u64,
}

/// The state of a registry.
#[derive(Debug)]
pub struct Core {
    pub(super) setup: Setup,
    pub(super) index: Index,
    pub(super) presence: Presence,
    pub(super) lives: Lives,
    pub(super) memory: Memory,
    pub(super) queue: Queue<EndpointKey>,
    pub(super) events: Events,
    /// What is withdrawn here but may still be in the store.
    pub(super) leaving: Map<EndpointKey, Leaving>,
    /// Keys whose last write turned out to be needless; who waits is to be told.
    pub(super) settled: Vec<EndpointKey>,
    /// The deletes among them that were made, in the order of revisions.
    pub(super) deleted: VecDeque<(Revision, EndpointKey)>,
    pub(super) patience: Patience,
    pub(super) replicas: Replicas,
    pub(super) pods: Pods,
    pub(super) vouch: Vouch,
    pub(super) refresh: Refresh,
    /// How many replicas live, as of the last renewal of the own lease.
    pub(super) living: usize,
    pub(super) random: fastrand::Rng,
    /// The counted time at which this process started.
    pub(super) started: Instant,
    /// The kinds of records that have been read from the store.
    pub(super) read: [bool; Kind::ALL.len()],
    /// Endpoints by their health as of the last sweep, and of the one under way.
    pub(super) tally: Tally,
    pub(super) counting: Tally,
}

/// What is known of an endpoint that was withdrawn here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The store may hold it, at this revision if that is known.
    Stored(Option<Revision>),
    /// Our delete was made at this revision: what the watch tells from before
    /// it is old news.
    Deleted(Revision),
}

/// What a Register came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The store has it as it is.
    Known,
    /// A write is queued.
    Queued,
    /// It was withdrawn before it arrived.
    Absorbed,
}

impl Core {
    /// A registry that has not read its store yet.
    #[must_use]
    pub fn new(setup: Setup, now: Now) -> Self {
        let mut random = fastrand::Rng::with_seed(setup.seed);
        Self {
            queue: Queue::new(random.fork()),
            setup,
            index: Index::default(),
            presence: Presence::default(),
            lives: Lives::default(),
            memory: Memory::default(),
            events: Events::default(),
            leaving: Map::default(),
            settled: Vec::new(),
            deleted: VecDeque::new(),
            patience: Patience::new(now.mono),
            replicas: Replicas::new(now.mono),
            pods: Pods::default(),
            vouch: Vouch::new(now.mono),
            refresh: Refresh::default(),
            living: 1,
            random,
            started: now.mono,
            read: Default::default(),
            tally: Tally::default(),
            counting: Tally::default(),
        }
    }

    /// A connector was announced.
    ///
    /// # Errors
    /// When a limit is reached; nothing is changed then.
    pub fn register(
        &mut self,
        now: Now,
        caller: &Caller,
        mut endpoint: Endpoint,
    ) -> Result<Registered, Refusal> {
        let at = self.patience.counted(now.mono);
        let key = endpoint.key.clone();
        endpoint.pod = self.pod_of(caller);
        if self.memory.tombstones.get(&key, at) == Some(&Withdrawn::Nothing) {
            self.events.counts.absorbed += 1;
            return Ok(Registered::Absorbed);
        }
        let known = self.index.get(&key);
        if known.is_none() {
            self.room_for(&key)?;
        }
        let known = self.index.get(&key);
        let unchanged =
            known.is_some_and(|entry| entry.record.is_static || entry.record.endpoint == endpoint);
        if unchanged {
            self.heard(now, caller, &key, at);
        } else {
            self.memory.ghosts.take(&key, at);
            self.put(now, endpoint, Some(at));
            self.call(caller, &key.node, at);
        }
        Ok(match self.queue.contains(&key) {
            true => Registered::Queued,
            false => Registered::Known,
        })
    }

    fn room_for(&self, key: &EndpointKey) -> Result<(), Refusal> {
        let limits = &self.setup.limits;
        if self.index.of_tunnel(&key.tunnel).len() >= limits.per_tunnel {
            return Err(Refusal::TunnelFull(limits.per_tunnel));
        }
        if self.presence.endpoints(&key.node) >= limits.per_node {
            return Err(Refusal::NodeFull(limits.per_node));
        }
        if self.index.len() >= limits.endpoints {
            return Err(Refusal::Full(limits.endpoints));
        }
        if self.queue.len() >= limits.queue {
            return Err(Refusal::QueueFull(limits.queue));
        }
        Ok(())
    }

    /// A connector lives.
    pub fn renew(&mut self, now: Now, caller: &Caller, key: &EndpointKey) {
        let at = self.patience.counted(now.mono);
        if self.index.get(key).is_some() {
            self.heard(now, caller, key, at);
        } else if self.memory.tombstones.get(key, at).is_some() {
            self.events.counts.absorbed += 1;
        } else if let Some((_, ghost)) = self.memory.ghosts.take(key, at) {
            self.revive(now, caller, key, &ghost, at);
            self.call(caller, &key.node, at);
        } else {
            self.events.counts.unknown_renewals += 1;
            self.memory.claims.insert(key.clone(), (), at);
        }
    }

    /// Brings back an endpoint that has gone: gost never registers twice.
    fn revive(&mut self, now: Now, caller: &Caller, key: &EndpointKey, ghost: &Ghost, at: Instant) {
        self.events.counts.restored += 1;
        self.events.push(Event::Restored(key.clone()));
        let endpoint = Endpoint {
            pod: self.pod_of(caller),
            ..ghost.record.endpoint.clone()
        };
        self.put(now, endpoint, Some(at));
        // Had this been known, it would not have gone.
        self.presence.interval(&key.node, ghost.longest, at);
        self.interval(&key.node, ghost.heard, at);
        self.want(now, key, Wanted::Hold);
    }

    /// A connector was withdrawn. Returns whether a write is queued.
    pub fn deregister(&mut self, now: Now, caller: &Caller, key: &EndpointKey) -> bool {
        let at = self.patience.counted(now.mono);
        self.memory.ghosts.take(key, at);
        self.memory.claims.take(key, at);
        self.call(caller, &key.node, at);
        if self
            .index
            .get(key)
            .is_some_and(|entry| entry.record.is_static)
        {
            return false;
        }
        let mut found = self.memory.tombstones.get(key, at).copied();
        if self.take_out(now, key, at).is_some() {
            found = Some(Withdrawn::Something);
        } else if self.may_be_stored(key) {
            self.leaving.insert(key.clone(), Leaving::Stored(None));
            self.queue.push(key, now.mono);
        }
        let found = found.unwrap_or(Withdrawn::Nothing);
        self.memory.tombstones.insert(key.clone(), found, at);
        self.queue.contains(key)
    }

    /// Whether the store may hold an endpoint that is not known here: it was not
    /// read yet, or another replica registered it a moment ago.
    fn may_be_stored(&self, key: &EndpointKey) -> bool {
        let shared = self.setup.sharing.is_some() || !self.is_ready();
        shared && !self.leaving.contains_key(key) && self.queue.len() < self.setup.limits.queue
    }

    /// Who holds a tunnel, in the order of routing.
    ///
    /// # Errors
    /// [`Refusal::NotReady`] before the store was read.
    pub fn get(
        &mut self,
        now: Now,
        caller: &Caller,
        tunnel: &Name,
    ) -> Result<Vec<Arc<EndpointRecord>>, Refusal> {
        let at = self.patience.counted(now.mono);
        self.presence.call_without_node(caller.connection);
        if !self.is_ready() {
            return Err(Refusal::NotReady);
        }
        let candidates = self
            .index
            .of_tunnel(tunnel)
            .filter(|entry| self.may_offer(caller, entry, at))
            .map(|entry| Candidate {
                record: Arc::clone(&entry.record),
                standing: match self.doubt(entry, at) {
                    None => Standing::Healthy,
                    Some(_) => Standing::Doubtful { heard: entry.heard },
                },
            })
            .collect();
        Ok(order::route(candidates, &mut self.random))
    }

    /// A connection has ended.
    pub fn closed(&mut self, connection: ConnectionId, by: ClosedBy) {
        for node in self.presence.closed(connection, by) {
            self.events.counts.suspected += 1;
            self.events.push(Event::Suspect(node));
            self.vouch.suspects_changed();
        }
    }

    pub(super) fn leave_ghost(
        &mut self,
        key: &EndpointKey,
        entry: Entry,
        longest: Duration,
        at: Instant,
    ) {
        let ghost = Ghost {
            record: entry.record,
            heard: entry.heard,
            longest,
        };
        self.memory.ghosts.insert(key.clone(), ghost, at);
    }

    /// Puts in an endpoint that was announced, to be written with a lease of ours.
    pub(super) fn put(&mut self, now: Now, endpoint: Endpoint, heard: Option<Instant>) {
        let at = self.patience.counted(now.mono);
        let key = endpoint.key.clone();
        let left = self.leaving.remove(&key);
        self.memory.withdrawn.take(&key, at);
        let before = self.index.get(&key);
        let entry = Entry {
            record: Arc::new(EndpointRecord {
                lease: self.held(now, &key.node),
                endpoint,
                is_static: false,
            }),
            revision: match (before, left) {
                (Some(entry), _) => entry.revision,
                (None, Some(Leaving::Stored(revision))) => revision,
                (None, Some(Leaving::Deleted(_)) | None) => None,
            },
            wanted: Some(Wanted::Announce),
            writing: before.and_then(|entry| entry.writing),
            attempted: match before {
                Some(entry) => entry.attempted,
                None => matches!(left, Some(Leaving::Stored(_))),
            },
            heard,
            refresh: None,
        };
        self.insert(entry, at);
        self.queue.push(&key, now.mono);
    }

    /// Puts in an endpoint.
    pub(super) fn insert(&mut self, entry: Entry, at: Instant) {
        if entry.heard.is_some() {
            self.challenge_rivals(&entry.record.endpoint, at);
        }
        let node = entry.key().node.clone();
        if self.index.insert(entry).is_none() {
            self.presence.add_endpoint(&node);
        }
    }

    /// An endpoint is announced: other nodes at its address may be previous lives
    /// of its gost. Once a node is known there, who else is has been settled.
    fn challenge_rivals(&mut self, endpoint: &Endpoint, at: Instant) {
        let tenants = || self.index.nodes_at(&endpoint.address);
        if tenants().any(|tenant| tenant.node == endpoint.key.node) {
            return;
        }
        for tenant in tenants().filter(|tenant| tenant.origin == endpoint.origin) {
            let wait = match self.presence.longest_interval(&tenant.node) {
                Duration::ZERO => self.base_time(&tenant.node),
                _ => self.presence.two_intervals(&tenant.node),
            };
            self.lives.challenge(&tenant.node, wait, at);
        }
    }

    /// Takes out an endpoint and queues its removal from the store.
    pub(super) fn take_out(&mut self, now: Now, key: &EndpointKey, at: Instant) -> Option<Entry> {
        let entry = self.remove(key)?;
        // What was never handed out cannot be in the store.
        if entry.attempted || entry.revision.is_some() || !self.queue.cancel(key) {
            let leaving = Leaving::Stored(entry.revision);
            self.leaving.insert(key.clone(), leaving);
            if self.setup.sharing.is_some() {
                self.memory.withdrawn.insert(key.clone(), (), at);
            }
            self.queue.push(key, now.mono);
        }
        Some(entry)
    }

    pub(super) fn remove(&mut self, key: &EndpointKey) -> Option<Entry> {
        let entry = self.index.remove(key)?;
        self.presence.remove_endpoint(&key.node);
        if self.presence.endpoints(&key.node) == 0 {
            self.lives.forget(&key.node);
        }
        Some(entry)
    }
}
