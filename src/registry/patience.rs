//! Time as it is counted against silence: the time in which this process could
//! have heard something.

use std::time::{Duration, Instant};

/// A gap between two looks at the clock that is longer than this is no silence
/// of others: this process was frozen (stopped, swapped out, its machine
/// paused). The clock is looked at several times a second.
const FROZEN_FROM: Duration = Duration::from_secs(3);

/// Turns the clock's time into counted time, leaving out the gaps.
#[derive(Debug)]
pub struct Patience {
    last: Instant,
    left_out: Duration,
}

impl Patience {
    /// Starts counting.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            last: now,
            left_out: Duration::ZERO,
        }
    }

    /// The counted time at `now`.
    pub fn counted(&mut self, now: Instant) -> Instant {
        let gap = now.saturating_duration_since(self.last);
        if gap > FROZEN_FROM {
            self.left_out += gap;
        }
        self.last = self.last.max(now);
        // Never before the start: only what lies after it was left out.
        self.last.checked_sub(self.left_out).unwrap_or(self.last)
    }

    /// How much was left out in all.
    #[must_use]
    pub fn left_out(&self) -> Duration {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_is_counted_while_the_process_runs() {
        let start = Now::read().mono;
        let mut patience = Patience::new(start);
        for second in 1..=100 {
            assert_eq!(
                patience.counted(start + second * SECOND),
                start + second * SECOND
            );
        }
    }

    #[test]
    fn a_frozen_process_counts_nothing() {
        let start = Now::read().mono;
        let mut patience = Patience::new(start);
        patience.counted(start + SECOND);
        assert_eq!(patience.counted(start + 601 * SECOND), start + SECOND);
        assert_eq!(patience.counted(start + 602 * SECOND), start + 2 * SECOND);
        assert_eq!(patience.left_out(), 600 * SECOND);
    }

    #[test]
    fn time_never_goes_back() {
        let start = Now::read().mono;
        let mut patience = Patience::new(start);
        let later = patience.counted(start + 2 * SECOND);
        assert_eq!(patience.counted(start + SECOND), later);
    }
}
