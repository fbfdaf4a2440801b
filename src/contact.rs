//! Time during which the store was there: what others' silence is measured by.
//!
//! A lease that was not renewed while the store could not be reached proves
//! nothing: its holder could not reach it either. So the time between two signs
//! of life of the store counts only if they are close together.

use std::time::{Duration, Instant};

/// Two signs of life that are further apart prove nothing about the time between
/// them: renewals may have been refused in it.
pub const LONGEST_GAP: Duration = Duration::from_secs(15);

/// Counts the time in which the store gave signs of life.
#[derive(Clone, Debug)]
pub struct Contact {
    longest_gap: Duration,
    last: Option<Instant>,
    counted: Instant,
    gap_ended: Option<Instant>,
}

impl Contact {
    /// Nothing was heard of the store yet; its time begins at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            longest_gap: LONGEST_GAP,
            last: None,
            counted: start,
            gap_ended: None,
        }
    }

    /// From now on signs of life may be so far apart, instead of [`LONGEST_GAP`].
    pub fn allow_gap(&mut self, gap: Duration) {
        self.longest_gap = gap;
    }

    /// The store gave a sign of life. Returns the time that is counted for it.
    pub fn heard(&mut self, now: Instant) -> Duration {
        let gap = self.last.map(|last| now.saturating_duration_since(last));
        self.last = Some(now);
        match gap {
            Some(gap) if gap <= self.longest_gap => {
                self.counted += gap;
                gap
            }
            Some(_) => {
                self.gap_ended = Some(self.counted);
                Duration::ZERO
            }
            None => Duration::ZERO,
        }
    }

    /// The counted time of the last sign of life.
    #[must_use]
    pub fn counted(&self) -> Instant {
        self.counted
    }

    /// When the store last gave a sign of life, by the caller's clock.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Whether `time` has passed since `since` (counted), and after the last gap
    /// at least a third of it.
    #[must_use]
    pub fn has_passed(&self, since: Instant, time: Duration) -> bool {
        let passed = |from| self.counted.saturating_duration_since(from);
        passed(since) >= time && self.gap_ended.is_none_or(|end| passed(end) >= time / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_time_between_signs_of_life_counts() {
        let start = Now::read().mono;
        let mut contact = Contact::new(start);
        assert_eq!(contact.heard(start + 100 * SECOND), Duration::ZERO);
        assert_eq!(contact.heard(start + 115 * SECOND), 15 * SECOND);
        assert!(contact.has_passed(start, 15 * SECOND));
        assert!(!contact.has_passed(start, 16 * SECOND));
        assert_eq!(contact.heard(start + 131 * SECOND), Duration::ZERO);
        assert_eq!(contact.counted(), start + 15 * SECOND);
        assert_eq!(contact.last(), Some(start + 131 * SECOND));
    }

    #[test]
    fn after_a_gap_a_third_must_pass_again() {
        let start = Now::read().mono;
        let mut contact = Contact::new(start);
        for second in [0, 10, 20, 30, 50] {
            contact.heard(start + second * SECOND);
        }
        assert!(!contact.has_passed(start, 30 * SECOND));
        contact.heard(start + 59 * SECOND);
        assert!(!contact.has_passed(start, 30 * SECOND));
        contact.heard(start + 60 * SECOND);
        assert!(contact.has_passed(start, 30 * SECOND));
    }

    #[test]
    fn gaps_may_be_longer_or_must_be_shorter() {
        let start = Now::read().mono;
        let mut contact = Contact::new(start);
        contact.allow_gap(3 * SECOND);
        contact.heard(start);
        assert_eq!(contact.heard(start + 4 * SECOND), Duration::ZERO);
        contact.allow_gap(60 * SECOND);
        assert_eq!(contact.heard(start + 64 * SECOND), 60 * SECOND);
    }
}
