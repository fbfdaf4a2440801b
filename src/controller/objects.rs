//! The TunnelEndpoint objects of the namespace, as the watch tells them: which
//! object holds which endpoint, and what its status says. Pure.
//!
//! An object's usual name follows from its identity. Of several objects with one
//! identity the one with the usual name is served, else the one with the least
//! name, as in the store's own mirror; the others are problems.
//!
//! With names that are UUIDs an endpoint takes about 600 bytes here (measured with
//! 100,000).

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde::Deserialize as _;
use std::sync::Arc;
use uuid::Uuid;

use crate::backend::{Change, Revision, Stored};
use crate::controller::conditions::Said;
use crate::map::Map;
use crate::record::{EndpointKey, EndpointRecord, Key, Record};
use crate::resources::tunnel_endpoint::name::object_name;
use crate::resources::{TunnelEndpoint, TunnelEndpointSpec, TunnelEndpointStatus};

/// The most objects with problems that are kept: further ones are not told.
const MAX_PROBLEMS: usize = 256;

/// An object, as far as it must be known to write to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its uid.
    pub uid: Option<Uuid>,
    /// Its version.
    pub revision: Revision,
    /// The generation of its spec.
    pub generation: i64,
    /// What its status says.
    pub said: Said,
    /// In which list it was met, or changed after which.
    epoch: u32,
}

/// An object that nobody serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<Uuid>,
    /// Whether it has the identity of another; else it cannot be read.
    pub is_duplicate: bool,
    /// Why it is not served, and what to do.
    pub text: String,
}

/// What an object tells.
#[derive(Debug, Default)]
pub struct News {
    /// What changed of the endpoints that are served.
    pub changes: Vec<Change>,
    /// The endpoints whose object changed.
    pub touched: Vec<EndpointKey>,
    /// Objects that are not served, told once each.
    pub problems: Vec<Problem>,
}

/// The objects of the namespace.
#[derive(Debug, Default)]
pub struct Objects {
    /// Those with their usual names.
    usual: Map<EndpointKey, Object>,
    /// Those with other names.
    others: Map<EndpointKey, BTreeMap<String, (Object, Arc<EndpointRecord>)>>,
    /// With the epoch in which each was met last, by the object's name.
    problems: BTreeMap<String, (Problem, u32)>,
    epoch: u32,
}

impl Objects {
    /// Everything is told anew from here on.
    pub fn begin(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Everything was told: what was not is gone.
    pub fn listed(&mut self) -> News {
        let mut news = News::default();
        let epoch = self.epoch;
        let usual = self.usual.iter().filter(|(_, it)| it.epoch != epoch);
        let usual: Vec<_> = usual.map(|(key, _)| key.clone()).collect();
        for key in usual {
            self.take_out(&key, &object_name(&key), &mut news);
        }
        let others = self.others.iter().flat_map(|(key, all)| {
            let gone = all.iter().filter(|(_, (it, _))| it.epoch != epoch);
            gone.map(|(name, _)| (key.clone(), name.clone()))
        });
        for (key, name) in others.collect::<Vec<_>>() {
            self.take_out(&key, &name, &mut news);
        }
        self.problems.retain(|_, (_, met)| *met == epoch);
        news
    }

    /// An object is as it is.
    pub fn put(&mut self, object: &DynamicObject) -> News {
        let mut news = News::default();
        if object.metadata.deletion_timestamp.is_some() {
            // It waits for somebody's finalizer.
            return self.gone(object);
        }
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let read = read(object);
        let record = read
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|object| object.to_record().map_err(|why| why.to_string()));
        match (read, record) {
            (Ok(object), Ok(record)) => self.put_record(name, &object, record, &mut news),
            (read, Err(text)) => {
                if let Ok(key) = read.and_then(|it| it.key().map_err(|why| why.to_string())) {
                    self.take_out(&key, name, &mut news);
                }
                self.problem(name, uid(object), false, text, &mut news);
            }
            (Err(_), Ok(_)) => {}
        }
        news
    }

    fn put_record(
        &mut self,
        name: &str,
        object: &TunnelEndpoint,
        record: EndpointRecord,
        news: &mut News,
    ) {
        let key = record.endpoint.key.clone();
        let meta = &object.metadata;
        let version = meta.resource_version.as_deref().unwrap_or_default();
        let met = Object {
            uid: meta.uid.as_deref().and_then(|uid| uid.parse().ok()),
            // No number: a delete at it fails, and that is told.
            revision: Revision(version.parse().unwrap_or_default()),
            generation: meta.generation.unwrap_or_default(),
            said: Said::by(object.status.as_ref()),
            epoch: self.epoch,
        };
        let revision = met.revision;
        let record = Arc::new(record);
        if name == object_name(&key) {
            self.usual.insert(key.clone(), met);
        } else {
            let all = self.others.entry(key.clone()).or_default();
            all.insert(name.to_owned(), (met, Arc::clone(&record)));
        }
        if self.served(&key).is_some_and(|(served, _)| served == name) {
            self.problems.remove(name);
            let record = Record::Endpoint(record);
            news.changes.push(Change::Put(Stored { record, revision }));
        }
        self.compare(&key, news);
        news.touched.push(key);
    }

    /// An object is gone.
    pub fn gone(&mut self, object: &DynamicObject) -> News {
        let mut news = News::default();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        self.problems.remove(name);
        if let Ok(object) = read(object)
            && let Ok(key) = object.key()
        {
            self.take_out(&key, name, &mut news);
        }
        news
    }

    fn take_out(&mut self, key: &EndpointKey, name: &str, news: &mut News) {
        let was_served = self.served(key).is_some_and(|(served, _)| served == name);
        let usual = self
            .usual
            .get(key)
            .is_some_and(|_| name == object_name(key));
        let removed = if usual {
            self.usual.remove(key)
        } else {
            let all = self.others.get_mut(key);
            all.and_then(|all| all.remove(name)).map(|(met, _)| met)
        };
        if self.others.get(key).is_some_and(BTreeMap::is_empty) {
            self.others.remove(key);
        }
        let Some(removed) = removed.filter(|_| was_served) else {
            return;
        };
        let gone = Key::Endpoint(key.clone());
        news.changes.push(Change::Delete(gone, removed.revision));
        let next = self.others.get(key).and_then(|all| all.values().next());
        if let Some((met, record)) = next {
            news.changes.push(Change::Put(Stored {
                record: Record::Endpoint(Arc::clone(record)),
                revision: met.revision,
            }));
            news.touched.push(key.clone());
        }
        self.compare(key, news);
    }

    /// The object that holds an endpoint, with its name.
    #[must_use]
    pub fn served(&self, key: &EndpointKey) -> Option<(String, &Object)> {
        if let Some(usual) = self.usual.get(key) {
            return Some((object_name(key), usual));
        }
        let (name, (other, _)) = self.others.get(key)?.iter().next()?;
        Some((name.clone(), other))
    }

    /// The endpoints that are served.
    pub fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        let others = self.others.keys();
        let alone = others.filter(|key| !self.usual.contains_key(*key));
        self.usual.keys().chain(alone)
    }

    /// Notes which of the objects of one identity are not served.
    fn compare(&mut self, key: &EndpointKey, news: &mut News) {
        let Some(all) = self.others.get(key) else {
            return;
        };
        let Some((served, _)) = self.served(key) else {
            return;
        };
        let all = all.iter();
        let all: Vec<_> = all
            .map(|(name, (met, _))| (name.clone(), met.uid))
            .collect();
        for (name, uid) in all {
            if name == served {
                self.problems.remove(&name);
            } else {
                let text = format!(
                    "It has the same identity as {served}, which is served instead; delete one of them"
                );
                self.problem(&name, uid, true, text, news);
            }
        }
    }

    fn problem(
        &mut self,
        name: &str,
        uid: Option<Uuid>,
        is_duplicate: bool,
        text: String,
        news: &mut News,
    ) {
        let epoch = self.epoch;
        if let Some((known, met)) = self.problems.get_mut(name) {
            *met = epoch;
            if known.text == text {
                return;
            }
        } else if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let problem = Problem {
            name: name.to_owned(),
            uid,
            is_duplicate,
            text,
        };
        news.problems.push(problem.clone());
        self.problems.insert(name.to_owned(), (problem, epoch));
    }

    /// The objects that are not served, of which at most 256 are kept.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let problems = self.problems.values();
        problems.map(|(problem, _)| problem.clone()).collect()
    }
}

fn uid(object: &DynamicObject) -> Option<Uuid> {
    object.metadata.uid.as_deref()?.parse().ok()
}

/// The object as its definition has it. A status that cannot be read says nothing.
fn read(object: &DynamicObject) -> Result<TunnelEndpoint, String> {
    let spec = TunnelEndpointSpec::deserialize(&object.data["spec"])
        .map_err(|why| format!("spec cannot be read: {why}"))?;
    let status = TunnelEndpointStatus::deserialize(&object.data["status"]).ok();
    Ok(TunnelEndpoint {
        metadata: object.metadata.clone(),
        spec,
        status,
    })
}

#[cfg(test)]
mod tests;
