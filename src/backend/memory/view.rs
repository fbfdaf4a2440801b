//! What is stored, in memory, and those who watch it. Every store that is in
//! this process keeps one.

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::backend::{Change, Revision, Stored, WatchError, Write, WriteError};
use crate::map::Map;
use crate::record::{Key, Kind, Record};

/// How many changes a watcher may be behind before its watch breaks. All
/// watchers share one ring of them, about 2 MiB. Enough for 10,000 endpoints
/// that expire at once.
pub(crate) const WATCH_BOUND: usize = 16_384;

/// What a write does to one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Which record.
    pub key: Key,
    /// What is stored from now on; none when it is removed.
    pub record: Option<Record>,
    /// The revision that the write makes.
    pub revision: Revision,
}

impl Edit {
    /// What is stored when it is made.
    pub fn stored(&self) -> Option<Stored> {
        self.record.as_ref().map(|record| Stored {
            record: record.clone(),
            revision: self.revision,
        })
    }
}

/// What `write` does at revision `next`, where `current` is stored under its
/// key. Nothing, when it removes what is absent.
///
/// # Errors
/// [`WriteError::Conflict`] when its condition does not hold.
pub(crate) fn decide(
    current: Option<&Stored>,
    write: Write,
    next: Revision,
) -> Result<Option<Edit>, WriteError> {
    let key = write.key();
    let (expected, record) = match write {
        Write::Create(record) => (None, Some(record)),
        Write::Put(record, revision) => (Some(revision), Some(record)),
        Write::Delete(..) if current.is_none() => return Ok(None),
        Write::Delete(_, revision) => (Some(revision), None),
    };
    if current.map(|stored| stored.revision) != expected {
        return Err(WriteError::Conflict(current.cloned().map(Box::new)));
    }
    Ok(Some(Edit {
        key,
        record,
        revision: next,
    }))
}

/// Every stored record, the last revision, and the watchers.
#[derive(Debug)]
pub(crate) struct View {
    records: Map<Key, Stored>,
    revision: Revision,
    watchers: broadcast::Sender<Change>,
}

impl Default for View {
    fn default() -> Self {
        Self::new(Map::default(), Revision::default())
    }
}

impl View {
    /// A view of `records`, the last write of which made `revision`.
    pub fn new(records: Map<Key, Stored>, revision: Revision) -> Self {
        Self {
            records,
            revision,
            watchers: broadcast::Sender::new(WATCH_BOUND),
        }
    }

    /// The revision of the last write.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What is stored under `key`.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.records.get(key)
    }

    /// Makes an edit and tells the watchers.
    pub fn apply(&mut self, edit: Edit) {
        self.revision = edit.revision;
        let change = match edit.stored() {
            Some(stored) => {
                self.records.insert(edit.key, stored.clone());
                Change::Put(stored)
            }
            None => {
                self.records.remove(&edit.key);
                Change::Delete(edit.key, edit.revision)
            }
        };
        // Fails only when nobody watches.
        let _ = self.watchers.send(change);
    }

    /// Everything that is stored, then every edit. The two are taken together,
    /// so nothing is missed or told twice. A watcher that falls more than
    /// [`WATCH_BOUND`] behind gets an error, and its watch ends.
    pub fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        let changes = stream::unfold(Some(self.watchers.subscribe()), async |changes| {
            let mut changes = changes?;
            match changes.recv().await {
                Ok(change) => Some((Ok(change), Some(changes))),
                Err(RecvError::Lagged(missed)) => {
                    let error = WatchError(format!("the watcher was too slow and missed {missed}"));
                    Some((Err(error), None))
                }
                Err(RecvError::Closed) => None,
            }
        });
        let everything = Kind::ALL.map(|kind| {
            let of_kind = |stored: &&Stored| stored.record.kind() == kind;
            let all = self.records.values().filter(of_kind).cloned().collect();
            Ok(Change::Reset(kind, all, self.revision))
        });
        stream::iter(everything).chain(changes).boxed()
    }
}
