//! How fast, and how carefully, endpoints are collected.

use std::time::{Duration, Instant};

/// How fast, and how carefully, endpoints are collected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Deletes a second.
    pub per_second: f64,
    /// Deletes a second of what the brake held back, once its wait is over.
    pub braked_per_second: f64,
    /// The longest wait under the brake, from when an endpoint fell silent.
    pub brake_for: Duration,
    /// The brake falls when more than this share of all nodes is silent,
    pub brake_share: f64,
    /// and at least so many are.
    pub brake_nodes: usize,
}

impl Default for Pace {
    /// For a store inside this process.
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

impl Pace {
    /// For an API server that others use too: a fifth of the deletes that it
    /// makes one after the other.
    #[must_use]
    pub fn cluster() -> Self {
        Self {
            per_second: 100.0,
            ..Self::default()
        }
    }
}

/// How often something may be done now: so many times a second, of which so
/// many are saved up; usually a second's.
#[derive(Debug, Default)]
pub struct Allowance {
    saved: f64,
    since: Option<Instant>,
}

impl Allowance {
    /// So many are saved up from the start.
    #[must_use]
    pub fn full(saved: f64) -> Self {
        Self { saved, since: None }
    }

    /// It is `now`, and so many a second are allowed.
    pub fn refill(&mut self, per_second: f64, now: Instant) {
        self.refill_up_to(per_second.max(1.0), per_second, now);
    }

    /// The same, with `most` saved up at most.
    pub fn refill_up_to(&mut self, most: f64, per_second: f64, now: Instant) {
        let last = self.since.replace(now).unwrap_or(now);
        let time = now.saturating_duration_since(last);
        self.saved = (self.saved + per_second * time.as_secs_f64()).min(most);
    }

    /// Takes one if there is one.
    pub fn take(&mut self) -> bool {
        let taken = self.saved >= 1.0;
        if taken {
            self.saved -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    #[test]
    fn a_second_at_most_is_saved_up() {
        let start = Now::read().mono;
        let mut allowance = Allowance::default();
        allowance.refill(10.0, start);
        assert!(!allowance.take(), "nothing is given in advance");
        allowance.refill(10.0, start + Duration::from_millis(250));
        assert!(allowance.take() && allowance.take() && !allowance.take());
        allowance.refill(10.0, start + Duration::from_secs(60));
        assert_eq!((0..20).filter(|_| allowance.take()).count(), 10);
    }

    #[test]
    fn less_than_one_a_second_comes_at_last() {
        let start = Now::read().mono;
        let mut allowance = Allowance::default();
        allowance.refill(0.1, start);
        allowance.refill(0.1, start + Duration::from_secs(9));
        assert!(!allowance.take());
        allowance.refill(0.1, start + Duration::from_secs(11));
        assert!(allowance.take());
    }
}
