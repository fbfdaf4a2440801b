//! The objects that were made for sessions, as watches and answers tell them, and
//! what is to be done so that they are as they should be. Pure.
//!
//! What is made by others in our objects (labels, fields that we do not set) is
//! left alone as long as ours is there; a change of what we wrote is mended, also
//! one that only adds to it.

mod body;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::core::DynamicObject;
use serde_json::Value;

use crate::controller::plan::routes::objects::{HASH, HOST};
use crate::controller::plan::routes::{Id, Kind, Wanted};
use crate::map::{Map, Set};
use crate::resources::gateway::HttpRouteStatus;

use body::{backends, content, has, owners, service};

/// How long a Service stays that no HTTPRoute sends to any more: a Gateway may
/// know the HTTPRoute that was only for so long (Traefik takes what changes every
/// 2 s by default), and is not to find nobody there.
const LINGER: Duration = Duration::from_secs(3);
/// How long an object waits that could not be written, at first and at most.
const AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// An object that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its uid.
    pub uid: String,
    /// Its generation; 0 where its kind has none.
    pub generation: i64,
    /// What Gateways say of it, if it is an `HTTPRoute`.
    pub status: Option<HttpRouteStatus>,
    version: u64,
    body: Value,
    /// A hash of all that is neither metadata nor status.
    content: String,
    /// The content that came of our own write, or was found to be right.
    trusted: Option<String>,
    /// The wanted object, by its hash, with which it was found to agree.
    agrees: Option<String>,
    /// Listed last in this list.
    epoch: u32,
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Services and slices are written.
    Backends,
    /// HTTPRoutes are written, to what is there.
    Routes,
    /// HTTPRoutes that are not wanted any more are deleted.
    StaleRoutes,
    /// Services and slices are deleted that no HTTPRoute sends to any more.
    StaleBackends,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Self; 4] = [
        Self::Backends,
        Self::Routes,
        Self::StaleRoutes,
        Self::StaleBackends,
    ];
}

/// A step of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The object is written.
    Apply(Id),
    /// The object with this uid is deleted.
    Delete(Id, String),
}

impl Step {
    /// Which object.
    #[must_use]
    pub fn id(&self) -> &Id {
        match self {
            Self::Apply(id) | Self::Delete(id, _) => id,
        }
    }
}

/// The objects that are there.
#[derive(Debug, Default)]
pub struct Made {
    seen: BTreeMap<Id, Seen>,
    listed: Set<Kind>,
    /// The list of each kind that began last.
    epochs: Map<Kind, u32>,
    /// Services, and slices of them, that are of no use any more, and since when.
    unused: Map<Id, Instant>,
    /// What could not be written, until when, and how long it waited.
    failed: Map<Id, (Instant, Duration)>,
}

impl Made {
    /// The objects of a kind are told anew.
    pub fn begin(&mut self, kind: Kind) {
        let epoch = self.epochs.entry(kind).or_default();
        *epoch = epoch.wrapping_add(1);
    }

    /// All objects of a kind were told.
    pub fn listed(&mut self, kind: Kind) {
        let epoch = self.epoch(kind);
        self.seen
            .retain(|id, seen| id.kind != kind || seen.epoch == epoch);
        self.listed.insert(kind);
    }

    /// There are no objects of a kind: the API server does not know it.
    pub fn none(&mut self, kind: Kind) {
        self.seen.retain(|id, _| id.kind != kind);
        self.listed.insert(kind);
    }

    fn epoch(&self, kind: Kind) -> u32 {
        self.epochs.get(&kind).copied().unwrap_or_default()
    }

    /// Whether all objects of a kind are known.
    #[must_use]
    pub fn is_listed(&self, kind: Kind) -> bool {
        self.listed.contains(&kind)
    }

    /// An object as it is. Returns whether that is news.
    pub fn put(&mut self, kind: Kind, object: DynamicObject) -> bool {
        self.take(kind, object, None)
    }

    /// An object as it was answered to our own write.
    pub fn applied(&mut self, kind: Kind, object: DynamicObject, wanted: &Wanted) {
        self.take(kind, object, Some(wanted));
    }

    fn take(&mut self, kind: Kind, object: DynamicObject, written: Option<&Wanted>) -> bool {
        let DynamicObject { metadata, data, .. } = object;
        let Some(name) = metadata.name.clone() else {
            return false;
        };
        let id = Id { kind, name };
        let version = metadata.resource_version.as_deref();
        let version = version
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let epoch = self.epoch(kind);
        if let Some(known) = self.seen.get_mut(&id)
            && written.is_none()
            && known.version >= version
            && version > 0
        {
            known.epoch = epoch;
            return false;
        }
        let mut body = data;
        let status = body["status"].take();
        let content = content(&body);
        if let Some(body) = body.as_object_mut() {
            body.remove("status");
        }
        body["metadata"] = serde_json::json!({
            "labels": metadata.labels,
            "annotations": metadata.annotations,
            "ownerReferences": metadata.owner_references,
        });
        let known = self.seen.get(&id);
        let trusted = match written {
            Some(_) => Some(content.clone()),
            None => known.and_then(|known| known.trusted.clone()),
        };
        let seen = Seen {
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            status: serde_json::from_value(status).ok(),
            version,
            content,
            trusted,
            agrees: written.map(|wanted| wanted.hash.clone()),
            body,
            epoch,
        };
        self.failed.remove(&id);
        self.seen.insert(id, seen);
        true
    }

    /// An object is gone.
    pub fn gone(&mut self, kind: Kind, name: &str, uid: Option<&str>) -> bool {
        let id = Id {
            kind,
            name: name.to_owned(),
        };
        let is_it = |seen: &Seen| uid.is_none_or(|uid| uid == seen.uid);
        if self.seen.get(&id).is_some_and(is_it) {
            self.seen.remove(&id);
            return true;
        }
        false
    }

    /// An object could not be written or deleted: it waits, ever longer.
    pub fn failed(&mut self, id: &Id, now: Instant) {
        let pause = match self.failed.get(id) {
            Some((_, pause)) => (*pause * 2).min(*AGAIN.end()),
            None => *AGAIN.start(),
        };
        self.failed.insert(id.clone(), (now + pause, pause));
    }

    /// An object that is there.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Seen> {
        self.seen.get(&Id {
            kind,
            name: name.to_owned(),
        })
    }

    /// How many objects there are of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.seen.keys().filter(|id| id.kind == kind).count()
    }

    /// The hosts and addresses of the slices that are there.
    pub fn slices(&self) -> impl Iterator<Item = &Value> {
        let slices = self.seen.iter().filter(|(id, _)| id.kind == Kind::Slice);
        let of_hosts =
            slices.filter(|(_, seen)| seen.body["metadata"]["annotations"][HOST].is_string());
        of_hosts.map(|(_, seen)| &seen.body)
    }

    /// What a stage has to do now.
    pub fn steps(
        &mut self,
        stage: Stage,
        wanted: &BTreeMap<Id, Wanted>,
        now: Instant,
    ) -> Vec<Step> {
        let steps = match stage {
            Stage::Backends => self.missing(wanted, |kind| kind != Kind::Route),
            Stage::Routes => {
                let steps = self.missing(wanted, |kind| kind == Kind::Route);
                let lacking = self.lacking(wanted);
                let steps = steps.into_iter();
                let is_ready = |step: &Step| {
                    let needs = wanted
                        .get(step.id())
                        .map_or(&[][..], |wanted| &wanted.needs);
                    !needs.iter().any(|need| lacking.contains(need))
                };
                steps.filter(is_ready).collect()
            }
            Stage::StaleRoutes => self.surplus(wanted, |kind| kind == Kind::Route),
            Stage::StaleBackends => self.left(wanted, now),
        };
        let waits = |id: &Id| self.failed.get(id).is_some_and(|(until, _)| *until > now);
        steps.into_iter().filter(|step| !waits(step.id())).collect()
    }

    /// Wanted objects that are not there as they should be.
    fn missing(&mut self, wanted: &BTreeMap<Id, Wanted>, kinds: fn(Kind) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, wanted) in wanted {
            if kinds(id.kind) && self.is_listed(id.kind) && !self.is_made(id, wanted) {
                steps.push(Step::Apply(id.clone()));
            }
        }
        steps
    }

    /// Services that are not there yet as they should be, with all their slices.
    fn lacking(&mut self, wanted: &BTreeMap<Id, Wanted>) -> BTreeSet<String> {
        let steps = self.missing(wanted, |kind| kind != Kind::Route);
        let mut lacking = BTreeSet::new();
        for step in steps {
            let id = step.id();
            match id.kind {
                Kind::Service => {
                    lacking.insert(id.name.clone());
                }
                Kind::Slice | Kind::Route => {
                    let needs = wanted.get(id).into_iter().flat_map(|wanted| &wanted.needs);
                    lacking.extend(needs.cloned());
                }
            }
        }
        lacking
    }

    /// What is not wanted: a session's HTTPRoutes once all that it should have are
    /// there, the rest once no HTTPRoute that is there sends to it.
    fn surplus(&mut self, wanted: &BTreeMap<Id, Wanted>, kinds: fn(Kind) -> bool) -> Vec<Step> {
        if !Kind::ALL.into_iter().all(|kind| self.is_listed(kind)) {
            return Vec::new();
        }
        let missing = self.missing(wanted, |kind| kind == Kind::Route);
        let missing = missing.iter().filter_map(|step| wanted.get(step.id()));
        let lacking: Set<&str> = missing.flat_map(|wanted| owners(&wanted.body)).collect();
        let mut used: Set<&str> = Set::default();
        for (id, seen) in &self.seen {
            if id.kind == Kind::Route {
                used.extend(backends(&seen.body));
            }
        }
        let surplus = self.seen.iter();
        let surplus = surplus.filter(|(id, _)| kinds(id.kind) && !wanted.contains_key(id));
        let free = surplus.filter(|(id, seen)| match id.kind {
            Kind::Route => !owners(&seen.body).any(|owner| lacking.contains(owner)),
            Kind::Service => !used.contains(&*id.name),
            // One of a Service that stays is of a session that left it.
            Kind::Slice => service(&seen.body)
                .is_none_or(|of| wanted.contains_key(&of) || !used.contains(&*of.name)),
        });
        let steps = free.map(|(id, seen)| Step::Delete(id.clone(), seen.uid.clone()));
        let mut steps: Vec<_> = steps.collect();
        // Slices go before their Services.
        steps.sort_by_key(|step| std::cmp::Reverse(step.id().kind));
        steps
    }

    /// Services and slices that are of no use any more, and have not been for long
    /// enough. A session that left a Service which stays is to get no more requests:
    /// its slice goes at once.
    fn left(&mut self, wanted: &BTreeMap<Id, Wanted>, now: Instant) -> Vec<Step> {
        let steps = self.surplus(wanted, |kind| kind != Kind::Route);
        let unused: Set<Id> = steps.iter().map(|step| step.id().clone()).collect();
        self.unused.retain(|id, _| unused.contains(id));
        let mut left = Vec::new();
        for step in steps {
            let id = step.id();
            let since = *self.unused.entry(id.clone()).or_insert(now);
            let has_lingered = now.saturating_duration_since(since) >= LINGER;
            let seen = self.seen.get(id).filter(|_| id.kind == Kind::Slice);
            let of = seen.and_then(|seen| service(&seen.body));
            if has_lingered || of.is_some_and(|of| wanted.contains_key(&of)) {
                left.push(step);
            }
        }
        left
    }

    /// Whether an object is there as it should be.
    fn is_made(&mut self, id: &Id, wanted: &Wanted) -> bool {
        let Some(seen) = self.seen.get_mut(id) else {
            return false;
        };
        if seen
            .trusted
            .as_ref()
            .is_some_and(|trusted| *trusted != seen.content)
        {
            return false;
        }
        if seen.agrees.as_ref() == Some(&wanted.hash) {
            return true;
        }
        let annotation = &seen.body["metadata"]["annotations"][HASH];
        let agrees = *annotation == *wanted.hash && has(&seen.body, &wanted.body);
        if agrees {
            seen.agrees = Some(wanted.hash.clone());
            seen.trusted = Some(seen.content.clone());
        }
        agrees
    }
}

#[cfg(test)]
mod tests;
