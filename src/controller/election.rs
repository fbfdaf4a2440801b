//! Which of several controllers acts. Pure; [`lease`] speaks to the API server.
//!
//! As Kubernetes' own controllers: one holds a Lease and renews it; the others
//! take it when it stayed as it is for its duration, on their own monotonic
//! clock. Every write is conditional on the version that was seen. Two leaders at
//! once would do no harm, since deletes are conditional too: the election only
//! saves work.

pub mod lease;

use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest lease of another that is believed: somebody may have written
/// anything.
const LONGEST_LEASE: Duration = Duration::from_secs(300);

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long a lease is valid that is not renewed.
    pub lease: Duration,
    /// A leader that could not renew for so long leads no more.
    pub renew_deadline: Duration,
    /// How often it is renewed, or looked at.
    pub retry: Duration,
}

impl Times {
    /// The times of Kubernetes' own controllers (15 s, 10 s, 2 s) scaled to a
    /// lease of another length.
    #[must_use]
    pub fn of(lease: Duration) -> Self {
        Self {
            lease,
            renew_deadline: lease * 2 / 3,
            retry: lease * 2 / 15,
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::of(Duration::from_secs(15))
    }
}

/// The Lease as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// Its version: another one is a renewal.
    pub version: String,
    /// How long it is valid.
    pub duration: Duration,
    /// How often the holder has changed.
    pub transitions: i32,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease.
    Read,
    /// Make it: there is none.
    Create,
    /// Take it at this version, as the holder after so many changes.
    Take(String, i32),
    /// Renew it at this version.
    Renew(String, i32),
    /// Leave it to its holder.
    Wait,
}

/// What this controller knows of the election.
#[derive(Debug)]
pub struct Election {
    identity: Arc<str>,
    times: Times,
    seen: Seen,
    /// When the last renewal that was made was asked for.
    renewed: Option<Instant>,
}

#[derive(Debug)]
enum Seen {
    /// Nothing, or a write of ours may have changed it.
    Nothing,
    Absent,
    There(Stored, Instant),
}

impl Election {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(identity: Arc<str>, times: Times) -> Self {
        Self {
            identity,
            times,
            seen: Seen::Nothing,
            renewed: None,
        }
    }

    /// The times of the election.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times
    }

    /// Who this is.
    #[must_use]
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// Whether this one may act.
    #[must_use]
    pub fn is_leader(&self, now: Instant) -> bool {
        let age = |asked| now.saturating_duration_since(asked);
        self.renewed
            .is_some_and(|asked| age(asked) < self.times.renew_deadline)
    }

    /// The Lease was read.
    pub fn read(&mut self, stored: Option<Stored>, now: Instant) {
        self.seen = match (stored, std::mem::replace(&mut self.seen, Seen::Nothing)) {
            (None, _) => Seen::Absent,
            (Some(stored), Seen::There(before, since)) if before.version == stored.version => {
                Seen::There(stored, since)
            }
            (Some(stored), _) => Seen::There(stored, now),
        };
        if self.holder() != Some(&*self.identity) {
            self.renewed = None;
        }
    }

    /// A write that was asked for at `asked` made the Lease ours.
    pub fn won(&mut self, stored: Stored, asked: Instant) {
        self.seen = Seen::There(stored, asked);
        self.renewed = Some(asked);
    }

    /// A write was not made, or nobody knows whether it was: it must be read.
    pub fn unsure(&mut self) {
        if let Seen::There(stored, _) = &mut self.seen
            && *stored.holder == *self.identity
        {
            self.seen = Seen::Nothing;
        }
    }

    /// What to do after the Lease was read, or instead of that.
    #[must_use]
    pub fn step(&self, now: Instant) -> Step {
        match &self.seen {
            Seen::Nothing => Step::Read,
            Seen::Absent => Step::Create,
            Seen::There(stored, since) => {
                let Stored {
                    holder,
                    version,
                    duration,
                    transitions,
                } = stored;
                let valid = (*duration).min(LONGEST_LEASE).max(self.times.lease);
                if **holder == *self.identity {
                    Step::Renew(version.clone(), *transitions)
                } else if holder.is_empty() || now.saturating_duration_since(*since) >= valid {
                    Step::Take(version.clone(), transitions.saturating_add(1))
                } else {
                    Step::Wait
                }
            }
        }
    }

    /// Whether the Lease must be read before anything is done: of a Lease that
    /// is ours the last write told all.
    #[must_use]
    pub fn must_read(&self) -> bool {
        self.holder() != Some(&*self.identity)
    }

    /// Who holds the Lease, as far as was seen.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        match &self.seen {
            Seen::There(stored, _) => Some(&stored.holder),
            Seen::Nothing | Seen::Absent => None,
        }
    }

    /// The version at which to give the Lease up; none when it is not ours.
    pub fn give_up(&mut self) -> Option<String> {
        self.renewed = None;
        match &self.seen {
            Seen::There(stored, _) if *stored.holder == *self.identity => {
                Some(stored.version.clone())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    /// A Lease in a store, for several candidates to fight over.
    struct World {
        stored: Option<Stored>,
        version: u64,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self {
                stored: None,
                version: 0,
                now: Now::read().mono,
            }
        }

        fn write(&mut self, holder: &str, transitions: i32) -> Stored {
            self.version += 1;
            let stored = Stored {
                holder: holder.into(),
                version: self.version.to_string(),
                duration: 15 * SECOND,
                transitions,
            };
            self.stored = Some(stored.clone());
            stored
        }

        fn at(&self, version: &str) -> bool {
            self.stored.as_ref().is_some_and(|it| it.version == version)
        }

        /// One turn of a candidate, as the task has it.
        fn turn(&mut self, candidate: &mut Election) {
            if candidate.must_read() {
                candidate.read(self.stored.clone(), self.now);
            }
            self.write_of(candidate);
        }

        fn write_of(&mut self, candidate: &mut Election) {
            let identity = Arc::clone(candidate.identity());
            let written = match candidate.step(self.now) {
                Step::Create if self.stored.is_none() => Some(self.write(&identity, 0)),
                Step::Take(version, transitions) | Step::Renew(version, transitions)
                    if self.at(&version) =>
                {
                    Some(self.write(&identity, transitions))
                }
                Step::Wait => return,
                _ => None,
            };
            match written {
                Some(stored) => candidate.won(stored, self.now),
                None => candidate.unsure(),
            }
        }
    }

    fn candidate(identity: &str) -> Election {
        Election::new(identity.into(), Times::default())
    }

    #[test]
    fn the_times_are_those_of_kubernetes() {
        let times = Times::default();
        let seconds = [times.lease, times.renew_deadline, times.retry];
        assert_eq!(seconds, [15 * SECOND, 10 * SECOND, 2 * SECOND]);
    }

    #[test]
    fn one_leads_and_the_other_waits() {
        let mut world = World::new();
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        for _ in 0..100 {
            world.turn(&mut a);
            world.turn(&mut b);
            assert!(a.is_leader(world.now) && !b.is_leader(world.now));
            world.now += 2 * SECOND;
        }
        assert_eq!(b.holder(), Some("a"));
    }

    #[test]
    fn one_that_dies_is_followed_within_its_lease() {
        let mut world = World::new();
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        world.turn(&mut a);
        let mut waited = Duration::ZERO;
        while !b.is_leader(world.now) {
            world.turn(&mut b);
            world.now += 2 * SECOND;
            waited += 2 * SECOND;
        }
        assert!(!a.is_leader(world.now), "it stopped believing that before");
        assert!(waited <= 20 * SECOND, "{waited:?}");
        assert_eq!(world.stored.as_ref().unwrap().transitions, 1);
        // Thawed, it finds that out before it acts.
        world.turn(&mut a);
        assert!(!a.is_leader(world.now) && b.is_leader(world.now));
    }

    #[test]
    fn of_two_that_take_at_once_one_wins() {
        let mut world = World::new();
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        for candidate in [&mut a, &mut b] {
            candidate.read(world.stored.clone(), world.now);
        }
        world.write_of(&mut a);
        world.write_of(&mut b);
        assert!(a.is_leader(world.now) && !b.is_leader(world.now));

        world.write("", 7);
        for candidate in [&mut a, &mut b] {
            candidate.read(world.stored.clone(), world.now);
            assert!(!candidate.is_leader(world.now));
        }
        world.write_of(&mut b);
        world.write_of(&mut a);
        assert!(!a.is_leader(world.now) && b.is_leader(world.now));
        assert_eq!(world.stored.as_ref().unwrap().transitions, 8);
    }

    #[test]
    fn one_that_cannot_renew_stops_before_another_may_start() {
        let mut world = World::new();
        let mut a = candidate("a");
        world.turn(&mut a);
        for _ in 0..5 {
            assert!(a.is_leader(world.now));
            world.now += 2 * SECOND;
            a.unsure();
        }
        assert!(!a.is_leader(world.now));
        assert_eq!(a.step(world.now), Step::Read);
        // It is still its own: it goes on when the store is back.
        world.turn(&mut a);
        assert!(a.is_leader(world.now));
    }

    #[test]
    fn any_write_is_a_sign_of_life() {
        let mut world = World::new();
        let mut a = candidate("a");
        for _ in 0..20 {
            world.write("b", 0);
            world.turn(&mut a);
            assert_eq!(a.step(world.now), Step::Wait);
            world.now += 14 * SECOND;
        }
    }

    #[test]
    fn a_lease_for_ever_is_not_believed() {
        let mut world = World::new();
        let mut stored = world.write("b", 0);
        stored.duration = Duration::from_secs(1_000_000);
        let mut a = candidate("a");
        a.read(Some(stored), world.now);
        assert_eq!(a.step(world.now + 299 * SECOND), Step::Wait);
        assert!(matches!(a.step(world.now + LONGEST_LEASE), Step::Take(..)));
    }

    #[test]
    fn only_what_is_ours_is_given_up() {
        let mut world = World::new();
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        world.turn(&mut a);
        world.turn(&mut b);
        assert_eq!(b.give_up(), None);
        assert_eq!(a.give_up(), Some("1".into()));
        assert!(!a.is_leader(world.now));
    }
}
