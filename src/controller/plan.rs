//! When a released endpoint goes. Pure: the store's changes and the time come
//! in, the endpoints to delete come out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::backend::{Change, Revision, Stored};
use crate::lease::Released;
use crate::record::{EndpointKey, EndpointRecord, Key, Name, Record};

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
    released: HashMap<EndpointKey, Wait>,
    /// By the counted time at which they are due.
    due: BTreeSet<(Instant, EndpointKey)>,
    /// How many endpoints each node has lost to silence.
    silent: HashMap<Name, usize>,
    /// The store's last sign of life.
    contact: Option<Instant>,
    /// Time during which the store was there, on its own scale.
    counted: Instant,
    /// The counted time at which the last gap ended.
    gap_ended: Option<Instant>,
    braked_since: Option<Instant>,
    allowance: f64,
}

#[derive(Debug)]
struct Wait {
    revision: Revision,
    why: Released,
    due: Instant,
    /// A third of its time must pass after a gap.
    third: Duration,
}

impl Plan {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            released: HashMap::new(),
            due: BTreeSet::new(),
            silent: HashMap::new(),
            contact: None,
            counted: now,
            gap_ended: None,
            braked_since: None,
            allowance: 0.0,
        }
    }

    /// The store answered a request of ours: time since its last answer counts,
    /// unless that was too long ago.
    pub fn contact(&mut self, now: Instant) {
        if let Some(last) = self.contact {
            let gap = now.saturating_duration_since(last);
            if gap <= LONGEST_GAP {
                self.counted += gap;
                let most = self.rate(now).max(1.0);
                self.allowance = (self.allowance + self.rate(now) * gap.as_secs_f64()).min(most);
            } else {
                self.gap_ended = Some(self.counted);
            }
        }
        self.contact = Some(now);
    }

    fn rate(&self, now: Instant) -> f64 {
        if self
            .braked_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.pace.brake_for)
        {
            self.pace.braked_per_second
        } else {
            self.pace.per_second
        }
    }

    /// The store's watch tells a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Reset(all, _) => {
                let present: HashSet<EndpointKey> = all
                    .iter()
                    .map(|stored| match &stored.record {
                        Record::Endpoint(record) => record.endpoint.key.clone(),
                    })
                    .collect();
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
        }
    }

    fn put(&mut self, stored: &Stored) {
        let Record::Endpoint(record) = &stored.record;
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
            let duration = record.lease.duration();
            let due = self.counted + duration;
            self.due.insert((due, key.clone()));
            if why == Released::Silent {
                *self.silent.entry(key.node.clone()).or_default() += 1;
            }
            self.released.insert(
                key.clone(),
                Wait {
                    revision: stored.revision,
                    why,
                    due,
                    third: duration / 3,
                },
            );
        }
    }

    fn forget(&mut self, key: &EndpointKey) {
        let Some(wait) = self.released.remove(key) else {
            return;
        };
        self.due.remove(&(wait.due, key.clone()));
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
    pub fn take_due(&mut self, now: Instant, census: &impl Census) -> Vec<(EndpointKey, Revision)> {
        self.brake(now, census);
        let waits = self
            .braked_since
            .is_some_and(|since| now.saturating_duration_since(since) < self.pace.brake_for);
        let mut taken = Vec::new();
        for (due, key) in &self.due {
            if *due > self.counted || self.allowance < 1.0 {
                break;
            }
            let Some(wait) = self.released.get(key) else {
                continue;
            };
            let after_gap = self
                .gap_ended
                .is_none_or(|end| self.counted.saturating_duration_since(end) >= wait.third);
            if !after_gap || (waits && wait.why == Released::Silent) {
                continue;
            }
            self.allowance -= 1.0;
            taken.push((due.to_owned(), key.clone(), wait.revision));
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
        if let Some(wait) = self.released.get(key) {
            self.due.insert((wait.due, key.clone()));
        }
    }

    /// When many nodes fall silent together, the cause is more likely between
    /// them and us.
    fn brake(&mut self, now: Instant, census: &impl Census) {
        let silent = self
            .silent
            .iter()
            .filter(|(node, count)| **count >= census.endpoints_of(node))
            .count();
        let many = silent >= self.pace.brake_nodes
            && silent as f64 > self.pace.brake_share * census.nodes() as f64;
        if many {
            self.braked_since.get_or_insert(now);
        } else {
            self.braked_since = None;
        }
    }

    /// Since when collecting is braked, if it is.
    #[must_use]
    pub fn braked_since(&self) -> Option<Instant> {
        self.braked_since
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
