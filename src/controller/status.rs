//! Which endpoints may need another status, and when it is written. Pure.
//!
//! The queue holds keys only: what is written is decided when a key's turn comes,
//! so any number of changes makes one write, and most make none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::controller::plan::Allowance;
use crate::map::Set;
use crate::record::EndpointKey;

/// Writes of statuses in all, a second.
const PER_SECOND: f64 = 20.0;
/// How long a change waits: much is undone, or done with, in that time.
const LAZY: Duration = Duration::from_secs(3);
/// At most so many keys are looked at together.
const LOOKED_AT: usize = 5_000;

/// The endpoints whose status may have to change.
#[derive(Debug, Default)]
pub struct StatusQueue {
    queue: VecDeque<(Instant, EndpointKey)>,
    queued: Set<EndpointKey>,
    allowance: Allowance,
}

impl StatusQueue {
    /// An endpoint's status may have to change.
    pub fn push(&mut self, key: EndpointKey, now: Instant) {
        if self.queued.insert(key.clone()) {
            self.queue.push_back((now + LAZY, key));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.queued.clear();
    }

    /// What is to be written now; `write` tells for an endpoint what, if anything.
    pub fn take<W>(
        &mut self,
        now: Instant,
        mut write: impl FnMut(&EndpointKey) -> Option<W>,
    ) -> Vec<W> {
        self.allowance.refill(PER_SECOND, now);
        let mut writes = Vec::new();
        for _ in 0..LOOKED_AT {
            let Some((_, key)) = self.queue.front().filter(|(due, _)| *due <= now) else {
                break;
            };
            if let Some(wanted) = write(key) {
                if !self.allowance.take() {
                    break;
                }
                writes.push(wanted);
            }
            if let Some((_, key)) = self.queue.pop_front() {
                self.queued.remove(&key);
            }
        }
        writes
    }

    /// How many endpoints are queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::key;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_change_waits_and_is_written_once() {
        let now = Now::read().mono;
        let mut queue = StatusQueue::default();
        queue.push(key("t", "n", "c"), now);
        queue.push(key("t", "n", "c"), now + SECOND);
        let mut take = |at| queue.take(at, |key| Some(key.clone()));
        assert!(take(now + 2 * SECOND).is_empty());
        assert_eq!(take(now + LAZY), [key("t", "n", "c")]);
        assert!(take(now + 60 * SECOND).is_empty());
    }

    #[test]
    fn writes_keep_to_their_rate_and_nothing_is_lost() {
        let start = Now::read().mono;
        let mut queue = StatusQueue::default();
        for connector in 0..100 {
            queue.push(key("t", "n", &connector.to_string()), start);
        }
        queue.take(start + LAZY - SECOND, |_| Some(()));
        let mut written = Vec::new();
        for second in 0..5 {
            let now = start + LAZY + SECOND * second;
            written.push(queue.take(now, |_| Some(())).len());
        }
        assert_eq!(written, [20; 5]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_needs_no_write_costs_none() {
        let start = Now::read().mono;
        let mut queue = StatusQueue::default();
        for connector in 0..LOOKED_AT + 1 {
            queue.push(key("t", "n", &connector.to_string()), start);
        }
        assert!(queue.take(start + LAZY, |_| None::<()>).is_empty());
        assert_eq!(queue.len(), 1);
        queue.clear();
        queue.push(key("t", "n", "0"), start);
        assert_eq!(queue.len(), 1);
    }
}
