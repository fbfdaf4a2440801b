//! Which replicas live. Each renews a lease of its own and so vouches for the
//! endpoints that it holds.
//!
//! Two questions, and each errs on the safe side. *Does it vouch?* Only while its
//! lease is known to have been written within its validity, on our own clock. *Has it run
//! out?* Only when its lease stayed unchanged for its validity while the store
//! gave signs of life; time in which the store was away proves nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contact::Contact;
use crate::map::{Map, Set};
use crate::record::{Name, ReplicaRecord};

/// How long a replica's lease is valid, unless it says otherwise.
pub const VALIDITY: Duration = Duration::from_secs(40);
/// For so long a replica whose lease is gone is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The replicas that were seen, or that an endpoint names as its holder.
#[derive(Debug)]
pub struct Replicas {
    contact: Contact,
    known: Map<Arc<str>, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Its lease; none when there is none.
    record: Option<Arc<ReplicaRecord>>,
    suspects: Set<Name>,
    /// Its lease was written after this, by our own clock; none while nothing is
    /// known of that.
    changed: Option<Instant>,
    /// The store's time at which it last changed or was first seen.
    since: Instant,
    /// How long its lease is valid, or was.
    validity: Duration,
    /// Whether the last that was heard of it was that it gave its lease up. Stays
    /// so when the lease goes, as it does with the pod of a replica that stopped.
    stopped: bool,
}

impl Replicas {
    /// Nobody was seen yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            contact: Contact::new(now),
            known: Map::default(),
        }
    }

    /// The store gave a sign of life that proves that leases are heard of.
    /// Returns the time that is counted for it.
    pub fn contact(&mut self, now: Instant) -> Duration {
        self.contact.heard(now)
    }

    /// The time during which the store was there.
    #[must_use]
    pub fn time(&self) -> &Contact {
        &self.contact
    }

    /// From now on signs of life may be so far apart.
    pub fn allow_gap(&mut self, gap: Duration) {
        self.contact.allow_gap(gap);
    }

    /// The lease of a replica, as it is stored now. It was written after `after`,
    /// by our own clock, if that is known: one that is told late, or read from a
    /// list, may have been written long ago.
    pub fn see(&mut self, record: &Arc<ReplicaRecord>, after: Option<Instant>) {
        let since = self.contact.counted();
        let suspects = || record.suspects.iter().cloned().collect();
        let Some(seen) = self.known.get_mut(&record.identity) else {
            let seen = Seen {
                record: Some(Arc::clone(record)),
                suspects: suspects(),
                changed: after,
                since,
                validity: record.duration(),
                stopped: record.stopped,
            };
            self.known.insert(Arc::clone(&record.identity), seen);
            return;
        };
        if seen.record.as_ref() == Some(record) {
            return;
        }
        seen.changed = seen.changed.max(after);
        seen.suspects = suspects();
        seen.record = Some(Arc::clone(record));
        seen.validity = record.duration();
        seen.since = since;
        seen.stopped = record.stopped;
    }

    /// `holder` wrote an endpoint: it lives, whatever its lease says. To those who
    /// collect that counts as much as a renewal of its lease. It vouches for
    /// nothing by that: nobody knows whether it hears its gosts.
    pub fn wrote(&mut self, holder: &str) {
        let since = self.contact.counted();
        if let Some(seen) = self.known.get_mut(holder) {
            seen.since = since;
            seen.stopped = false;
        }
    }

    /// The lease of a replica is gone. It may come back, for which it has its
    /// validity. One that had run out before has had that already: who died is not
    /// taken for alive because a store removes its lease in the end.
    pub fn gone(&mut self, identity: &Arc<str>) {
        let since = self.contact.counted();
        let had_run_out = self.has_run_out(identity);
        if let Some(seen) = self.known.get_mut(identity)
            && seen.record.take().is_some()
        {
            seen.suspects = Set::default();
            if !had_run_out {
                seen.since = since;
            }
        }
        let contact = &self.contact;
        self.known.retain(|_, seen| {
            seen.record.is_some() || !contact.has_passed(seen.since, FORGET_AFTER)
        });
    }

    /// All leases that are stored now, each as [`Replicas::see`] takes it.
    pub fn reset(&mut self, all: &[(Arc<ReplicaRecord>, Option<Instant>)]) {
        let present: Set<&Arc<str>> = all.iter().map(|(record, _)| &record.identity).collect();
        let known = self.known.keys();
        let gone: Vec<_> = known.filter(|id| !present.contains(id)).cloned().collect();
        gone.iter().for_each(|identity| self.gone(identity));
        for (record, after) in all {
            self.see(record, *after);
        }
    }

    /// An endpoint names this holder: if its lease is not there, the time in
    /// which it should appear begins.
    pub fn expect(&mut self, holder: &Arc<str>) {
        if !self.known.contains_key(holder) {
            let seen = Seen {
                record: None,
                suspects: Set::default(),
                changed: None,
                since: self.contact.counted(),
                validity: VALIDITY,
                stopped: false,
            };
            self.known.insert(Arc::clone(holder), seen);
        }
    }

    /// Whether `holder` lives, as far as can be seen: its lease changed within
    /// its validity.
    #[must_use]
    pub fn vouches(&self, holder: &str, now: Instant) -> bool {
        self.known.get(holder).is_some_and(|seen| {
            let changed = seen.record.as_ref().and(seen.changed);
            !seen.stopped
                && changed.is_some_and(|at| now.saturating_duration_since(at) <= seen.validity)
        })
    }

    /// Whether it is certain that `holder` does not maintain anything now: its
    /// lease was given up, or stayed as it is (or away) for its validity.
    #[must_use]
    pub fn has_run_out(&self, holder: &str) -> bool {
        self.known
            .get(holder)
            .is_some_and(|seen| seen.stopped || self.contact.has_passed(seen.since, seen.validity))
    }

    /// Whether `holder` gave its lease up.
    #[must_use]
    pub fn has_stopped(&self, holder: &str) -> bool {
        self.known.get(holder).is_some_and(|seen| seen.stopped)
    }

    /// Whether there is a lease of `holder`.
    #[must_use]
    pub fn has_lease(&self, holder: &str) -> bool {
        self.known
            .get(holder)
            .is_some_and(|seen| seen.record.is_some())
    }

    /// Whether `holder` tells that the last connection of `node` was closed.
    #[must_use]
    pub fn suspects(&self, holder: &str, node: &Name) -> bool {
        let seen = self.known.get(holder);
        seen.is_some_and(|seen| seen.suspects.contains(node))
    }

    /// How many replicas live, as far as is known.
    #[must_use]
    pub fn living(&self) -> usize {
        self.known
            .iter()
            .filter(|(holder, seen)| seen.record.is_some() && !self.has_run_out(holder))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        replicas: Replicas,
        now: Now,
    }

    fn fixture() -> Fixture {
        let now = Now::read();
        Fixture {
            replicas: Replicas::new(now.mono),
            now,
        }
    }

    impl Fixture {
        fn record(&self, identity: &str) -> Arc<ReplicaRecord> {
            Arc::new(ReplicaRecord {
                identity: identity.into(),
                renew_time: self.now.wall,
                duration_seconds: 40,
                stopped: false,
                suspects: Vec::new(),
            })
        }

        /// Seconds pass, with a sign of life each, in which `renewing` are seen
        /// to renew their leases.
        fn pass(&mut self, seconds: u64, renewing: &[&str]) {
            for _ in 0..seconds {
                self.now = self.now.plus(SECOND);
                self.replicas.contact(self.now.mono);
                for identity in renewing {
                    let record = self.record(identity);
                    self.replicas.see(&record, Some(self.now.mono));
                }
            }
        }

        fn state(&self, holder: &str) -> (bool, bool) {
            let vouches = self.replicas.vouches(holder, self.now.mono);
            (vouches, self.replicas.has_run_out(holder))
        }
    }

    #[test]
    fn one_that_was_only_read_neither_vouches_nor_has_run_out() {
        let mut f = fixture();
        f.replicas.see(&f.record("a"), None);
        assert_eq!(f.state("a"), (false, false));
        f.pass(40, &[]);
        assert_eq!(f.state("a"), (false, false), "39 s are certain");
        f.pass(1, &[]);
        assert_eq!(f.state("a"), (false, true));
    }

    #[test]
    fn one_that_renews_vouches_and_stops_to_when_it_does_not() {
        let mut f = fixture();
        f.replicas.see(&f.record("a"), None);
        f.pass(1, &["a"]);
        assert_eq!(f.state("a"), (true, false));
        f.pass(39, &[]);
        assert_eq!(f.state("a"), (true, false));
        f.pass(2, &[]);
        assert_eq!(f.state("a"), (false, true));
        f.pass(1, &["a"]);
        assert_eq!(f.state("a"), (true, false));
    }

    #[test]
    fn nobody_runs_out_while_the_store_is_away() {
        let mut f = fixture();
        f.pass(1, &["a"]);
        f.pass(1, &["a"]);
        f.now = f.now.plus(1_000 * SECOND);
        assert_eq!(f.state("a"), (false, false), "doubtful, not dead");
        f.pass(13, &[]);
        assert!(!f.replicas.has_run_out("a"));
        f.pass(30, &[]);
        assert!(f.replicas.has_run_out("a"));
    }

    #[test]
    fn one_that_stopped_has_run_out_at_once() {
        let mut f = fixture();
        f.pass(2, &["a"]);
        let mut stopped = f.record("a");
        Arc::make_mut(&mut stopped).stopped = true;
        f.replicas.see(&stopped, Some(f.now.mono));
        assert_eq!(f.state("a"), (false, true));
        // Its pod is gone, and its lease with that.
        f.replicas.gone(&"a".into());
        assert_eq!(f.state("a"), (false, true));
        f.pass(1, &["a"]);
        assert_eq!(f.state("a"), (true, false), "it is back");
        f.replicas.gone(&"a".into());
        assert_eq!(f.state("a"), (false, false));
    }

    #[test]
    fn a_holder_without_a_lease_is_waited_for() {
        let mut f = fixture();
        assert!(!f.replicas.has_run_out("a"), "nobody asked for it yet");
        f.replicas.expect(&"a".into());
        f.pass(39, &[]);
        assert!(!f.replicas.has_run_out("a") && !f.replicas.has_lease("a"));
        f.pass(2, &[]);
        assert!(f.replicas.has_run_out("a"));
        f.replicas.see(&f.record("a"), Some(f.now.mono));
        assert_eq!(f.state("a"), (true, false));
    }

    #[test]
    fn a_lease_that_is_deleted_has_its_validity_to_come_back() {
        let mut f = fixture();
        f.pass(2, &["a", "b"]);
        let b = f.record("b");
        f.replicas.reset(&[(b, None)]);
        assert_eq!(f.state("a"), (false, false));
        assert_eq!(f.state("b"), (true, false));
        assert_eq!(f.replicas.living(), 1);
        f.pass(41, &["b"]);
        assert_eq!(f.state("a"), (false, true));
    }

    #[test]
    fn one_that_had_run_out_does_not_live_because_its_lease_is_removed() {
        let mut f = fixture();
        let mut short = f.record("a");
        Arc::make_mut(&mut short).duration_seconds = 4;
        f.replicas.see(&short, Some(f.now.mono));
        f.pass(6, &[]);
        assert_eq!(f.state("a"), (false, true));
        f.replicas.gone(&"a".into());
        assert_eq!(f.state("a"), (false, true));
        // One that may live has as long to come back as it was valid.
        f.replicas.see(&short, Some(f.now.mono));
        f.pass(2, &[]);
        f.replicas.gone(&"a".into());
        assert_eq!(f.state("a"), (false, false));
        f.pass(5, &[]);
        assert_eq!(f.state("a"), (false, true));
    }

    #[test]
    fn suspects_are_those_of_the_last_lease() {
        let mut f = fixture();
        let node: Name = "n".parse().unwrap();
        let mut record = f.record("a");
        Arc::make_mut(&mut record).suspects = vec![node.clone()];
        f.replicas.see(&record, Some(f.now.mono));
        assert!(f.replicas.suspects("a", &node) && !f.replicas.suspects("b", &node));
        f.pass(1, &["a"]);
        assert!(!f.replicas.suspects("a", &node));
    }
}
