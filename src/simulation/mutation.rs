//! Bugs put in on purpose, where a process meets the world, that the simulation
//! must find.

use std::sync::Arc;

use crate::backend::{Change, Stored, Write};
use crate::record::Record;
use crate::simulation::api::Api;
use crate::time::Now;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Replicas write whatever is there meanwhile.
    BlindWrites,
    /// Replicas take over without waiting until the holder's lease has run out.
    TakesOverEarly,
    /// Replicas forget what others removed, and bring nothing back.
    ForgetsGhosts,
    /// Replicas and controllers compare wall clocks: a lease that is too old by
    /// their own has run out.
    ComparesWallClocks,
    /// Controllers count the time in which they cannot read the replicas' leases.
    CountsOutages,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::BlindWrites,
        Self::TakesOverEarly,
        Self::ForgetsGhosts,
        Self::ComparesWallClocks,
        Self::CountsOutages,
    ];
}

/// The same write without its condition.
pub fn blind(write: Write, api: &Api) -> Write {
    let current = api.get(&write.key()).map(|stored| stored.revision);
    match (write, current) {
        (Write::Create(record) | Write::Put(record, _), Some(revision)) => {
            Write::Put(record, revision)
        }
        (Write::Create(record) | Write::Put(record, _), None) => Write::Create(record),
        (Write::Delete(key, revision), current) => Write::Delete(key, current.unwrap_or(revision)),
    }
}

/// Records of replicas as one sees them who has this bug.
pub fn seen(mutation: Option<Mutation>, record: &mut Record, own: &str, now: Now) {
    let Record::Replica(replica) = record else {
        return;
    };
    if &*replica.identity == own {
        return;
    }
    let gone = match mutation {
        Some(Mutation::TakesOverEarly) => true,
        Some(Mutation::ComparesWallClocks) => {
            let age = now.wall.duration_since(replica.renew_time);
            age.as_secs() > i64::from(replica.duration_seconds)
        }
        _ => false,
    };
    if gone {
        Arc::make_mut(replica).stopped = true;
    }
}

/// Changes as one sees them who has this bug.
pub fn told(mutation: Option<Mutation>, change: &mut Change, own: &str, now: Now) {
    if mutation.is_none() {
        return;
    }
    match change {
        Change::Reset(_, all, _) => {
            for Stored { record, .. } in all {
                seen(mutation, record, own, now);
            }
        }
        Change::Put(stored) => seen(mutation, &mut stored.record, own, now),
        Change::Delete(..) => {}
    }
}
