//! The plan of a process that serves, and collects its store itself: because the
//! store is its own, or because nobody else does it for all who share it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::{ClusterPlan, read_every};
use super::{Census, Due, Plan};
use crate::backend::Change;
use crate::record::{EndpointKey, ReplicaRecord};

/// What decides which endpoints go.
#[derive(Debug)]
pub enum Own {
    /// For a store of its own.
    Alone(Box<Plan>),
    /// For one that it shares. Every replica collects: each delete names the
    /// revision that was seen, so several at once do no harm.
    Shared(Box<ClusterPlan>),
}

/// What must be asked of the store for time to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A sign of life.
    Sign,
    /// The leases of all replicas, so often.
    Replicas(Duration),
}

impl Own {
    /// What must be asked of the store.
    #[must_use]
    pub fn asks(&self) -> Asks {
        match self {
            Self::Alone(_) => Asks::Sign,
            Self::Shared(plan) => Asks::Replicas(read_every(plan.orphan_for())),
        }
    }

    /// The store answered what was asked at `asked`: with these leases, if they
    /// were asked for.
    pub fn contact(&mut self, asked: Instant, replicas: &[Arc<ReplicaRecord>]) {
        match self {
            Self::Alone(plan) => plan.contact(asked),
            Self::Shared(plan) => plan.contact(asked, replicas),
        }
    }

    /// The store's watch tells changes, in order.
    pub fn apply(&mut self, changes: &[Change]) {
        match self {
            Self::Alone(plan) => plan.apply(changes),
            Self::Shared(plan) => {
                plan.apply(changes);
                // Nobody is told how single endpoints stand.
                plan.forget_touched();
            }
        }
    }

    /// The endpoints that go now; see [`Plan::take_due`].
    pub fn take_due(&mut self, now: Instant, census: &impl Census) -> Vec<Due> {
        match self {
            Self::Alone(plan) => plan.take_due(now, census),
            Self::Shared(plan) => {
                drop(plan.take_touched(now));
                plan.take_due(now)
            }
        }
    }

    /// A delete could not be made; it is due again.
    pub fn again(&mut self, key: &EndpointKey) {
        match self {
            Self::Alone(plan) => plan.again(key),
            Self::Shared(plan) => plan.again(key),
        }
    }

    /// The replicas whose leases nobody needs any more.
    #[must_use]
    pub fn left_behind(&self) -> Vec<Arc<str>> {
        match self {
            Self::Alone(_) => Vec::new(),
            Self::Shared(plan) => plan.left_behind(),
        }
    }

    /// For how long collecting has been braked, if it is.
    #[must_use]
    pub fn braked_for(&self) -> Option<Duration> {
        match self {
            Self::Alone(plan) => plan.braked_for(),
            Self::Shared(plan) => plan.braked_for(),
        }
    }

    /// How many endpoints wait to go.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match self {
            Self::Alone(plan) => plan.waiting(),
            Self::Shared(plan) => plan.waiting().iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Revision, Stored};
    use crate::controller::plan::Pace;
    use crate::lease::{Lease, Released};
    use crate::record::{Name, Record};
    use crate::registry::testing::record;
    use crate::time::Now;

    struct Nobody;

    impl Census for Nobody {
        fn nodes(&self) -> usize {
            1
        }

        fn endpoints_of(&self, _: &Name) -> usize {
            1
        }
    }

    #[test]
    fn what_was_released_goes_by_either_plan_once_time_has_counted() {
        let now = Now::read();
        let second = Duration::from_secs(1);
        let orphan_for = 100 * second;
        let shared = ClusterPlan::new(Pace::cluster(), orphan_for, now.mono);
        let plans = [
            (
                Own::Alone(Box::new(Plan::new(Pace::default(), now.mono))),
                Asks::Sign,
            ),
            (
                Own::Shared(Box::new(shared)),
                Asks::Replicas(read_every(orphan_for)),
            ),
        ];
        for (mut plan, asks) in plans {
            assert_eq!(plan.asks(), asks);
            let mut released = record("t", "n", "c");
            released.lease = Lease::released(Released::ConnectionClosed, now.wall, 5 * second);
            let key = released.endpoint.key.clone();
            plan.apply(&[Change::Put(Stored {
                record: Record::Endpoint(Arc::new(released)),
                revision: Revision(7),
            })]);
            plan.contact(now.mono, &[]);
            assert_eq!(plan.waiting(), 1);
            // The store was away for all of it.
            let later = now.plus(100 * second).mono;
            assert_eq!(plan.take_due(later, &Nobody), []);
            let mut due = Vec::new();
            for after in 0..10 {
                let at = later + second * after;
                plan.contact(at, &[]);
                due.extend(plan.take_due(at, &Nobody));
            }
            assert_eq!(due.len(), 1, "{plan:?}");
            assert_eq!((&due[0].key, due[0].revision), (&key, Revision(7)));
            plan.again(&key);
            let at = later + 20 * second;
            assert_eq!(plan.take_due(at, &Nobody).len(), 1, "it was not deleted");
            plan.apply(&[Change::Delete(
                crate::record::Key::Endpoint(key),
                Revision(8),
            )]);
            assert_eq!((plan.waiting(), plan.braked_for()), (0, None));
        }
    }
}
