//! Replicas: the processes that hear renewals and vouch for what they hold.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::Name;

/// The most nodes that a replica tells to be suspect: what fits into an
/// annotation of the object that keeps it. Those that became suspect last.
pub const MAX_SUSPECTS: usize = 256;

/// A replica's own lease. While it is renewed it vouches for every endpoint that
/// the replica holds, but for those of the nodes that it suspects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Who it is: what the leases of its endpoints name as their holder.
    pub identity: Arc<str>,
    /// When it was last renewed, by the replica's own wall clock.
    pub renew_time: Timestamp,
    /// How long it is valid from then, in whole seconds.
    pub duration_seconds: u32,
    /// Whether the replica has stopped and gives up what it holds: others may
    /// take it over at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The nodes whose last connection to it was closed from their side; at most
    /// [`MAX_SUSPECTS`], in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Name>,
}

impl ReplicaRecord {
    /// How long it is valid from its last renewal.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_seconds.into())
    }
}
