//! Things that are remembered for a time, and at most so many.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::map::Map;

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
