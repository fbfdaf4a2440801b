//! What the store's watch tells, and the events that follow from it.

use std::sync::Arc;

use crate::backend::{Change, Revision, Stored};
use crate::discoverd::engine::Engine;
use crate::discoverd::engine::known::{Entry, Service};
use crate::discoverd::event::{Event, What};
use crate::discoverd::instance::InstanceId;
use crate::discoverd::name::ServiceName;
use crate::discoverd::record::{InstanceKey, InstanceRecord, LeaderType, ServiceRecord};
use crate::map::Set;
use crate::record::{Key, Kind, Record};
use crate::time::Now;

impl Engine {
    /// Up to which revision a kind was told.
    pub(super) fn told(&self, kind: Kind) -> Option<Revision> {
        self.told[usize::from(kind == Kind::Instance)]
    }

    fn was_told(&mut self, kind: Kind, revision: Revision) {
        let told = &mut self.told[usize::from(kind == Kind::Instance)];
        *told = (*told).max(Some(revision));
        self.high = self.high.max(revision.0);
    }

    /// The watch tells a change. Those of other kinds are for others.
    pub fn apply(&mut self, now: Now, change: &Change) {
        match change {
            Change::Reset(kind @ (Kind::Service | Kind::Instance), all, revision) => {
                self.was_reset(now, *kind, all, *revision);
            }
            Change::Put(stored) => self.was_put(now, stored),
            Change::Delete(key @ (Key::Service(_) | Key::Instance(_)), revision) => {
                self.was_told(key.kind(), *revision);
                if let Key::Service(name) = key
                    && let Some(service) = self.services.get_mut(name)
                {
                    service.removed = service.born().or(service.removed);
                }
                self.is_gone(now, key);
            }
            Change::Reset(..) | Change::Delete(..) => {}
        }
    }

    /// The watch tells all that the store held at `revision`. What did not change
    /// is not touched.
    fn was_reset(&mut self, now: Now, kind: Kind, all: &[Stored], revision: Revision) {
        let present: Set<Key> = all.iter().map(|stored| stored.record.key()).collect();
        self.was_told(kind, revision);
        let known = self.keys(kind);
        for key in known.iter().filter(|key| !present.contains(*key)) {
            self.is_gone(now, key);
        }
        let mut all: Vec<&Stored> = all.iter().collect();
        all.sort_unstable_by_key(|stored| stored.revision);
        for stored in all {
            self.was_put(now, stored);
        }
        for key in known {
            self.settle(now, &key);
            self.tidy(&key);
        }
        if self.grace.is_none() && self.told.iter().all(Option::is_some) {
            let at = self.patience.counted(now.mono);
            self.grace = Some(at + 2 * self.setup.ttl);
        }
    }

    /// All keys of a kind that are known or asked for.
    fn keys(&self, kind: Kind) -> Vec<Key> {
        let services = self.services.iter();
        match kind {
            Kind::Service => services
                .map(|(name, _)| Key::Service(name.clone()))
                .collect(),
            _ => services
                .flat_map(|(name, service)| {
                    service.instances.keys().map(|id| {
                        let service = name.clone();
                        Key::Instance(InstanceKey { service, id: *id })
                    })
                })
                .collect(),
        }
    }

    fn was_put(&mut self, now: Now, stored: &Stored) {
        let revision = stored.revision;
        match &stored.record {
            Record::Service(record) => {
                self.was_told(Kind::Service, revision);
                self.high = self.high.max(record.counter);
                self.service_is(now, &record.name, Some((Arc::clone(record), revision)));
            }
            Record::Instance(record) => {
                self.was_told(Kind::Instance, revision);
                let key = record.key();
                self.instance_is(now, &key, Some((Arc::clone(record), revision)));
            }
            _ => {}
        }
    }

    fn is_gone(&mut self, now: Now, key: &Key) {
        match key {
            Key::Service(name) => self.service_is(now, name, None),
            Key::Instance(key) => self.instance_is(now, key, None),
            _ => {}
        }
    }

    fn service_is(
        &mut self,
        now: Now,
        name: &ServiceName,
        new: Option<(Arc<ServiceRecord>, Revision)>,
    ) {
        let service = self.services.entry(name.clone()).or_default();
        let is_same = service.stored.as_ref().map(|known| known.1) == new.as_ref().map(|new| new.1);
        if !is_same {
            let before = service.stored.take().map(|(record, _)| record);
            let after = new.as_ref().map(|(record, _)| Arc::clone(record));
            let was_born = before.as_ref().map(|record| record.born);
            let is_born = after.as_ref().map(|record| record.born);
            let mut events = Vec::new();
            if was_born != is_born {
                let gone = std::mem::take(&mut service.order);
                let gone = gone.iter().filter_map(|(_, id)| service.instance(*id));
                events.extend(gone.map(What::Down));
            }
            service.stored = new;
            if was_born != is_born {
                let shown = service.instances.iter().filter_map(|(id, entry)| {
                    let (record, _) = entry.stored.as_ref()?;
                    service.shows(record).then_some((record.index, *id))
                });
                service.order = shown.collect();
                let come = service.order.iter();
                let come = come.filter_map(|(_, id)| service.instance(*id));
                events.extend(come.map(What::Up));
                service.missing = None;
            }
            let meta = |record: &Option<Arc<ServiceRecord>>| {
                record.as_ref().and_then(|record| record.meta.clone())
            };
            let meta_before = meta(&before).filter(|_| was_born == is_born);
            if let Some(meta) = meta(&after)
                && meta_before.as_ref() != Some(&meta)
            {
                events.push(What::ServiceMeta(meta));
            }
            let waiting: Vec<InstanceId> = service.instances.keys().copied().collect();
            for what in events {
                self.tell(name, what);
            }
            self.tell_leader(name);
            if was_born != is_born {
                // They are registered anew, or go with it.
                for id in waiting {
                    let service = name.clone();
                    let key = Key::Instance(InstanceKey { service, id });
                    self.queue.push(&key, now.mono);
                }
            }
        }
        let key = Key::Service(name.clone());
        self.settle(now, &key);
        self.tidy(&key);
    }

    fn instance_is(
        &mut self,
        now: Now,
        key: &InstanceKey,
        new: Option<(Arc<InstanceRecord>, Revision)>,
    ) {
        let at = self.patience.counted(now.mono);
        let service = self.services.entry(key.service.clone()).or_default();
        let before = service.shown(key.id).cloned();
        let mut is_new = false;
        let entry = service.instances.entry(key.id).or_insert_with(|| {
            is_new = true;
            Entry::new(at)
        });
        self.counts.instances += usize::from(is_new);
        let is_same = entry.stored.as_ref().map(|known| known.1) == new.as_ref().map(|new| new.1);
        if !is_same {
            if entry.stored.is_none() {
                entry.since = at;
            }
            entry.unsure = false;
            entry.index = None;
            let is_loose = new
                .as_ref()
                .is_some_and(|(record, _)| !record.lease.is_held());
            entry.loose = is_loose.then(|| entry.loose.unwrap_or(at));
            entry.stored = new;
            let after = service.shown(key.id).cloned();
            if let Some(record) = &before {
                service.order.remove(&(record.index, key.id));
            }
            if let Some(record) = &after {
                service.order.insert((record.index, key.id));
            }
            match (before, after) {
                (Some(before), Some(after)) if before.index == after.index => {
                    if before.instance != after.instance {
                        self.tell(&key.service, What::Update(after));
                    }
                }
                (before, after) => {
                    if let Some(before) = before {
                        self.tell(&key.service, What::Down(before));
                    }
                    if let Some(after) = after {
                        self.tell(&key.service, What::Up(after));
                    }
                }
            }
            self.tell_leader(&key.service);
        }
        let key = Key::Instance(key.clone());
        self.settle(now, &key);
        // What waits may have waited for this.
        if !is_same {
            self.queue.push(&key, now.mono);
        }
        self.tidy(&key);
    }

    fn tell(&mut self, name: &ServiceName, what: What) {
        let service = name.clone();
        self.events.push(Event {
            service,
            of_tunnel: false,
            what,
        });
    }

    /// Tells who leads, if that has changed.
    fn tell_leader(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let leader = service.chosen();
        if service.leader != leader {
            service.leader = leader;
            let record = leader.and_then(|id| service.instance(id));
            self.tell(name, What::Leader(record));
        }
    }
}

impl Service {
    fn instance(&self, id: InstanceId) -> Option<Arc<InstanceRecord>> {
        let (record, _) = self.instances.get(&id)?.stored.as_ref()?;
        Some(Arc::clone(record))
    }

    /// Who leads now.
    fn chosen(&self) -> Option<InstanceId> {
        let record = self.record()?;
        match record.leader_type {
            LeaderType::Oldest => self.order.first().map(|(_, id)| *id),
            LeaderType::Manual => record.leader.filter(|id| self.shown(*id).is_some()),
        }
    }
}
