//! The contract that a store implements, and the stores.
//!
//! A store keeps [`Record`]s under their [`Key`]s, with a [`Revision`] each. It
//! knows nothing of leases, renewing or order: all behaviour is the registry's,
//! once, for every store. What a store must do:
//!
//! - [`Backend::write`] is atomic, and durable (as far as the store is) when it
//!   returns; a condition that does not hold changes nothing.
//! - A later write of any record has a higher revision than an earlier one.
//! - [`Backend::watch`] tells of each [`Kind`] that is kept first a [`Change::Reset`] of
//!   everything, then every later change, own writes included. Within a kind
//!   changes come in the order of revisions; a store may tell a reset again at
//!   any time. Each change has at least the revision of the write that made it.
//!   A stream that ends or fails is opened again by the caller.
//! - The revision that a delete returns may be lower than that of its change, but
//!   is above every revision that the record had.
//!
//! `backend/contract.rs` tests this over every store, and `tests/it` over those
//! that need a server.

#[cfg(test)]
pub(crate) mod contract;
pub mod etcd;
pub mod file;
pub mod follow;
pub mod kubernetes;
pub mod memory;
pub mod problems;

use std::fmt;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::map::Set;
use crate::record::{EndpointKey, Key, Kind, Record};

/// The version of a stored record. Higher is later, over all records of a store.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record and the revision at which it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What is stored.
    pub record: Record,
    /// At which revision.
    pub revision: Revision,
}

/// The keys of the endpoints among what is stored.
#[must_use]
pub fn endpoint_keys(all: &[Stored]) -> Set<EndpointKey> {
    all.iter()
        .filter_map(|stored| match &stored.record {
            Record::Endpoint(record) => Some(record.endpoint.key.clone()),
            _ => None,
        })
        .collect()
}

/// One conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a record whose key must be absent.
    Create(Record),
    /// Replaces the record that is stored at exactly this revision. One that
    /// changes nothing may be answered with that revision, and not be watched.
    Put(Record, Revision),
    /// Removes the record that is stored at exactly this revision. Removing
    /// what is absent succeeds.
    Delete(Key, Revision),
}

impl Write {
    /// The key that is written.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Create(record) | Self::Put(record, _) => record.key(),
            Self::Delete(key, _) => key.clone(),
        }
    }
}

/// Why a write was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The condition did not hold: this is what is stored instead, if anything.
    /// Final; the caller decides anew.
    #[error("the record was changed by somebody else")]
    Conflict(Option<Box<Stored>>),
    /// The store cannot be reached or cannot take writes now. Whether the write
    /// was made is unknown; trying again is safe because it is conditional.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store will not take this record, now or later, until somebody mends
    /// what the text names.
    #[error("the store refused the record: {0}")]
    Refused(String),
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything of a kind that is stored at this revision; what is not in it
    /// is gone.
    Reset(Kind, Vec<Stored>, Revision),
    /// A record was created or replaced.
    Put(Stored),
    /// A record was removed, by the write with this revision.
    Delete(Key, Revision),
}

/// A watch broke; open a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch broke: {0}")]
pub struct WatchError(pub String);

/// A store.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Makes one conditional write and returns the revision that it made.
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>>;

    /// Whether every write is made when its future is first polled. Such a store
    /// is written to by the caller itself, which spares two changes of task.
    fn is_immediate(&self) -> bool {
        false
    }

    /// How many writes are worth having under way at once.
    fn writes_at_once(&self) -> usize {
        1_024
    }

    /// Waits until the store can do nothing more before the process is started
    /// anew, and tells why. Most stores never come to that.
    fn ended(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }

    /// Whether records of a kind are kept. Of others a watch tells nothing, and
    /// writing one is refused.
    fn keeps(&self, _: Kind) -> bool {
        true
    }

    /// Everything that is stored, then every change.
    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>>;

    /// All records of a kind as they are stored now: whatever was written before
    /// this was asked for is seen. By default what a new watch tells first; a
    /// store that can ask for one kind alone spares itself the others.
    fn list(&self, kind: Kind) -> BoxFuture<'static, Result<Vec<Stored>, WriteError>> {
        let mut watch = self.keeps(kind).then(|| self.watch());
        Box::pin(async move {
            let Some(watch) = &mut watch else {
                return Ok(Vec::new());
            };
            loop {
                match watch.next().await {
                    Some(Ok(Change::Reset(told, all, _))) if told == kind => return Ok(all),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(WriteError::Unavailable(error.to_string())),
                    None => return Err(WriteError::Unavailable("the watch has ended".into())),
                }
            }
        })
    }

    /// Why what is stored cannot be read now, as far as that is known.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Asks the store for a sign of life: one cheap request that succeeds only
    /// if the store would answer others too.
    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>>;
}
