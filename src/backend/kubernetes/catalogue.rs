//! Which object holds which record of a kind. Pure.
//!
//! What this program creates has a name that follows from its identity. What
//! others make by hand may have any name, so two objects may have one identity.
//! Then the one with the usual name is served, else the one with the least name;
//! the others are problems, and are served when those before them go.
//!
//! A record that appears like that has the revision of its own object, which may
//! be lower than that of the delete before it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use uuid::Uuid;

use super::kinds::canonical_name;
use super::object::{Found, Seen};
use crate::backend::problems::{Problem, Problems};
use crate::backend::{Change, Revision, Stored};
use crate::map::Map;
use crate::record::{Key, Kind};

/// Where a record is kept, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The object's name.
    pub name: String,
    /// Whether that is the name that follows from the identity.
    pub is_usual: bool,
    /// The version that was met last.
    pub version: Option<Version>,
}

/// A version of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Of which object.
    pub uid: Option<Uuid>,
    /// At which revision.
    pub revision: Revision,
}

/// An object has another identity than it had, which only a list can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown;

/// The objects of a kind that can be read.
#[derive(Debug)]
pub(super) struct Catalogue {
    kind: Kind,
    /// The last versions, by a hash of the object's name: all that must be kept
    /// of the usual ones, of which there may be 100,000.
    versions: Map<u64, Version>,
    /// Objects with other names than the usual, by identity and name.
    others: Map<Key, BTreeMap<String, Stored>>,
    /// The identities of those, by name.
    identities: Map<String, Key>,
    problems: Problems,
}

impl Catalogue {
    /// No objects.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            versions: Map::default(),
            others: Map::default(),
            identities: Map::default(),
            problems: Problems::default(),
        }
    }

    /// Where the record of `key` is, or would be created.
    pub fn place(&self, key: &Key) -> Place {
        let usual = canonical_name(key);
        let version = self.version(&usual);
        let other = || self.others.get(key)?.first_key_value();
        match other().filter(|_| version.is_none()) {
            None => Place {
                name: usual,
                is_usual: true,
                version,
            },
            Some((name, _)) => Place {
                name: name.clone(),
                is_usual: false,
                version: self.version(name),
            },
        }
    }

    /// What is not served.
    pub fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }

    /// An object of a list. Returns its record if it has the usual name; the
    /// others follow when the list has ended.
    pub fn listed(&mut self, seen: Seen) -> Option<Stored> {
        let (key, is_usual) = self.enter(&seen)?;
        let name = seen.name.clone();
        let stored = seen.stored()?;
        if is_usual {
            return Some(stored);
        }
        self.insert_other(&key, name, stored);
        None
    }

    /// The records of objects with other names that are served. The list has
    /// ended.
    pub fn others(&mut self) -> Vec<Stored> {
        let keys: Vec<Key> = self.others.keys().cloned().collect();
        let mut served = Vec::new();
        for key in keys {
            self.compare(&key);
            if self.version(&canonical_name(&key)).is_none() {
                let first = self.others.get(&key).and_then(|all| all.values().next());
                served.extend(first.cloned());
            }
        }
        served
    }

    /// An object was made or changed.
    ///
    /// # Errors
    /// [`Unknown`] when a list must tell what it was before.
    pub fn changed(&mut self, seen: Seen) -> Result<Vec<Change>, Unknown> {
        let mut changes = self.forget_if_other(&seen)?;
        if !matches!(seen.found, Found::Record(_)) {
            changes.extend(self.remove(&seen));
            self.enter(&seen);
            return Ok(changes);
        }
        let Some((key, is_usual)) = self.enter(&seen) else {
            return Ok(changes);
        };
        let name = seen.name.clone();
        let Some(stored) = seen.stored() else {
            return Ok(changes);
        };
        if !is_usual {
            self.insert_other(&key, name.clone(), stored.clone());
        }
        self.compare(&key);
        if self.place(&key).name == name {
            changes.push(Change::Put(stored));
        }
        Ok(changes)
    }

    /// An object was deleted; this was its last state.
    ///
    /// # Errors
    /// [`Unknown`] when a list must tell what it was before.
    pub fn deleted(&mut self, seen: &Seen) -> Result<Vec<Change>, Unknown> {
        let mut changes = self.forget_if_other(seen)?;
        changes.extend(self.remove(seen));
        self.problems.solved(&seen.name);
        Ok(changes)
    }

    /// Notes the version of an object that can be read, or what is wrong with
    /// it. Returns its identity, and whether its name is the usual one.
    fn enter(&mut self, seen: &Seen) -> Option<(Key, bool)> {
        match (&seen.found, &seen.key) {
            (Found::Record(_), Some(key)) => {
                let version = Version {
                    uid: seen.uid,
                    revision: seen.revision,
                };
                self.versions.insert(self.hash(&seen.name), version);
                self.problems.solved(&seen.name);
                Some((key.clone(), canonical_name(key) == seen.name))
            }
            (Found::Malformed(why), _) => {
                self.problems.note(Problem {
                    kind: Some(self.kind),
                    name: seen.name.clone(),
                    uid: seen.uid,
                    text: why.clone(),
                });
                None
            }
            (Found::Terminating | Found::Record(_), _) => {
                self.problems.solved(&seen.name);
                None
            }
        }
    }

    fn insert_other(&mut self, key: &Key, name: String, stored: Stored) {
        self.identities.insert(name.clone(), key.clone());
        let all = self.others.entry(key.clone()).or_default();
        all.insert(name, stored);
    }

    /// What an object was is forgotten if it has another identity now.
    fn forget_if_other(&mut self, seen: &Seen) -> Result<Vec<Change>, Unknown> {
        if self.version(&seen.name).is_none() {
            return Ok(Vec::new());
        }
        match (self.identities.get(&seen.name), &seen.key) {
            (Some(before), now) if Some(before) != now.as_ref() => {
                let before = before.clone();
                Ok(self.remove_of(&before, &seen.name, seen.revision))
            }
            (Some(_), _) => Ok(Vec::new()),
            (None, Some(now)) if canonical_name(now) == seen.name => Ok(Vec::new()),
            (None, _) => Err(Unknown),
        }
    }

    /// An object is not there any more, or cannot be read any more.
    fn remove(&mut self, seen: &Seen) -> Vec<Change> {
        match &seen.key {
            Some(key) if self.version(&seen.name).is_some() => {
                self.remove_of(key, &seen.name, seen.revision)
            }
            _ => Vec::new(),
        }
    }

    fn remove_of(&mut self, key: &Key, name: &str, revision: Revision) -> Vec<Change> {
        let was_served = self.place(key).name == name;
        self.versions.remove(&self.hash(name));
        self.problems.solved(name);
        if self.identities.remove(name).is_some()
            && let Some(all) = self.others.get_mut(key)
        {
            all.remove(name);
            if all.is_empty() {
                self.others.remove(key);
            }
        }
        if !was_served {
            return Vec::new();
        }
        self.compare(key);
        let next = self.others.get(key).and_then(|all| all.values().next());
        let next = next.cloned().map(Change::Put);
        [Change::Delete(key.clone(), revision)]
            .into_iter()
            .chain(next)
            .collect()
    }

    /// Notes which of the objects of one identity are not served.
    fn compare(&mut self, key: &Key) {
        let Some(all) = self.others.get(key) else {
            return;
        };
        let served = self.place(key).name;
        let names: Vec<String> = all.keys().cloned().collect();
        for name in names {
            if name == served {
                self.problems.solved(&name);
                continue;
            }
            let uid = self.version(&name).and_then(|version| version.uid);
            self.problems.note(Problem {
                kind: Some(self.kind),
                text: format!(
                    "has the same identity as {served}, which is served instead; delete one of them"
                ),
                name,
                uid,
            });
        }
    }

    fn version(&self, name: &str) -> Option<Version> {
        self.versions.get(&self.hash(name)).copied()
    }

    /// Names are anybody's choice, but the hash has a random key.
    fn hash(&self, name: &str) -> u64 {
        self.versions.hasher().hash_one(name)
    }
}
