//! Previous lives: a gost that restarts comes back with a new node id at the
//! same address, and nobody deregisters what it left behind.
//!
//! When a node appears at an address that another node of the same origin
//! already has, that one is *challenged*: if it is heard again, both live
//! behind one address and both stay; if it is not, it was a previous life.

use std::time::{Duration, Instant};

use crate::map::Map;
use crate::record::Name;

/// A challenged node is given at least two of gost's default intervals to be heard.
const LEAST_WAIT: Duration = Duration::from_secs(30);

/// The nodes that may be previous lives.
#[derive(Debug, Default)]
pub struct Lives {
    challenged: Map<Name, Challenge>,
}

#[derive(Debug)]
struct Challenge {
    since: Instant,
    wait: Duration,
}

impl Lives {
    /// A new node appeared where `node` is, which has `wait` to be heard, and
    /// never less than 30 s.
    pub fn challenge(&mut self, node: &Name, wait: Duration, now: Instant) {
        self.challenged.entry(node.clone()).or_insert(Challenge {
            since: now,
            wait: wait.max(LEAST_WAIT),
        });
    }

    /// `node` was heard. Returns whether it had been challenged: then two nodes
    /// live behind one address.
    pub fn heard(&mut self, node: &Name) -> bool {
        !self.challenged.is_empty() && self.challenged.remove(node).is_some()
    }

    /// `node` has no endpoints any more.
    pub fn forget(&mut self, node: &Name) {
        self.challenged.remove(node);
    }

    /// Whether `node` may be a previous life.
    #[must_use]
    pub fn is_challenged(&self, node: &Name) -> bool {
        !self.challenged.is_empty() && self.challenged.contains_key(node)
    }

    /// Whether `node` was a previous life: it was challenged, and was not heard
    /// in the time it was given.
    #[must_use]
    pub fn is_over(&self, node: &Name, now: Instant) -> bool {
        !self.challenged.is_empty()
            && self.challenged.get(node).is_some_and(|challenge| {
                now.saturating_duration_since(challenge.since) >= challenge.wait
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::name;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_that_stays_silent_was_a_previous_life() {
        let start = Now::read().mono;
        let mut lives = Lives::default();
        lives.challenge(&name("old"), 10 * SECOND, start);
        assert!(lives.is_challenged(&name("old")));
        assert!(!lives.is_over(&name("old"), start + 29 * SECOND));
        assert!(lives.is_over(&name("old"), start + 30 * SECOND));
    }

    #[test]
    fn a_slow_node_is_given_its_own_time() {
        let start = Now::read().mono;
        let mut lives = Lives::default();
        lives.challenge(&name("slow"), 240 * SECOND, start);
        assert!(!lives.is_over(&name("slow"), start + 239 * SECOND));
        assert!(lives.is_over(&name("slow"), start + 240 * SECOND));
    }

    #[test]
    fn a_second_challenge_does_not_start_the_time_anew() {
        let start = Now::read().mono;
        let mut lives = Lives::default();
        lives.challenge(&name("old"), SECOND, start);
        lives.challenge(&name("old"), SECOND, start + 20 * SECOND);
        assert!(lives.is_over(&name("old"), start + 30 * SECOND));
    }

    #[test]
    fn a_node_that_is_heard_stays() {
        let start = Now::read().mono;
        let mut lives = Lives::default();
        lives.challenge(&name("other"), SECOND, start);
        assert!(lives.heard(&name("other")));
        assert!(!lives.heard(&name("other")));
        assert!(!lives.is_over(&name("other"), start + 60 * SECOND));
    }
}
