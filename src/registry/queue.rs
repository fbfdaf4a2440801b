//! The order of writes: which record is written next, and when again after a
//! failure. Pure; `writeback.rs` does what it says.
//!
//! The queue holds keys only. What is written is decided when a key's turn
//! comes, so any number of changes to one record make one write, and a record
//! has at most one write under way.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::map::Map;

/// The first wait after a failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait for a store that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest wait for a single record that the store refuses.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How a write ended, as far as the order of writes is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The store holds what was to be written.
    Done,
    /// Nothing was written, because nothing had to be.
    Needless,
    /// Somebody else was first; decide and write anew, soon.
    Conflict,
    /// The store will not take this record for now.
    Refused,
    /// The store is away: this and every other write waits.
    Unavailable,
}

/// Keys whose records are to be written.
#[derive(Debug)]
pub struct Queue<K> {
    slots: Map<K, Slot>,
    /// Keys that wait, by the time they are due.
    waiting: BTreeMap<(Instant, u64), K>,
    /// All keys, by the time they came.
    arrivals: BTreeSet<(Instant, u64)>,
    in_flight: usize,
    serial: u64,
    /// Failures in a row for which the store itself was to blame.
    outage: u32,
    /// While the store is away nothing is tried before this.
    paused_until: Option<Instant>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Slot {
    arrival: (Instant, u64),
    due: (Instant, u64),
    failures: u32,
    state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Waiting,
    InFlight,
    /// Under way, and changed meanwhile: once more afterwards.
    Again,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue; `random` spreads retries.
    #[must_use]
    pub fn new(random: fastrand::Rng) -> Self {
        Self {
            slots: Map::default(),
            waiting: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            in_flight: 0,
            serial: 0,
            outage: 0,
            paused_until: None,
            random,
        }
    }

    /// The record of `key` is to be written.
    pub fn push(&mut self, key: &K, now: Instant) {
        if let Some(slot) = self.slots.get_mut(key) {
            if slot.state == SlotState::InFlight {
                slot.state = SlotState::Again;
            }
            return;
        }
        self.serial += 1;
        let place = (now, self.serial);
        self.arrivals.insert(place);
        self.waiting.insert(place, key.clone());
        self.slots.insert(
            key.clone(),
            Slot {
                arrival: place,
                due: place,
                failures: 0,
                state: SlotState::Waiting,
            },
        );
    }

    /// The record of `key` need not be written after all. Nothing is done when
    /// its write is under way. Returns whether the key has left the queue.
    pub fn cancel(&mut self, key: &K) -> bool {
        let Some(slot) = self.slots.get(key) else {
            return true;
        };
        if slot.state != SlotState::Waiting {
            return false;
        }
        self.waiting.remove(&slot.due);
        self.arrivals.remove(&slot.arrival);
        self.slots.remove(key);
        true
    }

    /// Takes the next key that is due. While the store is away one at a time
    /// tries whether it is back.
    pub fn take(&mut self, now: Instant) -> Option<K> {
        if self.outage > 0
            && (self.in_flight > 0 || self.paused_until.is_some_and(|until| now < until))
        {
            return None;
        }
        let first = self.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let key = first.remove();
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.state = SlotState::InFlight;
            self.in_flight += 1;
        }
        Some(key)
    }

    /// The write of a key that was taken has ended. Returns whether the key has
    /// left the queue.
    pub fn ended(&mut self, key: &K, how: Ended, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(key) else {
            return true;
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        match how {
            // Those that fail together are one failure.
            Ended::Unavailable if self.paused_until.is_none_or(|until| now >= until) => {
                self.outage = self.outage.saturating_add(1);
                let wait = spread(backoff(self.outage, LONGEST_PAUSE), &mut self.random);
                self.paused_until = Some(now + wait);
            }
            Ended::Unavailable | Ended::Needless => {}
            Ended::Done | Ended::Conflict | Ended::Refused => {
                self.outage = 0;
                self.paused_until = None;
            }
        }
        let wait = match how {
            Ended::Done | Ended::Needless if slot.state != SlotState::Again => {
                self.arrivals.remove(&slot.arrival);
                self.slots.remove(key);
                return true;
            }
            Ended::Done | Ended::Needless => {
                slot.failures = 0;
                Duration::ZERO
            }
            Ended::Unavailable => Duration::ZERO,
            Ended::Conflict | Ended::Refused => {
                slot.failures = slot.failures.saturating_add(1);
                // The first conflict is the usual one: somebody was faster.
                if how == Ended::Conflict && slot.failures == 1 {
                    Duration::ZERO
                } else {
                    spread(backoff(slot.failures, LONGEST_WAIT), &mut self.random)
                }
            }
        };
        slot.state = SlotState::Waiting;
        // Behind those that are due now: while the store is away each has its
        // turn to find out whether it is back.
        self.serial += 1;
        slot.due = (now + wait, self.serial);
        self.waiting.insert(slot.due, key.clone());
        false
    }

    /// When [`Queue::take`] has something to give if nothing else happens; none
    /// while nothing waits, or while a write under way decides.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let (due, _) = self.waiting.first_key_value()?.0;
        if self.outage == 0 {
            return Some(*due);
        }
        (self.in_flight == 0).then(|| self.paused_until.map_or(*due, |until| until.max(*due)))
    }

    /// Whether a write of `key` waits or is under way.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.slots.contains_key(key)
    }

    /// How many writes wait or are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing waits or is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How long the oldest has been in the queue.
    #[must_use]
    pub fn oldest_age(&self, now: Instant) -> Duration {
        self.arrivals.first().map_or(Duration::ZERO, |(since, _)| {
            now.saturating_duration_since(*since)
        })
    }

    /// Whether the store failed at the last attempt.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.outage > 0
    }
}

fn backoff(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    FIRST_WAIT.saturating_mul(1 << doublings).min(longest)
}

/// Between three quarters and five quarters of `wait`, so that many who failed
/// together do not come back together.
fn spread(wait: Duration, random: &mut fastrand::Rng) -> Duration {
    wait.mul_f64(0.75 + random.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue() -> (Queue<&'static str>, Instant) {
        (Queue::new(fastrand::Rng::with_seed(1)), Now::read().mono)
    }

    #[test]
    fn keys_are_taken_in_the_order_they_came() {
        let (mut queue, now) = queue();
        queue.push(&"a", now);
        queue.push(&"b", now);
        assert_eq!(queue.take(now), Some("a"));
        assert_eq!(queue.take(now), Some("b"));
        assert_eq!(queue.take(now), None);
        assert!(queue.ended(&"b", Ended::Done, now));
        assert!(queue.ended(&"a", Ended::Done, now));
        assert!(queue.is_empty());
    }

    #[test]
    fn many_changes_make_one_write_and_one_more_if_it_was_under_way() {
        let (mut queue, now) = queue();
        queue.push(&"a", now);
        queue.push(&"a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.push(&"a", now);
        queue.push(&"a", now);
        assert_eq!(queue.take(now), None, "one write at a time for one record");
        assert!(!queue.ended(&"a", Ended::Done, now));
        assert_eq!(queue.take(now), Some("a"));
        assert!(queue.ended(&"a", Ended::Done, now));
    }

    #[test]
    fn an_outage_pauses_everything_and_is_probed_one_at_a_time() {
        let (mut queue, mut now) = queue();
        for key in ["a", "b", "c"] {
            queue.push(&key, now);
        }
        assert_eq!(queue.take(now), Some("a"));
        assert_eq!(queue.take(now), Some("b"));
        queue.ended(&"a", Ended::Unavailable, now);
        assert_eq!(queue.next_due(), None, "the other one under way decides");
        queue.ended(&"b", Ended::Unavailable, now);
        assert_eq!(queue.take(now), None);
        let mut probed = BTreeSet::new();
        for _ in 0..20 {
            now = queue.next_due().unwrap();
            let key = queue.take(now).unwrap();
            probed.insert(key);
            assert_eq!(queue.take(now), None);
            queue.ended(&key, Ended::Unavailable, now);
        }
        assert_eq!(probed.len(), 3, "each has its turn");
        assert!(queue.next_due().unwrap() - now <= LONGEST_PAUSE.mul_f64(1.25));
        assert_eq!(queue.len(), 3);
        now = queue.next_due().unwrap();
        let back = queue.take(now).unwrap();
        queue.ended(&back, Ended::Done, now);
        assert!(!queue.store_is_away());
        assert!(queue.take(now).is_some() && queue.take(now).is_some());
    }

    #[test]
    fn what_waits_can_be_cancelled_and_what_is_under_way_not() {
        let (mut queue, now) = queue();
        queue.push(&"a", now);
        assert!(queue.cancel(&"a"));
        assert!(queue.is_empty() && queue.next_due().is_none());
        queue.push(&"b", now);
        queue.take(now);
        assert!(!queue.cancel(&"b"));
        assert!(queue.ended(&"b", Ended::Done, now));
    }

    #[test]
    fn a_refused_record_does_not_hold_up_the_others() {
        let (mut queue, now) = queue();
        queue.push(&"bad", now);
        queue.push(&"good", now);
        assert_eq!(queue.take(now), Some("bad"));
        queue.ended(&"bad", Ended::Refused, now);
        assert_eq!(queue.take(now), Some("good"));
        queue.ended(&"good", Ended::Done, now);
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.take(now + SECOND), Some("bad"));
        assert_eq!(queue.oldest_age(now + SECOND), SECOND);
    }

    #[test]
    fn the_first_conflict_is_tried_again_at_once() {
        let (mut queue, now) = queue();
        queue.push(&"a", now);
        queue.take(now);
        queue.ended(&"a", Ended::Conflict, now);
        assert_eq!(queue.take(now), Some("a"));
        queue.ended(&"a", Ended::Conflict, now);
        assert_eq!(queue.take(now), None);
        assert!(queue.next_due().unwrap() - now < SECOND);
    }
}
