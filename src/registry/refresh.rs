//! When leases are written anew: slowly, at a rate that the whole cluster
//! shares, those first that would run out first. Above that rate only as fast as
//! is needed so that none does: after an outage that may be a whole lot.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
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
/// How fast it must be is found out so often: that looks at all that are due.
const PLANNED_FOR: Duration = Duration::from_secs(1);
/// How soon something can be written at the soonest.
const SHORTEST: Duration = Duration::from_millis(100);

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

/// A lease that is to be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    /// From when on.
    at: Instant,
    /// By when it is to be written at the latest.
    by: Instant,
    position: u32,
}

/// Positions of endpoints by when their leases are to be written anew.
#[derive(Debug, Default)]
pub struct Refresh {
    /// Those that are not due yet, but for some that are by now.
    later: BinaryHeap<Reverse<Due>>,
    /// Those that are due, by when they are to be written at the latest.
    due: BTreeSet<(Instant, Instant, u32)>,
    /// How many a second are needed, and since when that is known.
    needed: Option<(Instant, f64)>,
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

    /// Writes the lease of `duration` at `position` anew, from `at` on: by half of
    /// its duration later at the latest, so that a sixth is left for a write that
    /// takes its time.
    pub fn push(&mut self, position: u32, at: Instant, duration: Duration) {
        let by = at + duration / 2;
        self.later.push(Reverse(Due { at, by, position }));
    }

    /// Time passes in which this replica, that holds `mine` of `all` endpoints,
    /// may write its share.
    pub fn pass(&mut self, now: Instant, mine: usize, all: usize, replicas: usize) {
        while let Some(Reverse(first)) = self.later.peek()
            && first.at <= now
        {
            self.due.insert((first.by, first.at, first.position));
            self.later.pop();
        }
        let share = HEADROOM * writes_a_second(replicas) * mine as f64 / all.max(1) as f64;
        let rate = share.max(HEADROOM * self.plan(now));
        let passed = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        let most = (rate * SAVED_FOR.as_secs_f64()).max(1.0);
        // Time in which nothing could be written is not made up for at once.
        let passed = passed.min(SAVED_FOR);
        self.allowance = (self.allowance + rate * passed.as_secs_f64()).min(most);
    }

    fn plan(&mut self, now: Instant) -> f64 {
        match self.needed {
            Some((since, needed)) if now < since + PLANNED_FOR => needed,
            _ => {
                let needed = self.needed(now);
                self.needed = Some((now, needed));
                needed
            }
        }
    }

    /// How many writes a second suffice so that each that is due is made in time.
    /// Nothing saves what should have been written by now.
    fn needed(&self, now: Instant) -> f64 {
        let in_time = self
            .in_time(now)
            .map(|(by, _, _)| (*by - now).as_secs_f64());
        let rates = in_time
            .enumerate()
            .map(|(before, left)| (before + 1) as f64 / left.max(SHORTEST.as_secs_f64()));
        rates.fold(0.0, f64::max)
    }

    fn in_time(&self, now: Instant) -> impl Iterator<Item = &(Instant, Instant, u32)> {
        let from = (now, now + Duration::from_nanos(1), 0);
        self.due.range(from..)
    }

    /// The next that is due, if it may be written now: first who would be late
    /// else, then who is late already. `is_due` tells whether what is at a
    /// position is still to be written since then.
    pub fn take(&mut self, now: Instant, is_due: impl Fn(u32, Instant) -> bool) -> Option<u32> {
        while self.allowance >= 1.0 {
            let next = self.in_time(now).next().or_else(|| self.due.first());
            let next @ (_, at, position) = next.copied()?;
            self.due.remove(&next);
            if is_due(position, at) {
                self.allowance -= 1.0;
                return Some(position);
            }
        }
        None
    }

    /// The one that is due first, to be written now whatever the rate.
    pub fn take_first(&mut self, is_due: impl Fn(u32, Instant) -> bool) -> Option<u32> {
        loop {
            let (position, at) = match self.due.pop_first() {
                Some((_, at, position)) => (position, at),
                None => self
                    .later
                    .pop()
                    .map(|Reverse(due)| (due.position, due.at))?,
            };
            if is_due(position, at) {
                return Some(position);
            }
        }
    }

    /// How many positions wait, those that have become stale among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.later.len() + self.due.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.later.is_empty() && self.due.is_empty()
    }

    /// Drops what has become stale.
    pub fn retain(&mut self, is_due: impl Fn(u32, Instant) -> bool) {
        self.later
            .retain(|Reverse(due)| is_due(due.position, due.at));
        self.due.retain(|(_, at, position)| is_due(*position, *at));
    }
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

    /// Seconds pass in which this replica holds half of all.
    fn pass(refresh: &mut Refresh, now: &mut Instant, seconds: u64) -> Vec<u32> {
        let mut taken = Vec::new();
        for _ in 0..4 * seconds {
            *now += SECOND / 4;
            refresh.pass(*now, 50, 100, 1);
            taken.extend(std::iter::from_fn(|| refresh.take(*now, |_, _| true)));
        }
        taken
    }

    #[test]
    fn the_earliest_goes_first_at_its_replicas_share() {
        let start = Now::read().mono;
        let mut refresh = Refresh::default();
        for position in 0..100 {
            refresh.push(position, start + SECOND * (100 - position), 3_000 * SECOND);
        }
        let mut now = start + 100 * SECOND;
        refresh.pass(now, 50, 100, 1);
        assert!(
            refresh.take(now, |_, _| true).is_none(),
            "no time has passed yet"
        );
        let taken = pass(&mut refresh, &mut now, 10);
        assert_eq!(taken[..3], [99, 98, 97]);
        assert!(
            (54..=56).contains(&taken.len()),
            "5.5 a second, not {} in 10 s",
            taken.len()
        );
    }

    #[test]
    fn who_would_be_late_first_goes_first() {
        let mut now = Now::read().mono;
        let mut refresh = Refresh::default();
        refresh.push(0, now, 600 * SECOND);
        refresh.push(1, now + SECOND, 60 * SECOND);
        assert!(pass(&mut refresh, &mut now, 0).is_empty());
        refresh.push(2, now, 6_000 * SECOND);
        now += SECOND;
        assert_eq!(pass(&mut refresh, &mut now, 10), [1, 0, 2]);
    }

    #[test]
    fn after_an_outage_it_is_only_as_fast_as_is_needed() {
        // All at once would be 64 at a time until the last is written.
        let mut now = Now::read().mono;
        let mut refresh = Refresh::default();
        let duration = 300 * SECOND;
        for position in 0..1_000 {
            refresh.push(position, now, duration);
        }
        // Two thirds of the lease are over: 50 s are left of the 150.
        now += 100 * SECOND;
        let first = pass(&mut refresh, &mut now, 10);
        assert!((200..=240).contains(&first.len()), "{}", first.len());
        let rest = pass(&mut refresh, &mut now, 40);
        let late = 1_000 - first.len() - rest.len();
        assert!(late <= 20, "{late} are late, by less than a second");
        assert_eq!(pass(&mut refresh, &mut now, 5).len(), late);
    }

    #[test]
    fn who_can_still_be_in_time_goes_before_who_is_late() {
        let mut now = Now::read().mono;
        let mut refresh = Refresh::default();
        for position in 0..200 {
            refresh.push(position, now, 60 * SECOND);
        }
        for position in 200..260 {
            refresh.push(position, now, 140 * SECOND);
        }
        now += 60 * SECOND;
        let taken = pass(&mut refresh, &mut now, 10);
        assert!(taken[..60].iter().all(|position| *position >= 200));
        let rest = pass(&mut refresh, &mut now, 10);
        assert!(
            rest.len() <= 60,
            "those that are late go at the usual rate, not {} in 10 s",
            rest.len()
        );
    }

    #[test]
    fn what_is_stale_is_never_written() {
        let now = Now::read().mono;
        let mut refresh = Refresh::default();
        for position in 0..100 {
            refresh.push(position, now, 60 * SECOND);
        }
        let mut at = now;
        let mut taken = 0;
        while !refresh.is_empty() {
            at += SECOND;
            refresh.pass(at, 50, 100, 1);
            let is_due = |position: u32, _| position.is_multiple_of(2);
            taken += std::iter::from_fn(|| refresh.take(at, is_due)).count();
        }
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
