//! The order of writes: which record is written next, and when again after a
//! failure. Pure; `writeback.rs` does what it says.
//!
//! The queue holds keys only. What is written is decided when a key's turn
//! comes, so any number of changes to one record make one write, and a record
//! has at most one write under way.
//!
//! A store that cannot take a write is away, or it is that one record's fault
//! (something on the way to the store chokes on it). One record alone proves
//! nothing: the store is away once two have failed and nothing was answered in
//! between. A record that failed again though others were answered since is to
//! blame itself from then on: it waits by itself, and holds nobody up.

#[cfg(test)]
mod tests;

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
    /// Nothing was answered, or that nothing can be written now.
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
    /// Writes under way, but for those of records that are to blame themselves.
    in_flight: usize,
    serial: u64,
    /// How many writes the store has answered.
    answers: u64,
    /// The record, not known to be to blame, that failed first since the last
    /// answer.
    doubted: Option<K>,
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
    /// How many writes the store had answered when this one failed.
    failed_at: Option<u64>,
    /// Whether it failed again though others were answered: it is to blame.
    to_blame: bool,
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
            answers: 0,
            doubted: None,
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
                failed_at: None,
                to_blame: false,
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
            self.in_flight += usize::from(!slot.to_blame);
        }
        Some(key)
    }

    /// The write of a key that was taken has ended. Returns whether the key has
    /// left the queue.
    pub fn ended(&mut self, key: &K, how: Ended, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(key) else {
            return true;
        };
        self.in_flight = self.in_flight.saturating_sub(usize::from(!slot.to_blame));
        match how {
            Ended::Done | Ended::Conflict | Ended::Refused => {
                self.answers += 1;
                self.doubted = None;
                self.outage = 0;
                self.paused_until = None;
                slot.to_blame = false;
                // It was answered: what failed before says nothing about it.
                if slot.failed_at.take().is_some() {
                    slot.failures = 0;
                }
            }
            Ended::Unavailable | Ended::Needless => {}
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
            Ended::Unavailable => {
                let before = slot.failed_at.replace(self.answers);
                slot.to_blame |= before.is_some_and(|before| before < self.answers);
                let alone = self.doubted.as_ref().is_none_or(|doubted| doubted == key);
                if slot.to_blame || (alone && self.outage == 0) {
                    slot.failures = slot.failures.saturating_add(1);
                    let longest = match slot.to_blame {
                        true => LONGEST_WAIT,
                        false => LONGEST_PAUSE,
                    };
                    if !slot.to_blame {
                        self.doubted = Some(key.clone());
                    }
                    spread(backoff(slot.failures, longest), &mut self.random)
                } else {
                    // Those that fail together are one failure.
                    if self.paused_until.is_none_or(|until| now >= until) {
                        self.outage = self.outage.saturating_add(1);
                        let wait = backoff(self.outage, LONGEST_PAUSE);
                        self.paused_until = Some(now + spread(wait, &mut self.random));
                    }
                    Duration::ZERO
                }
            }
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

    /// Whether the store failed at the last attempt, as far as that is not the
    /// fault of a record.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.is_paused() || self.doubted.is_some()
    }

    /// Whether nothing is to be written because the store is certainly away.
    #[must_use]
    pub fn is_paused(&self) -> bool {
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
