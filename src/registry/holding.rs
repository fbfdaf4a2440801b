//! Who holds an endpoint: when this replica writes a lease, takes one over, or
//! leaves it to another. Pure, like all of [`Core`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::index::{Entry, Wanted};
use crate::lease::{Lease, USUAL_INTERVAL};
use crate::map::Set;
use crate::pods::{PodChange, PodState};
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Name};
use crate::registry::Caller;
use crate::registry::core::Core;
use crate::registry::events::Event;
use crate::registry::refresh::{Refresh, stretched};
use crate::time::Now;

impl Core {
    /// Something was heard of an endpoint that is known.
    pub(super) fn heard(&mut self, now: Now, caller: &Caller, key: &EndpointKey, at: Instant) {
        self.call(caller, &key.node, at);
        let Some(entry) = self.index.get_mut(key) else {
            return;
        };
        let before = entry.heard.replace(at);
        self.interval(&key.node, before, at);
        self.hold(now, key, at);
        self.correct_pod(now, caller, key, at);
    }

    /// Holds an endpoint that was heard and that nobody else holds.
    pub(super) fn hold(&mut self, now: Now, key: &EndpointKey, at: Instant) {
        let Some(entry) = self.index.get(key) else {
            return;
        };
        if entry.record.is_static || !self.heard_lately(entry, at) {
            return;
        }
        let lease = &entry.record.lease;
        if self.is_mine(entry) {
            // What is learnt of a slow node is written down, for whoever holds it
            // next; not each fluctuation.
            let told = lease.interval().unwrap_or(USUAL_INTERVAL);
            if self.presence.longest_interval(&key.node) > told.mul_f64(1.5) {
                self.want(now, key, Wanted::Refresh);
            }
            return;
        }
        // What may be a previous life is left to who hears it from now on.
        if self.is_challenged(&key.node) {
            return;
        }
        let free = lease
            .holder
            .as_ref()
            .is_none_or(|holder| self.has_run_out(holder));
        if free {
            self.events.counts.taken_over += u64::from(lease.is_held());
            self.want(now, key, Wanted::Hold);
        }
    }

    /// A gone pod makes no calls: another one must have had its address.
    fn correct_pod(&mut self, now: Now, caller: &Caller, key: &EndpointKey, at: Instant) {
        let Some(entry) = self.index.get(key) else {
            return;
        };
        if entry.record.endpoint.pod.is_none() || self.pod_state(entry, at) != PodState::Gone {
            return;
        }
        let endpoint = Endpoint {
            pod: self.pod_of(caller),
            ..entry.record.endpoint.clone()
        };
        self.put(now, endpoint, Some(at));
    }

    /// The pod that a caller is in, where that is certain.
    pub(super) fn pod_of(&self, caller: &Caller) -> Option<uuid::Uuid> {
        if caller.peer.is_loopback() {
            return self.setup.pod;
        }
        self.pods.at(caller.host)
    }

    /// The watch of pods told a change.
    pub fn apply_pods(&mut self, now: Now, change: PodChange) {
        let at = self.patience.counted(now.mono);
        self.pods.apply(change, at);
    }

    /// Whether this replica maintains an endpoint: its lease names it as holder.
    pub(super) fn is_mine(&self, entry: &Entry) -> bool {
        let record = &entry.record;
        !record.is_static && record.lease.holder.as_ref() == Some(&self.setup.identity)
    }

    /// Whether `holder` has certainly ceased to maintain anything. A store that is
    /// not shared has no other holders.
    pub(super) fn has_run_out(&self, holder: &Arc<str>) -> bool {
        match self.setup.sharing {
            Some(_) => *holder != self.setup.identity && self.replicas.has_run_out(holder),
            None => *holder != self.setup.identity,
        }
    }

    /// Those of `holders` that certainly maintain nothing now. Of one that was never
    /// seen the time begins in which its lease should appear.
    pub(super) fn run_out(&mut self, mut holders: Set<Arc<str>>) -> Set<Arc<str>> {
        for holder in &holders {
            self.replicas.expect(holder);
        }
        holders.retain(|holder| self.replicas.has_run_out(holder));
        holders
    }

    /// How many replicas there are, this one among them.
    pub(super) fn replica_count(&self) -> usize {
        self.replicas.living().max(1)
    }

    /// A lease by which this replica holds an endpoint of `node`.
    pub(super) fn held(&self, now: Now, node: &Name) -> Lease {
        let base = self.base_time(node);
        let duration = match self.setup.sharing {
            Some(_) => stretched(base, self.index.len(), self.living),
            None => base,
        };
        let holder = Arc::clone(&self.setup.identity);
        Lease::held(holder, now.wall, duration).renewed_every(self.presence.longest_interval(node))
    }

    /// Gives an endpoint another lease than the one it has, to be written because
    /// of `wanted`.
    pub(super) fn set_lease(&mut self, now: Now, key: &EndpointKey, lease: Lease, wanted: Wanted) {
        if let Some(entry) = self.index.get_mut(key)
            && !entry.record.is_static
        {
            entry.record = Arc::new(EndpointRecord {
                endpoint: entry.record.endpoint.clone(),
                lease,
                is_static: false,
            });
            entry.wanted = Some(match entry.wanted {
                Some(before) => before.then(wanted),
                None => wanted,
            });
            self.queue.push(key, now.mono);
        }
    }

    /// Holds an endpoint, to be written because of `wanted`.
    pub(super) fn want(&mut self, now: Now, key: &EndpointKey, wanted: Wanted) {
        let lease = self.held(now, &key.node);
        self.set_lease(now, key, lease, wanted);
    }

    /// The store holds a lease of ours from now on: notes when it is to be
    /// written anew. What was read at a start is not as fresh as what was written.
    pub(super) fn schedule(&mut self, key: &EndpointKey, at: Instant, just_written: bool) {
        if self.setup.sharing.is_none() {
            return;
        }
        let Some(position) = self.index.position(key) else {
            return;
        };
        let is_mine = self.index.get(key).is_some_and(|entry| self.is_mine(entry));
        let Some(entry) = self.index.get_mut(key) else {
            return;
        };
        entry.refresh = None;
        if !is_mine {
            return;
        }
        let duration = entry.record.lease.duration();
        let due = match just_written {
            true => Refresh::after(at, duration, &mut self.random),
            false => at + (duration / 3).mul_f64(self.random.f64()),
        };
        entry.refresh = Some(due);
        self.refresh.push(position, due, duration);
    }

    /// Puts what is due to be refreshed into the queue, at this replica's share of
    /// the cluster's rate.
    pub(super) fn refresh(&mut self, now: Now, at: Instant) {
        if self.setup.sharing.is_none() || self.queue.is_paused() {
            return;
        }
        let (mine, all) = (self.tally.held, self.index.len());
        let mine = usize::try_from(mine).unwrap_or(usize::MAX);
        self.refresh.pass(at, mine, all, self.living);
        let stands_in = self.stand_in(now);
        let index = &self.index;
        let is_due = |position, due| is_due(index.at(position), due);
        if self.refresh.len() > 2 * index.len() + 1_000 {
            self.refresh.retain(is_due);
        }
        let mut due = Vec::new();
        if stands_in && let Some(position) = self.refresh.take_first(is_due) {
            due.extend(index.at(position).map(|entry| entry.key().clone()));
        }
        while let Some(position) = self.refresh.take(at, is_due) {
            due.extend(index.at(position).map(|entry| entry.key().clone()));
        }
        for key in due {
            self.events.counts.refreshed += 1;
            self.want(now, &key, Wanted::Refresh);
        }
    }
}

/// Whether the lease of an endpoint is to be written anew since `due`.
fn is_due(entry: Option<&Entry>, due: Instant) -> bool {
    entry.is_some_and(|entry| entry.refresh == Some(due) && entry.pending().is_none())
}

impl Core {
    /// An endpoint of `node` was heard at `at`, and `before` that.
    pub(super) fn interval(&mut self, node: &Name, before: Option<Instant>, at: Instant) {
        let interval = before.map(|before| at.saturating_duration_since(before));
        if let Some(interval) = interval.filter(|interval| self.setup.timing.is_believed(*interval))
        {
            self.presence.interval(node, interval, at);
        }
    }

    /// A node made a call.
    pub(super) fn call(&mut self, caller: &Caller, node: &Name, at: Instant) {
        let was_suspect = self.presence.call(caller, node, at);
        if was_suspect {
            self.vouch.suspects_changed();
        }
        if self.lives.heard(node) {
            self.events.push(Event::AddressShared(node.clone()));
        }
    }

    /// How long `node`'s endpoints may be silent.
    #[must_use]
    pub fn base_time(&self, node: &Name) -> Duration {
        let longest = self.presence.longest_interval(node);
        self.setup.timing.base_time(longest)
    }
}
