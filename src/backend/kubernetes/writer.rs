//! Conditional writes, as requests to the API server.

#[cfg(test)]
mod tests;

use k8s_openapi::api::coordination::v1::Lease;

use super::api::{Api, version_of};
use super::catalogue::Version;
use super::kinds::canonical_name;
use super::object::{Found, Object, Owner, Seen, at, create_body, patch_body};
use super::shared::Shared;
use crate::backend::{Revision, Stored, Write, WriteError};
use crate::kubernetes::Failure;
use crate::record::{Key, Kind, Record};
use crate::resources::{DiscoveryInstance, DiscoveryService, ProxySession, TunnelEndpoint};

/// How many writes are under way at once, each on a connection of its own. More
/// gain nothing: an API server on two cores makes 570 creates a second one after
/// the other, and 880 at 16 at once.
pub(super) const WRITES_AT_ONCE: usize = 64;

/// Makes the writes.
#[derive(Clone)]
pub(super) struct Writer {
    api: Api,
    owner: Option<Owner>,
    shared: Shared,
}

/// What is there instead of what a write expected.
enum Instead {
    /// A record of that identity.
    Record(Stored),
    /// Nothing, as far as anybody may see.
    Nothing,
    /// Nothing, but its name is taken: nothing can be created for now.
    Taken(String),
    /// What was made of it by hand, at this revision: it is to be restored.
    Mangled(Revision),
}

impl Writer {
    pub fn new(api: Api, owner: Option<Owner>, shared: Shared) -> Self {
        Self { api, owner, shared }
    }

    /// Makes one write.
    pub async fn write(&self, write: Write) -> Result<Revision, WriteError> {
        match write.key().kind() {
            Kind::Endpoint => self.make::<TunnelEndpoint>(write).await,
            Kind::Replica => self.make::<Lease>(write).await,
            Kind::Session => self.make::<ProxySession>(write).await,
            Kind::Service => self.make::<DiscoveryService>(write).await,
            Kind::Instance => self.make::<DiscoveryInstance>(write).await,
        }
    }

    async fn make<K: Object>(&self, write: Write) -> Result<Revision, WriteError> {
        match write {
            Write::Create(record) => self.create::<K>(&record).await,
            Write::Put(record, revision) => self.put::<K>(&record, revision).await,
            Write::Delete(key, revision) => self.delete::<K>(&key, revision).await,
        }
    }

    async fn create<K: Object>(&self, record: &Record) -> Result<Revision, WriteError> {
        let key = record.key();
        let place = self.shared.place(&key);
        // Somebody keeps it by hand under another name.
        if !place.is_usual
            && let Instead::Record(stored) = self.instead::<K>(&key, &place.name).await?
        {
            return Err(WriteError::Conflict(Some(Box::new(stored))));
        }
        let body = create_body::<K>(record, self.owner.as_ref()).map_err(WriteError::Refused)?;
        match self.api.create::<K>(body).await {
            Ok(revision) => Ok(revision),
            Err(Failure::Conflict) => match self.instead::<K>(&key, &canonical_name(&key)).await? {
                Instead::Taken(why) => Err(WriteError::Refused(why)),
                Instead::Mangled(revision) => self.restore::<K>(record, revision).await,
                instead => Err(conflict(instead)),
            },
            Err(failure) => Err(error(failure)),
        }
    }

    /// Makes what has the name of a record hold it, if it is still at `revision`.
    async fn restore<K: Object>(
        &self,
        record: &Record,
        revision: Revision,
    ) -> Result<Revision, WriteError> {
        let name = canonical_name(&record.key());
        let patch = patch_body::<K>(record, revision, self.owner.as_ref());
        let patch = patch.map_err(WriteError::Refused)?;
        let patched = self.api.patch::<K>(&name, patch).await;
        match patched.and_then(|answer| version_of(&answer)) {
            Ok(revision) => {
                tracing::warn!(
                    "{} {name} had been changed by hand, and is restored",
                    K::WORD
                );
                Ok(revision)
            }
            Err(Failure::Conflict | Failure::Absent) => Err(WriteError::Conflict(None)),
            Err(failure) => Err(error(failure)),
        }
    }

    async fn put<K: Object>(
        &self,
        record: &Record,
        revision: Revision,
    ) -> Result<Revision, WriteError> {
        let key = record.key();
        let name = self.shared.place(&key).name;
        let patch = patch_body::<K>(record, revision, self.owner.as_ref());
        let patch = patch.map_err(WriteError::Refused)?;
        let patched = async {
            // The API server would take 0 for no condition at all.
            if revision == Revision(0) {
                return Err(Failure::Conflict);
            }
            let answer = self.api.patch::<K>(&name, patch).await?;
            let revision = version_of(&answer)?;
            let object = serde_json::from_str::<K>(&answer).ok();
            match object.and_then(|object| object.surplus(record)) {
                None => Ok(revision),
                Some(surplus) => {
                    let answer = self.api.patch::<K>(&name, at(revision, surplus)).await?;
                    version_of(&answer)
                }
            }
        };
        match patched.await {
            Ok(revision) => Ok(revision),
            Err(Failure::Conflict | Failure::Absent) => {
                match self.instead::<K>(&key, &name).await? {
                    Instead::Taken(why) => Err(WriteError::Refused(why)),
                    Instead::Mangled(revision) => self.restore::<K>(record, revision).await,
                    instead => Err(conflict(instead)),
                }
            }
            Err(failure) => Err(error(failure)),
        }
    }

    async fn delete<K: Object>(
        &self,
        key: &Key,
        revision: Revision,
    ) -> Result<Revision, WriteError> {
        let place = self.shared.place(key);
        let version = Version {
            // A uid that belongs to another revision may be another object's.
            uid: place
                .version
                .filter(|version| version.revision == revision)
                .and_then(|version| version.uid),
            revision,
        };
        let deleted = match revision {
            // No object is at 0: what there is must be found out.
            Revision(0) => Err(Failure::Conflict),
            _ => self.api.delete::<K>(&place.name, version).await,
        };
        let gone = Ok(Revision(revision.0 + 1));
        match deleted {
            Ok(()) | Err(Failure::Absent) => gone,
            Err(Failure::Conflict) => match self.instead::<K>(key, &place.name).await? {
                Instead::Record(stored) => Err(conflict(Instead::Record(stored))),
                // What cannot be read is not served either.
                Instead::Nothing | Instead::Taken(_) | Instead::Mangled(_) => gone,
            },
            Err(failure) => Err(error(failure)),
        }
    }

    /// What is stored under `key` in the object `name`.
    async fn instead<K: Object>(&self, key: &Key, name: &str) -> Result<Instead, WriteError> {
        let seen = match self.api.get::<K>(name).await {
            Ok(seen) => seen,
            Err(Failure::Absent) => return Ok(Instead::Nothing),
            Err(failure) => return Err(error(failure)),
        };
        let (word, revision) = (K::WORD, seen.revision);
        let is_usual = name == canonical_name(key);
        Ok(match &seen.found {
            Found::Record(_) if seen.key.as_ref() == Some(key) => match Seen::stored(seen) {
                Some(stored) => Instead::Record(stored),
                None => Instead::Nothing,
            },
            Found::Record(_) | Found::Malformed(_) if K::RESTORED && is_usual => {
                Instead::Mangled(revision)
            }
            Found::Record(_) => Instead::Taken(format!(
                "{word} {name} has another identity; delete it (kubectl delete {word} {name})"
            )),
            Found::Terminating => Instead::Taken(format!(
                "{word} {name} is being deleted and waits for a finalizer; remove that from metadata.finalizers"
            )),
            Found::Malformed(why) => Instead::Taken(format!(
                "{word} {name} is in the way (kubectl delete {word} {name} makes room): {why}"
            )),
        })
    }
}

fn conflict(instead: Instead) -> WriteError {
    WriteError::Conflict(match instead {
        Instead::Record(stored) => Some(Box::new(stored)),
        Instead::Nothing | Instead::Taken(_) | Instead::Mangled(_) => None,
    })
}

/// What a failure means that was no matter of conditions.
pub(super) fn error(failure: Failure) -> WriteError {
    match failure {
        Failure::Refused(why) => WriteError::Refused(why),
        Failure::Unavailable(why) => WriteError::Unavailable(why),
        Failure::Unreachable(_) | Failure::Absent | Failure::Conflict | Failure::Expired => {
            WriteError::Unavailable(failure.to_string())
        }
    }
}
