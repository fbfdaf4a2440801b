//! The plan for a store that several replicas share.
//!
//! Beside what was released, endpoints go whose holder has died (its own lease
//! has run out, and nobody took them over for the orphan time), and those whose
//! pod is gone. A holder that goes on writing endpoints has not died, whatever its
//! lease says: it may be forbidden to write that. Time counts between two successful lists of the replicas'
//! leases: a watch that is quiet proves nothing.
//!
//! With names that are UUIDs an endpoint takes about 350 bytes here, and 400 more
//! while it waits (measured with 100,000).

mod endpoints;
mod holders;
mod places;

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::waits::{Mark, Waits, Wanted};
use super::{Census, Due, Pace, Reason, released};
use crate::backend::{Change, Stored, endpoint_keys};
use crate::map::Map;
use crate::pods::{PodChange, PodState, Pods};
use crate::record::{Address, EndpointKey, Key, Kind, Name, Record, ReplicaRecord};
use crate::replicas::Replicas;
use endpoints::Endpoints;
use holders::Holders;
use places::Places;

/// How long an orphan waits for its holder to come back, or for another replica
/// to take it over: a sidecar that crashed comes back to a gost that will not
/// register again.
pub const ORPHAN_FOR: Duration = Duration::from_secs(600);
/// How often the replicas' leases are to be read, at most and at least: well below
/// [`crate::contact::LONGEST_GAP`].
const READ_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(10);
/// A replica's lease that has been run out for so many times the wait of an
/// orphan (an hour) may go, if no endpoint names the replica as its holder.
const LEFT_BEHIND: u32 = 6;

/// How often the replicas' leases are to be read when orphans wait for
/// `orphan_for`: so that it is sure within a tenth of that.
#[must_use]
pub fn read_every(orphan_for: Duration) -> Duration {
    (orphan_for / 10).clamp(*READ_EVERY.start(), *READ_EVERY.end())
}

/// How an endpoint is, as far as its collector knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Kept by hand.
    Static,
    /// Its holder maintains it, or may still do.
    Maintained,
    /// The same, and its pod was asked to end.
    Terminating,
    /// It goes for this reason, unless somebody maintains it again.
    Waits(Reason),
}

/// What an endpoint's status is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How it is.
    pub state: State,
    /// Whether the pod that it ran in is recorded.
    pub has_pod: bool,
    /// Whether another node that lives has the same address.
    pub shares_address: bool,
}

/// All endpoints of a cluster, and when those go that nobody maintains.
#[derive(Debug)]
pub struct ClusterPlan {
    orphan_for: Duration,
    waits: Waits,
    replicas: Replicas,
    pods: Pods,
    endpoints: Endpoints,
    holders: Holders,
    places: Places,
    /// Since when (counted) a replica's lease has been run out.
    run_out: Map<Arc<str>, Instant>,
    /// Endpoints whose standing changed by something other than their own record.
    touched: Vec<EndpointKey>,
    now: Instant,
}

impl ClusterPlan {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(pace: Pace, orphan_for: Duration, now: Instant) -> Self {
        Self {
            orphan_for,
            waits: Waits::new(pace, now),
            replicas: Replicas::new(now),
            pods: Pods::default(),
            endpoints: Endpoints::default(),
            holders: Holders::default(),
            places: Places::default(),
            run_out: Map::default(),
            touched: Vec::new(),
            now,
        }
    }

    /// How long an orphan waits.
    #[must_use]
    pub fn orphan_for(&self) -> Duration {
        self.orphan_for
    }

    /// These are the leases of all replicas, freshly asked for.
    pub fn contact(&mut self, now: Instant, replicas: &[Arc<ReplicaRecord>]) {
        self.now = now;
        self.replicas.contact(now);
        // Whether it has run out does not depend on when it was written.
        let all: Vec<_> = replicas
            .iter()
            .map(|lease| (Arc::clone(lease), None))
            .collect();
        self.replicas.reset(&all);
        let time = self.replicas.time();
        let counted = time.counted();
        let mut turned = self.holders.look(&self.replicas);
        turned.extend(self.holders.lapsed(&mut self.endpoints, time));
        self.judge_all(turned);
        self.waits.begin(self.replicas.time());
        let known = std::mem::take(&mut self.run_out);
        for replica in replicas {
            let identity = &replica.identity;
            if self.replicas.has_run_out(identity) {
                let since = known.get(identity).copied().unwrap_or(counted);
                self.run_out.insert(Arc::clone(identity), since);
            }
        }
    }

    /// The store's watch tells changes of endpoints, in order. What it tells of
    /// replicas counts for nothing: it may be old.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Reset(Kind::Endpoint, all, _) => {
                    let present = endpoint_keys(all);
                    for key in self.endpoints.missing_from(&present) {
                        self.forget(&key);
                    }
                    all.iter().for_each(|stored| self.put(stored));
                }
                Change::Put(stored) => self.put(stored),
                Change::Delete(Key::Endpoint(key), _) => self.forget(key),
                Change::Reset(..) | Change::Delete(..) => {}
            }
        }
    }

    /// A watch of pods told a change.
    pub fn pods(&mut self, change: PodChange, now: Instant) {
        self.now = now;
        let seen = match &change {
            PodChange::Reset(pods) => pods.iter().map(|pod| pod.uid).collect(),
            PodChange::Put(pod) => vec![pod.uid],
            PodChange::Gone(_) => Vec::new(),
        };
        let before: Vec<bool> = seen.iter().map(|uid| self.is_terminating(uid)).collect();
        let mut turned = self.pods.apply(change, now);
        for (uid, before) in seen.into_iter().zip(before) {
            if self.is_terminating(&uid) != before {
                turned.push(uid);
            }
        }
        for uid in turned {
            self.judge_all(self.endpoints.of_pod(&uid));
        }
    }

    fn is_terminating(&self, uid: &Uuid) -> bool {
        self.pods.state(uid, self.now) == PodState::Terminating
    }

    fn put(&mut self, stored: &Stored) {
        let Record::Endpoint(record) = &stored.record else {
            return;
        };
        let key = &record.endpoint.key;
        // What is met for the first time may have been written long ago.
        let mut wrote = false;
        if let Some(id) = self.endpoints.id(key) {
            let endpoint = self.endpoints.get_mut(id);
            if endpoint.is(record) {
                endpoint.revision = stored.revision;
                self.judge(id);
                return;
            }
            wrote = endpoint.mark != Mark::of(&record.lease);
            // Its wait stays: whether that goes on is for the judge to say.
            self.take_out(id);
        }
        let id = self.endpoints.add(record, stored.revision);
        if let (Some(holder), false) = (&record.lease.holder, record.is_static) {
            self.replicas.expect(holder);
            if wrote {
                self.replicas.wrote(holder);
            }
            self.holders.join(holder, id, &self.replicas);
        }
        self.judge(id);
    }

    fn forget(&mut self, key: &EndpointKey) {
        if let Some(id) = self.endpoints.id(key) {
            self.waits.forget(key);
            self.take_out(id);
        }
    }

    fn take_out(&mut self, id: u32) {
        let endpoint = self.endpoints.remove(id);
        if let Some(holder) = endpoint.mark.holder() {
            self.holders.leave(holder, id);
        }
        if endpoint.placed {
            self.unplace(&endpoint.address, &endpoint.key.node);
        }
    }

    fn judge_all(&mut self, ids: Vec<u32>) {
        for id in ids {
            self.judge(id);
            self.touch(id);
        }
    }

    /// Decides anew whether an endpoint should go.
    fn judge(&mut self, id: u32) {
        let wanted = self.wanted(id);
        let endpoint = self.endpoints.get(id);
        let key = Arc::clone(&endpoint.key);
        self.waits
            .set(&key, endpoint.revision, &endpoint.mark, wanted);
        if wanted.is_some_and(|wanted| wanted.reason == Reason::PodGone) {
            self.waits.begin_now(&key, self.replicas.time());
        }
        let lives = wanted.is_none() && !endpoint.is_static;
        if lives != endpoint.placed {
            let address = endpoint.address.clone();
            self.endpoints.get_mut(id).placed = lives;
            if lives {
                self.places.put(&address, &key.node, self.now);
            } else {
                self.unplace(&address, &key.node);
            }
        }
    }

    fn wanted(&self, id: u32) -> Option<Wanted> {
        let endpoint = self.endpoints.get(id);
        if endpoint.is_static {
            return None;
        }
        if let Some(pod) = &endpoint.pod
            && self.pods.state(pod, self.now) == PodState::Gone
        {
            return Some(Wanted {
                reason: Reason::PodGone,
                time: Duration::ZERO,
                silent: false,
            });
        }
        let Some(holder) = endpoint.mark.holder() else {
            return endpoint.released;
        };
        let lost = self.holders.is_lost(holder, endpoint.has_lapsed);
        lost.then(|| Wanted {
            reason: Reason::HolderLost,
            time: self.orphan_for,
            // Who gave its lease up has not fallen silent.
            silent: !self.replicas.has_stopped(holder)
                && !self.replicas.suspects(holder, &endpoint.key.node),
        })
    }

    fn unplace(&mut self, address: &Address, node: &Name) {
        let nodes = self.places.remove(address, node);
        self.touch_nodes(&nodes);
    }

    fn touch_nodes(&mut self, nodes: &[Name]) {
        for node in nodes {
            for id in self.endpoints.of_node(node) {
                self.touch(id);
            }
        }
    }

    fn touch(&mut self, id: u32) {
        let key = &self.endpoints.get(id).key;
        self.touched.push(EndpointKey::clone(key));
    }

    /// The endpoints whose standing may have changed since this was last asked,
    /// beside those whose records changed.
    pub fn take_touched(&mut self, now: Instant) -> Vec<EndpointKey> {
        let nodes = self.places.turned(now);
        self.touch_nodes(&nodes);
        std::mem::take(&mut self.touched)
    }

    /// Nobody will ask which endpoints' standing may have changed until now.
    pub fn forget_touched(&mut self) {
        self.touched.clear();
    }

    /// The endpoints that go now, at the revisions that were seen. Whoever
    /// deletes them tells what became of it through the watch, or, when a delete
    /// failed, by [`ClusterPlan::again`].
    pub fn take_due(&mut self, now: Instant) -> Vec<Due> {
        self.now = now;
        let time = self.replicas.time();
        self.waits.take_due(now, time, &self.endpoints)
    }

    /// A delete could not be made; it is due again.
    pub fn again(&mut self, key: &EndpointKey) {
        self.waits.again(key);
    }

    /// How an endpoint stands; none when it is not there.
    #[must_use]
    pub fn standing(&self, key: &EndpointKey, now: Instant) -> Option<Standing> {
        let endpoint = self.endpoints.get(self.endpoints.id(key)?);
        let pod = endpoint.pod.as_ref();
        let state = match self.waits.reason(key) {
            _ if endpoint.is_static => State::Static,
            Some(reason) => State::Waits(reason),
            None if pod.is_some_and(|pod| self.is_terminating(pod)) => State::Terminating,
            None => State::Maintained,
        };
        Some(Standing {
            state,
            has_pod: endpoint.pod.is_some(),
            shares_address: endpoint.placed && self.places.is_shared(&endpoint.address, now),
        })
    }

    /// The replicas whose leases nobody needs any more.
    #[must_use]
    pub fn left_behind(&self) -> Vec<Arc<str>> {
        let (time, long) = (self.replicas.time(), self.orphan_for * LEFT_BEHIND);
        self.run_out
            .iter()
            .filter(|(identity, since)| {
                !self.holders.holds(identity) && time.has_passed(**since, long)
            })
            .map(|(identity, _)| Arc::clone(identity))
            .collect()
    }

    /// For how long collecting has been braked, if it is.
    #[must_use]
    pub fn braked_for(&self) -> Option<Duration> {
        self.waits.braked_for(self.replicas.time())
    }

    /// How many endpoints wait, by [`Reason::ALL`].
    #[must_use]
    pub fn waiting(&self) -> [usize; Reason::ALL.len()] {
        self.waits.waiting()
    }

    /// Whether an endpoint waits to go.
    #[must_use]
    pub fn waits(&self, key: &EndpointKey) -> bool {
        self.waits.reason(key).is_some()
    }

    /// When the replicas' leases were last read.
    #[must_use]
    pub fn last_contact(&self) -> Option<Instant> {
        self.replicas.time().last()
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many nodes there are that are not kept by hand.
    #[must_use]
    pub fn nodes(&self) -> usize {
        Census::nodes(&self.endpoints)
    }

    /// How many replicas live, as far as is known.
    #[must_use]
    pub fn living_replicas(&self) -> usize {
        self.replicas.living()
    }
}

#[cfg(test)]
mod tests;
