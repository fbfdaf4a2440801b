//! When a released endpoint goes. Pure: the store's changes and the time come
//! in, the endpoints to delete come out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::backend::{Change, Revision, Stored, endpoint_keys};
use crate::lease::Released;
use crate::map::Map;
use crate::record::{EndpointKey, EndpointRecord, Key, Kind, Name, Record};

/// Two signs of life of the store that are further apart prove nothing about
/// the time between them: renewals may have been refused in it.
const LONGEST_GAP: Duration = Duration::from_secs(15);

/// How fast, and how carefully, endpoints are collected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Deletes a second.
    pub per_second: f64,
    /// Deletes a second of what was braked, once its wait is over.
    pub braked_per_second: f64,
    /// The longest wait under the brake.
    pub brake_for: Duration,
    /// The brake falls when more than this share of all nodes is silent,
    pub brake_share: f64,
    /// and at least so many are.
    pub brake_nodes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            per_second: 2_000.0,
            braked_per_second: 10.0,
            brake_for: Duration::from_secs(600),
            brake_share: 0.15,
            brake_nodes: 3,
        }
    }
}

/// How many nodes there are, and how many endpoints each has.
pub trait Census {
    /// All nodes that have endpoints.
    fn nodes(&self) -> usize;
    /// The endpoints of one.
    fn endpoints_of(&self, node: &Name) -> usize;
}

/// The released endpoints and when they go.
#[derive(Debug)]
pub struct Plan {
    pace: Pace,
    released: Map<EndpointKey, Wait>,
    /// Those seen since the last contact: their time begins with the next.
    fresh: Vec<EndpointKey>,
    /// The others, by the counted time at which they are due.
    due: BTreeSet<(Instant, EndpointKey)>,
    /// How many endpoints each node has lost to silence.
    silent: Map<Name, usize>,
    /// The store's last sign of life.
    contact: Option<Instant>,
    /// Time during which the store was there, on its own scale.
    counted: Instant,
    /// The counted time at which the last gap ended.
    gap_ended: Option<Instant>,
    /// Since when, in counted time.
    braked_since: Option<Instant>,
    allowance: Allowance,
    braked_allowance: Allowance,
}

/// How many deletes may be made now.
#[derive(Debug, Default)]
struct Allowance(f64);

impl Allowance {
    /// Time has passed in which so many a second were allowed; at most a
    /// second's are saved up.
    fn add(&mut self, per_second: f64, time: Duration) {
        self.0 = (self.0 + per_second * time.as_secs_f64()).min(per_second.max(1.0));
    }

    /// Takes one if it is wanted and there is one.
    fn take(&mut self, wanted: bool) -> bool {
        let taken = wanted && self.0 >= 1.0;
        if taken {
            self.0 -= 1.0;
        }
        taken
    }
}

#[derive(Debug)]
struct Wait {
    revision: Revision,
    why: Released,
    duration: Duration,
    due: Option<Instant>,
}

impl Plan {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            released: Map::default(),
            fresh: Vec::new(),
            due: BTreeSet::new(),
            silent: Map::default(),
            contact: None,
            counted: now,
            gap_ended: None,
            braked_since: None,
            allowance: Allowance::default(),
            braked_allowance: Allowance::default(),
        }
    }

    /// The store answered a request of ours: time since its last answer counts,
    /// unless that was too long ago.
    pub fn contact(&mut self, now: Instant) {
        if let Some(last) = self.contact {
            let gap = now.saturating_duration_since(last);
            if gap <= LONGEST_GAP {
                self.counted += gap;
                self.allowance.add(self.pace.per_second, gap);
                self.braked_allowance.add(self.pace.braked_per_second, gap);
            } else {
                self.gap_ended = Some(self.counted);
            }
        }
        self.contact = Some(now);
        for key in std::mem::take(&mut self.fresh) {
            if let Some(wait) = self.released.get_mut(&key)
                && wait.due.is_none()
            {
                let due = self.counted + wait.duration;
                wait.due = Some(due);
                self.due.insert((due, key));
            }
        }
    }

    /// The store's watch tells changes, in order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply_one(change);
        }
    }

    fn apply_one(&mut self, change: &Change) {
        match change {
            Change::Reset(Kind::Endpoint, all, _) => {
                let present = endpoint_keys(all);
                let gone: Vec<_> = self
                    .released
                    .keys()
                    .filter(|key| !present.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.forget(&key);
                }
                for stored in all {
                    self.put(stored);
                }
            }
            Change::Put(stored) => self.put(stored),
            Change::Delete(Key::Endpoint(key), _) => self.forget(key),
            Change::Reset(Kind::Replica, ..) | Change::Delete(Key::Replica(_), _) => {}
        }
    }

    fn put(&mut self, stored: &Stored) {
        let Record::Endpoint(record) = &stored.record else {
            return;
        };
        // The usual change: nothing is released, and this is maintained.
        if self.released.is_empty() && record.lease.is_held() {
            return;
        }
        let key = &record.endpoint.key;
        if self
            .released
            .get(key)
            .is_some_and(|wait| wait.revision == stored.revision)
        {
            return;
        }
        self.forget(key);
        if let Some(why) = released(record) {
            self.fresh.push(key.clone());
            if why == Released::Silent {
                *self.silent.entry(key.node.clone()).or_default() += 1;
            }
            self.released.insert(
                key.clone(),
                Wait {
                    revision: stored.revision,
                    why,
                    duration: record.lease.duration(),
                    due: None,
                },
            );
        }
    }

    fn forget(&mut self, key: &EndpointKey) {
        let Some(wait) = self.released.remove(key) else {
            return;
        };
        if let Some(due) = wait.due {
            self.due.remove(&(due, key.clone()));
        }
        if wait.why == Released::Silent
            && let Some(count) = self.silent.get_mut(&key.node)
        {
            *count -= 1;
            if *count == 0 {
                self.silent.remove(&key.node);
            }
        }
    }

    /// The endpoints that go now, at the revisions that were seen. Whoever
    /// deletes them tells what became of it through the watch, or, when a delete
    /// failed, by [`Plan::again`].
    pub fn take_due(&mut self, census: &impl Census) -> Vec<(EndpointKey, Revision)> {
        self.brake(census);
        let braked = self.braked_for();
        let mut taken = Vec::new();
        for (due, key) in self.due.iter().take_while(|(due, _)| *due <= self.counted) {
            let Some(wait) = self.released.get(key) else {
                continue;
            };
            // After a gap a third of its time must pass again.
            let after_gap = self
                .gap_ended
                .is_none_or(|end| self.counted.saturating_duration_since(end) >= wait.duration / 3);
            // A connection that was seen to close is no riddle.
            let allowed = match braked.filter(|_| wait.why == Released::Silent) {
                None => self.allowance.take(after_gap),
                Some(since) => {
                    let over = since >= self.pace.brake_for;
                    self.braked_allowance.take(after_gap && over)
                }
            };
            if allowed {
                taken.push((*due, key.clone(), wait.revision));
            }
        }
        for (due, key, _) in &taken {
            self.due.remove(&(*due, key.clone()));
        }
        taken
            .into_iter()
            .map(|(_, key, revision)| (key, revision))
            .collect()
    }

    /// A delete could not be made; it is due again.
    pub fn again(&mut self, key: &EndpointKey) {
        if let Some(due) = self.released.get(key).and_then(|wait| wait.due) {
            self.due.insert((due, key.clone()));
        }
    }

    /// When many nodes fall silent together, the cause is more likely between
    /// them and us. Those that come back first prove it, so the brake stays until
    /// no node is silent any more.
    fn brake(&mut self, census: &impl Census) {
        let silent = self
            .silent
            .iter()
            .filter(|(node, count)| **count >= census.endpoints_of(node))
            .count();
        let many = silent >= self.pace.brake_nodes
            && silent as f64 > self.pace.brake_share * census.nodes() as f64;
        if silent == 0 {
            self.braked_since = None;
        } else if many {
            self.braked_since.get_or_insert(self.counted);
        }
    }

    /// For how long collecting has been braked, if it is.
    #[must_use]
    pub fn braked_for(&self) -> Option<Duration> {
        let since = self.braked_since?;
        Some(self.counted.saturating_duration_since(since))
    }

    /// How many endpoints are released and wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.released.len()
    }
}

fn released(record: &EndpointRecord) -> Option<Released> {
    // A lease that lost its holder otherwise was released by somebody's silence.
    (!record.lease.is_held()).then(|| record.lease.released.unwrap_or(Released::Silent))
}

#[cfg(test)]
mod tests;
