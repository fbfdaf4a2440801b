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
