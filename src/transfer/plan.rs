//! What becomes of a record in the store that it is put into. Pure.
//!
//! **Who holds it.** Whoever did is another replica, of another store, and its
//! lease would mean the wrong thing here: a store of one process waits for no
//! stranger's lease to run out, and replicas that share one wait for it in vain.
//!
//! - An *endpoint* is released, for [`UNHEARD_FOR`]: whoever hears it takes it
//!   over at once, and what nobody hears is collected after that. Every store's
//!   collector counts that time from when it first sees the record, and only while
//!   it runs.
//! - A *session* and an *instance* are held by [`HOLDER`], which never lives. In a
//!   store of one process the holder says nothing: after the start each has the
//!   time that it has after every start. Replicas that share a store wait until
//!   the holder's lease has failed to appear, and then for the grace of a session,
//!   or two heartbeats' time of an instance; released ones would go sooner.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::backend::{Revision, Stored};
use crate::discoverd::{InstanceRecord, ServiceRecord};
use crate::lease::{Lease, Released};
use crate::map::Map;
use crate::record::{EndpointRecord, Key, Record};
use crate::session::SessionRecord;

/// How long an endpoint stays that nobody hears, unless it is told otherwise: as
/// long as one whose replica has died. gost may wait for 120 s before it connects again, and the registry that
/// is to hear it has yet to be started.
pub const UNHEARD_FOR: Duration = Duration::from_secs(600);
/// Who holds what is imported and is not released. No replica calls itself so.
pub const HOLDER: &str = "tunnel-registry import";

/// What is in the store.
pub type Present = Map<Key, Stored>;

/// What is done about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is created.
    Create(Record),
    /// It replaces what is stored at this revision.
    Replace(Record, Revision),
    /// The store has it, as it is or as it went on.
    There,
    /// It is left out.
    Refuse(Refusal),
}

/// Why a record is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store has something else under its key.
    #[error("the store has another one with this identity and keeps it; --replace overwrites it")]
    Different,
    /// An instance whose service is not there.
    #[error("its service is not in the store, and was not imported")]
    NoService,
    /// An instance of another life of its service.
    #[error("the store's service of that name is another one, with instances of its own")]
    OtherService,
    /// The store keeps no such records.
    #[error("this store does not keep such records")]
    NotKept,
    /// The store does not take it, or not now.
    #[error("{0}")]
    Store(String),
}

/// The record as it is put into another store, where an endpoint stays for
/// `unheard_for` if nobody hears it.
#[must_use]
pub fn prepared(record: &Record, unheard_for: Duration, now: Timestamp) -> Record {
    match record {
        Record::Endpoint(record) if !record.is_static => {
            let mut endpoint = record.endpoint.clone();
            // It may be a pod of another cluster, which here would be a gone one.
            endpoint.pod = None;
            Record::Endpoint(Arc::new(EndpointRecord {
                endpoint,
                lease: unheard(&record.lease, unheard_for, now),
                is_static: false,
            }))
        }
        Record::Session(record) if !record.is_static => Record::Session(Arc::new(SessionRecord {
            lease: Lease::held(HOLDER.into(), now, record.lease.duration()),
            written_by: Arc::default(),
            ..SessionRecord::clone(record)
        })),
        Record::Instance(record) => Record::Instance(Arc::new(InstanceRecord {
            lease: Lease::held(HOLDER.into(), now, record.lease.duration()),
            ..InstanceRecord::clone(record)
        })),
        other => other.clone(),
    }
}

/// The lease of an endpoint that somebody is yet to hear.
fn unheard(before: &Lease, unheard_for: Duration, now: Timestamp) -> Lease {
    let interval = before.interval().unwrap_or_default();
    let patience = unheard_for.max(interval.saturating_mul(4));
    Lease::released(Released::Silent, now, patience).renewed_every(interval)
}

/// What is to be done about a record that was [`prepared`].
#[must_use]
pub fn step(record: &Record, present: &Present, replace: bool) -> Step {
    if let Record::Instance(record) = record {
        match present.get(&Key::Service(record.service.clone())) {
            None => return Step::Refuse(Refusal::NoService),
            Some(stored) if born(&stored.record) != Some(record.born) => {
                return Step::Refuse(Refusal::OtherService);
            }
            Some(_) => {}
        }
    }
    match present.get(&record.key()) {
        None => Step::Create(record.clone()),
        Some(stored) if says_the_same(record, &stored.record) => Step::There,
        Some(stored) if replace => Step::Replace(record.clone(), stored.revision),
        Some(_) => Step::Refuse(Refusal::Different),
    }
}

fn born(record: &Record) -> Option<u64> {
    match record {
        Record::Service(record) => Some(record.born),
        _ => None,
    }
}

/// Whether the store has what the record says. Who maintains it is the store's
/// affair, and so is what has happened to a service since.
fn says_the_same(record: &Record, stored: &Record) -> bool {
    match (record, stored) {
        (Record::Endpoint(ours), Record::Endpoint(theirs)) => {
            let (ours_said, theirs_said) = (&ours.endpoint, &theirs.endpoint);
            ours.is_static == theirs.is_static
                && ours_said.network == theirs_said.network
                && ours_said.address == theirs_said.address
                && ours_said.attributes == theirs_said.attributes
        }
        (Record::Session(ours), Record::Session(theirs)) => ours.is_like(theirs),
        (Record::Service(ours), Record::Service(theirs)) => {
            let went_on = |ours: &ServiceRecord, theirs: &ServiceRecord| {
                ours.born == theirs.born && ours.counter < theirs.counter
            };
            ours == theirs || went_on(ours, theirs)
        }
        (Record::Instance(ours), Record::Instance(theirs)) => {
            ours.instance == theirs.instance
                && (ours.born, ours.index) == (theirs.born, theirs.index)
        }
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests;
