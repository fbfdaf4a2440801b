//! When leases are written anew: slowly, earliest deadline first, at a rate that
//! the whole cluster shares.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// All replicas together write so many leases of endpoints a second at most.
const WRITES_A_SECOND: f64 = 10.0;
/// And each such write is told to every replica: at most so many tellings a second.
const TOLD_A_SECOND: f64 = 2_000.0;
/// A replica may go so much above its share, since the spread of deadlines makes
/// some seconds fuller than others.
const HEADROOM: f64 = 1.1;
/// Writes that were not needed are not saved up for longer than this.
const SAVED_FOR: Duration = Duration::from_secs(2);

/// How many leases of endpoints all replicas together may write a second, when
/// there are so many replicas: `min(10, 2,000 / replicas)`.
#[must_use]
pub fn writes_a_second(replicas: usize) -> f64 {
    WRITES_A_SECOND.min(TOLD_A_SECOND / replicas.max(1) as f64)
}

/// How long the lease of an endpoint is valid when it is written slowly:
/// `max(least, 3 · endpoints / writes a second)`, in whole seconds. It is written
/// anew after a third, so that is what the rate allows.
#[must_use]
pub fn stretched(least: Duration, endpoints: usize, replicas: usize) -> Duration {
    let seconds = 3.0 * endpoints as f64 / writes_a_second(replicas);
    least.max(Duration::from_secs(seconds.ceil() as u64))
}

/// Positions of endpoints by when their leases are to be written anew.
#[derive(Debug, Default)]
pub struct Refresh {
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    allowance: f64,
    last: Option<Instant>,
}

impl Refresh {
    /// When a lease that was written at `at` for `duration` is to be written anew:
    /// after a third, a tenth of that sooner or later.
    #[must_use]
    pub fn after(at: Instant, duration: Duration, random: &mut fastrand::Rng) -> Instant {
        at + (duration / 3).mul_f64(0.9 + 0.2 * random.f64())
    }

    /// Looks at the endpoint at `position` at `due`.
    pub fn push(&mut self, position: u32, due: Instant) {
        self.due.push(Reverse((due, position)));
    }

    /// Time passes in which this replica, that holds `mine` of `all` endpoints,
    /// may write its share.
    pub fn pass(&mut self, at: Instant, mine: usize, all: usize, replicas: usize) {
        let rate = HEADROOM * writes_a_second(replicas) * mine as f64 / all.max(1) as f64;
        let passed = self
            .last
            .map_or(Duration::ZERO, |last| at.saturating_duration_since(last));
        self.last = Some(at);
        let most = (rate * SAVED_FOR.as_secs_f64()).max(1.0);
        self.allowance = (self.allowance + rate * passed.as_secs_f64()).min(most);
    }

    /// The next that is due, if it may be written now. `look` tells what is at a
    /// position that was to be looked at then.
    pub fn take(&mut self, at: Instant, look: impl Fn(u32, Instant) -> Look) -> Option<u32> {
        while let Some(Reverse((due, position))) = self.due.peek().copied() {
            if due > at {
                return None;
            }
            match look(position, due) {
                Look::Stale => {
                    self.due.pop();
                }
                Look::CanWait if self.allowance < 1.0 => return None,
                Look::CanWait | Look::Urgent => {
                    self.allowance = (self.allowance - 1.0).max(0.0);
                    self.due.pop();
                    return Some(position);
                }
            }
        }
        None
    }

    /// How many positions wait, those that have become stale among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Drops what has become stale.
    pub fn retain(&mut self, look: impl Fn(u32, Instant) -> Look) {
        self.due
            .retain(|Reverse((due, position))| look(*position, *due) != Look::Stale);
    }
}

/// What was found at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing that is due at that time any more.
    Stale,
    /// It is due, and may wait for its turn.
    CanWait,
    /// It would lapse soon.
    Urgent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn leases_are_stretched_with_their_number() {
        let stretched = |endpoints, replicas| stretched(60 * SECOND, endpoints, replicas).as_secs();
        assert_eq!(stretched(0, 0), 60);
        assert_eq!(stretched(200, 1), 60);
        assert_eq!(stretched(10_000, 1), 3_000);
        assert_eq!(stretched(10_000, 200), 3_000);
        assert_eq!(stretched(10_000, 400), 6_000);
        assert!((writes_a_second(2_000) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_earliest_goes_first_at_its_replicas_share() {
        let start = Now::read().mono;
        let mut refresh = Refresh::default();
        for position in 0..100 {
            refresh.push(position, start + SECOND * (100 - position));
        }
        let now = start + 100 * SECOND;
        refresh.pass(now, 50, 100, 1);
        let take = |refresh: &mut Refresh, now| {
            std::iter::from_fn(|| refresh.take(now, |_, _| Look::CanWait)).collect::<Vec<_>>()
        };
        assert!(take(&mut refresh, now).is_empty(), "no time has passed yet");
        let mut taken = Vec::new();
        for second in 1..=10 {
            let now = now + second * SECOND;
            refresh.pass(now, 50, 100, 1);
            taken.extend(take(&mut refresh, now));
        }
        assert_eq!(taken[..3], [99, 98, 97]);
        assert!(
            (54..=56).contains(&taken.len()),
            "5.5 a second, not {} in 10 s",
            taken.len()
        );
    }

    #[test]
    fn what_would_lapse_is_written_above_the_rate_and_what_is_stale_never() {
        let now = Now::read().mono;
        let mut refresh = Refresh::default();
        for position in 0..100 {
            refresh.push(position, now);
        }
        let look = |position: u32, _| match position % 2 {
            0 => Look::Urgent,
            _ => Look::Stale,
        };
        let taken = std::iter::from_fn(|| refresh.take(now, look)).count();
        assert_eq!((taken, refresh.len()), (50, 0));
    }

    #[test]
    fn deadlines_spread() {
        let now = Now::read().mono;
        let mut random = fastrand::Rng::with_seed(1);
        let mut due: Vec<_> = (0..1_000)
            .map(|_| Refresh::after(now, 60 * SECOND, &mut random) - now)
            .collect();
        due.sort();
        assert!(due[0] >= 18 * SECOND && due[999] <= 22 * SECOND);
        assert!(due[900] - due[100] > 3 * SECOND);
    }
}
