//! The API server: objects with revisions, conditional writes, and all that a
//! watch has to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::memory::decide;
use crate::backend::{Change, Revision, Stored, Write, WriteError};
use crate::record::{EndpointKey, EndpointRecord, Key, Kind, Record, ReplicaRecord};

/// What is stored, and what was.
#[derive(Debug, Default)]
pub struct Api {
    objects: BTreeMap<Key, Stored>,
    revision: Revision,
    /// Every change, by kind.
    told: [Vec<Change>; Kind::ALL.len()],
    /// Whether requests are received, and neither made nor answered.
    pub hangs: u32,
    /// The requests that it received meanwhile.
    pub hung: Vec<u64>,
}

/// A write that was made.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Of which object.
    pub key: Key,
    /// What was there.
    pub before: Option<Stored>,
    /// What is there now.
    pub after: Option<Stored>,
}

impl Edit {
    /// The endpoint that was there.
    pub fn before(&self) -> Option<&Arc<EndpointRecord>> {
        endpoint(self.before.as_ref())
    }

    /// The endpoint that is there now.
    pub fn after(&self) -> Option<&Arc<EndpointRecord>> {
        endpoint(self.after.as_ref())
    }
}

fn endpoint(stored: Option<&Stored>) -> Option<&Arc<EndpointRecord>> {
    match &stored?.record {
        Record::Endpoint(record) => Some(record),
        _ => None,
    }
}

impl Api {
    /// Makes a write; returns what it changed, if anything.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when its condition does not hold.
    pub fn write(&mut self, write: Write) -> Result<Option<Edit>, WriteError> {
        let next = Revision(self.revision.0 + 1);
        let before = self.objects.get(&write.key()).cloned();
        let Some(made) = decide(before.as_ref(), write, next)? else {
            return Ok(None);
        };
        self.revision = next;
        let after = made.stored();
        let change = match &after {
            Some(stored) => {
                self.objects.insert(made.key.clone(), stored.clone());
                Change::Put(stored.clone())
            }
            None => {
                self.objects.remove(&made.key);
                Change::Delete(made.key.clone(), next)
            }
        };
        self.told[made.key.kind() as usize].push(change);
        Ok(Some(Edit {
            key: made.key,
            before,
            after,
        }))
    }

    /// What is stored under `key`.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// The endpoint that is stored under `key`.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<&Arc<EndpointRecord>> {
        endpoint(self.objects.get(&Key::Endpoint(key.clone())))
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<EndpointRecord>> {
        self.objects
            .values()
            .filter_map(|stored| endpoint(Some(stored)))
    }

    /// All leases of replicas.
    pub fn replicas(&self) -> Vec<Arc<ReplicaRecord>> {
        self.objects
            .values()
            .filter_map(|stored| match &stored.record {
                Record::Replica(record) => Some(Arc::clone(record)),
                _ => None,
            })
            .collect()
    }

    /// How many writes were made.
    pub fn writes(&self) -> u64 {
        self.revision.0
    }

    /// How many changes of a kind there have been.
    pub fn length(&self, kind: Kind) -> usize {
        self.told[kind as usize].len()
    }

    /// The changes of a kind from a position on.
    pub fn changes(&self, kind: Kind, from: usize) -> &[Change] {
        &self.told[kind as usize][from..]
    }

    /// Everything of a kind, as it was after so many changes.
    pub fn list(&self, kind: Kind, position: usize) -> Change {
        let mut all = BTreeMap::new();
        let mut revision = Revision::default();
        for change in &self.told[kind as usize][..position] {
            match change {
                Change::Put(stored) => {
                    revision = stored.revision;
                    all.insert(stored.record.key(), stored.clone());
                }
                Change::Delete(key, at) => {
                    revision = *at;
                    all.remove(key);
                }
                Change::Reset(..) => {}
            }
        }
        // A list of now has the revision of now, whichever kind that was of.
        if position == self.length(kind) {
            revision = self.revision;
        }
        Change::Reset(kind, all.into_values().collect(), revision)
    }
}
