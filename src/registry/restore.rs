//! What is remembered of endpoints that are not there: ghosts, tombstones and
//! renewals that came too early.

use crate::map::Map;
use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::{EndpointKey, EndpointRecord};

/// How long a ghost is kept. A day: longer than any outage in which a gost
/// process goes on living without its registry.
pub const GHOST_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a Deregister absorbs calls that it has overtaken. gost makes them
/// from different goroutines, so they are a network delay apart.
pub const TOMBSTONE_FOR: Duration = Duration::from_secs(5);
/// How long a Renew for something unknown is remembered.
pub const CLAIM_FOR: Duration = Duration::from_secs(5 * 60);
/// At most so many ghosts, and as many tombstones and claims; the oldest goes first.
pub const MAX_REMEMBERED: usize = 50_000;

/// Things remembered for a fixed time, at most so many, the oldest forgotten first.
#[derive(Debug)]
pub struct Remembered<K, V> {
    entries: Map<K, Thing<V>>,
    /// In the order of time. A thing that was put in anew or taken out leaves
    /// its former place behind, known by its serial.
    order: VecDeque<(u64, K)>,
    serial: u64,
    keep: Duration,
    max: usize,
}

#[derive(Debug)]
struct Thing<V> {
    serial: u64,
    since: Instant,
    value: V,
}

impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    /// Remembers at most `max` things, each for `keep`.
    #[must_use]
    pub fn new(keep: Duration, max: usize) -> Self {
        Self {
            entries: Map::default(),
            order: VecDeque::new(),
            serial: 0,
            keep,
            max,
        }
    }

    /// Remembers `value` from `now` on, in place of what was there.
    pub fn insert(&mut self, key: K, value: V, now: Instant) {
        self.forget_old(now);
        self.serial += 1;
        let serial = self.serial;
        self.order.push_back((serial, key.clone()));
        let since = now;
        self.entries.insert(
            key,
            Thing {
                serial,
                since,
                value,
            },
        );
        while self.entries.len() > self.max {
            self.forget_first();
        }
        if self.order.len() > 2 * self.max {
            let entries = &self.entries;
            self.order.retain(|(serial, key)| {
                entries
                    .get(key)
                    .is_some_and(|thing| thing.serial == *serial)
            });
        }
    }

    /// What is remembered.
    #[must_use]
    pub fn get(&self, key: &K, now: Instant) -> Option<&V> {
        let thing = self.entries.get(key)?;
        self.is_kept(thing, now).then_some(&thing.value)
    }

    /// Takes out what is remembered, with the time it was put in.
    pub fn take(&mut self, key: &K, now: Instant) -> Option<(Instant, V)> {
        let thing = self.entries.remove(key)?;
        self.is_kept(&thing, now)
            .then_some((thing.since, thing.value))
    }

    /// Forgets what has been kept long enough.
    pub fn forget_old(&mut self, now: Instant) {
        while let Some((serial, key)) = self.order.front() {
            let kept = self
                .entries
                .get(key)
                .is_some_and(|thing| thing.serial == *serial && self.is_kept(thing, now));
            if kept {
                break;
            }
            self.forget_first();
        }
    }

    /// How many things are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_kept(&self, thing: &Thing<V>, now: Instant) -> bool {
        now.saturating_duration_since(thing.since) < self.keep
    }

    fn forget_first(&mut self) {
        if let Some((serial, key)) = self.order.pop_front()
            && self
                .entries
                .get(&key)
                .is_some_and(|thing| thing.serial == serial)
        {
            self.entries.remove(&key);
        }
    }
}

/// What a replica remembers of endpoints that it does not have.
#[derive(Debug)]
pub struct Memory {
    /// Endpoints that went without a Deregister: a Renew revives them, because
    /// gost never registers twice.
    pub ghosts: Remembered<EndpointKey, Ghost>,
    /// Connectors that were withdrawn just now, and whether they had been there.
    pub tombstones: Remembered<EndpointKey, Withdrawn>,
    /// Renewals of what is not known yet.
    pub claims: Remembered<EndpointKey, ()>,
}

/// An endpoint that has gone, and what was known of it.
#[derive(Clone, Debug)]
pub struct Ghost {
    /// The endpoint as it was.
    pub record: Arc<EndpointRecord>,
    /// When it was last heard.
    pub heard: Option<Instant>,
    /// The longest interval that was seen of its node.
    pub longest: Duration,
}

/// What a Deregister found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The endpoint: only a late Renew is absorbed.
    Something,
    /// Nothing: the Register may still come, and is absorbed too.
    Nothing,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            ghosts: Remembered::new(GHOST_FOR, MAX_REMEMBERED),
            tombstones: Remembered::new(TOMBSTONE_FOR, MAX_REMEMBERED),
            claims: Remembered::new(CLAIM_FOR, MAX_REMEMBERED),
        }
    }
}

impl Memory {
    /// Forgets what has been kept long enough.
    pub fn forget_old(&mut self, now: Instant) {
        self.ghosts.forget_old(now);
        self.tombstones.forget_old(now);
        self.claims.forget_old(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn things_are_forgotten_in_time() {
        let start = Now::read().mono;
        let mut memory = Remembered::new(5 * SECOND, 10);
        memory.insert("a", 1, start);
        assert_eq!(memory.get(&"a", start + 4 * SECOND), Some(&1));
        assert_eq!(memory.get(&"a", start + 5 * SECOND), None);
        assert_eq!(memory.take(&"a", start + 5 * SECOND), None);
    }

    #[test]
    fn putting_in_again_starts_anew() {
        let start = Now::read().mono;
        let mut memory = Remembered::new(5 * SECOND, 10);
        memory.insert("a", 1, start);
        memory.insert("a", 2, start + 3 * SECOND);
        memory.forget_old(start + 6 * SECOND);
        assert_eq!(memory.get(&"a", start + 6 * SECOND), Some(&2));
        memory.forget_old(start + 8 * SECOND);
        assert!(memory.is_empty());
    }

    #[test]
    fn the_oldest_goes_first_when_there_are_too_many() {
        let start = Now::read().mono;
        let mut memory = Remembered::new(60 * SECOND, 2);
        for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
            memory.insert(key, at, start + SECOND * u32::try_from(at).unwrap());
        }
        assert_eq!(memory.len(), 2);
        assert_eq!(memory.get(&"a", start + 2 * SECOND), None);
        assert_eq!(memory.get(&"c", start + 2 * SECOND), Some(&2));
    }

    #[test]
    fn the_order_does_not_grow_with_repetition() {
        let start = Now::read().mono;
        let mut memory = Remembered::new(60 * SECOND, 2);
        for _ in 0..1000 {
            memory.insert("a", (), start);
        }
        assert!(memory.order.len() <= 4);
        assert_eq!(memory.get(&"a", start), Some(&()));
    }
}
