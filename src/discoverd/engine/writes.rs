//! Which write is next, and what its end means.
//!
//! Every write is conditional on what the watch has told. Once one was made, the
//! next of the same record waits until the watch has told it.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::backend::{Revision, Write, WriteError};
use crate::discoverd::engine::{Done, Engine, Outcome, Pending, Request, Service};
use crate::discoverd::instance::InstanceId;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{
    InstanceKey, InstanceRecord, LeaderType, ServiceMeta, ServiceRecord,
};
use crate::lease::{Lease, Released};
use crate::record::{Key, Record};
use crate::registry::queue::Ended;
use crate::time::Now;

/// What becomes of a request, or of an instance, when it has its turn.
enum Step<T> {
    Answer(Outcome),
    /// First the store must hold this, or nothing.
    Store(Option<T>, Done),
    /// It needs an index.
    Index,
    Nothing,
}

impl Engine {
    /// The next write that is to be made, if one is due. Its end is told to
    /// [`Engine::written`], also when it did not end in time.
    pub fn next_write(&mut self, now: Now) -> Option<(Key, Write)> {
        while let Some(key) = self.queue.take(now.mono) {
            let write = match &key {
                Key::Service(name) => self.write_of_service(name),
                Key::Instance(instance) => self.write_of_instance(now, instance),
                _ => None,
            };
            match write {
                Some(write) => return Some((key, write)),
                None => {
                    self.queue.ended(&key, Ended::Needless, now.mono);
                    self.tidy(&key);
                }
            }
        }
        None
    }

    fn write_of_service(&mut self, name: &ServiceName) -> Option<Write> {
        let key = Key::Service(name.clone());
        loop {
            let high = self.high;
            let service = self.services.get_mut(name)?;
            if service.pending.is_some() {
                return None;
            }
            let step = service.step(name, high);
            let service = self.services.get_mut(name)?;
            let ticket = service.asked.front().map(|asked| asked.ticket);
            let (mut content, done) = match (step, ticket) {
                (Step::Answer(outcome), Some(ticket)) => {
                    self.answer(&key, ticket, outcome);
                    continue;
                }
                (Step::Store(content, done), _) => (content, done),
                _ => return None,
            };
            let mut reserved = Vec::new();
            if let Some(content) = &mut content {
                reserved = std::mem::take(&mut service.wanting);
                content.counter += reserved.len() as u64;
            }
            let content = content.map(Arc::new);
            let before = service.stored.as_ref().map(|(_, revision)| *revision);
            service.pending = Some(Pending {
                content: content.clone(),
                asked: ticket.map(|ticket| (ticket, done)),
                reserved,
                before,
                made: None,
            });
            return Some(write(key, content.map(Record::Service), before));
        }
    }

    fn write_of_instance(&mut self, now: Now, instance: &InstanceKey) -> Option<Write> {
        let at = self.patience.counted(now.mono);
        let key = Key::Instance(instance.clone());
        loop {
            if self.entry_mut(instance)?.pending.is_some() {
                return None;
            }
            let step = self.step_of_instance(now, at, instance);
            let entry = self.entry_mut(instance)?;
            let ticket = entry.asked.front().map(|asked| asked.ticket);
            match (step, ticket) {
                (Step::Answer(outcome), Some(ticket)) => self.answer(&key, ticket, outcome),
                (Step::Store(content, done), _) => {
                    let before = entry.stored.as_ref().map(|(_, revision)| *revision);
                    let content = content.map(Arc::new);
                    entry.pending = Some(Pending {
                        content: content.clone(),
                        asked: ticket.map(|ticket| (ticket, done)),
                        reserved: Vec::new(),
                        before,
                        made: None,
                    });
                    return Some(write(key, content.map(Record::Instance), before));
                }
                (Step::Index, _) => {
                    let service = self.services.get_mut(&instance.service)?;
                    let reserved = service.pending.as_ref().map(|pending| &pending.reserved);
                    let is_coming = reserved.is_some_and(|ids| ids.contains(&instance.id));
                    if !is_coming && !service.wanting.contains(&instance.id) {
                        service.wanting.push(instance.id);
                    }
                    let service = Key::Service(instance.service.clone());
                    self.queue.push(&service, now.mono);
                    return None;
                }
                _ => return None,
            }
        }
    }

    /// What is to be done about an instance.
    fn step_of_instance(&self, now: Now, at: Instant, key: &InstanceKey) -> Step<InstanceRecord> {
        let Some(service) = self.services.get(&key.service) else {
            return Step::Nothing;
        };
        let Some(entry) = service.instances.get(&key.id) else {
            return Step::Nothing;
        };
        let stored = entry.stored.as_ref().map(|(record, _)| record);
        let shown = stored.filter(|record| service.shows(record));
        let held = || {
            let before = stored.map(|record| later(record.lease.renew_time));
            let wall = before.map_or(now.wall, |before| now.wall.max(before));
            Lease::held(Arc::clone(&self.setup.identity), wall, self.setup.ttl)
        };
        match entry.asked.front().map(|asked| &asked.wish) {
            Some(Request::Register(name, instance)) => {
                let Some(born) = service.born() else {
                    return Step::Answer(Err(Problem::NoService(name.clone())));
                };
                let index = match (shown, entry.index) {
                    (Some(record), _) if record.instance == *instance && !entry.unsure => {
                        return Step::Answer(Ok(Done::Done));
                    }
                    (Some(record), _) => record.index,
                    (None, Some((of, index))) if of == born => index,
                    (None, _) => return Step::Index,
                };
                let record = InstanceRecord {
                    service: name.clone(),
                    born,
                    index,
                    instance: instance.clone(),
                    lease: held(),
                };
                Step::Store(Some(record), Done::Done)
            }
            Some(_) if stored.is_none() => Step::Answer(Ok(Done::Done)),
            Some(_) => Step::Store(None, Done::Done),
            None => {
                let Some(record) = stored else {
                    return Step::Nothing;
                };
                if self.is_over(service, entry, at) {
                    return Step::Store(None, Done::Done);
                }
                let lease = if self.is_to_be_released(entry, at) {
                    Lease::released(Released::Silent, held().renew_time, self.setup.ttl)
                } else if self.is_to_be_held(entry, at) {
                    held()
                } else {
                    return Step::Nothing;
                };
                let record = InstanceRecord {
                    lease,
                    ..(**record).clone()
                };
                Step::Store(Some(record), Done::Done)
            }
        }
    }

    /// A write that was handed out has ended.
    pub fn written(&mut self, now: Now, key: &Key, result: &Result<Revision, WriteError>) {
        let ended = match key {
            Key::Service(name) => self.service_written(now, name, result),
            Key::Instance(instance) => self.instance_written(now, instance, result),
            _ => Ended::Done,
        };
        let is_due = self.asked_mut(key).is_some_and(|asked| !asked.is_empty());
        let is_wanted = match key {
            Key::Service(name) => self
                .services
                .get(name)
                .is_some_and(|service| !service.wanting.is_empty()),
            // Whatever it was for, that is looked at again.
            _ => true,
        };
        let ended = match ended {
            Ended::Refused | Ended::Conflict if !is_due && !is_wanted => Ended::Done,
            ended => ended,
        };
        self.queue.ended(key, ended, now.mono);
        self.tidy(key);
    }

    fn service_written(
        &mut self,
        now: Now,
        name: &ServiceName,
        result: &Result<Revision, WriteError>,
    ) -> Ended {
        let Some(service) = self.services.get_mut(name) else {
            return Ended::Done;
        };
        let Some(pending) = &mut service.pending else {
            return Ended::Done;
        };
        let reserved = std::mem::take(&mut pending.reserved);
        if let Ok(revision) = result {
            pending.made = Some(*revision);
            if let Some(content) = pending.content.clone() {
                self.high = self.high.max(content.counter);
                self.indexes_given(now, &content, &reserved);
            }
            self.settle(now, &Key::Service(name.clone()));
            return Ended::Done;
        }
        let pending = service.pending.take();
        let (content, asked) =
            pending.map_or((None, None), |pending| (pending.content, pending.asked));
        service.wanting.extend(reserved);
        if let (Err(WriteError::Unavailable(_)), Some(first), Some((ticket, _))) =
            (result, service.asked.front_mut(), &asked)
            && first.ticket == *ticket
        {
            first.attempt = Some(content);
        }
        let Err(WriteError::Refused(why)) = result else {
            return failed(result);
        };
        let wanting = std::mem::take(&mut service.wanting);
        if let Some((ticket, _)) = asked {
            let problem = Problem::Refused(why.clone());
            self.answer(&Key::Service(name.clone()), ticket, Err(problem));
        }
        for id in wanting {
            let service = name.clone();
            let key = Key::Instance(InstanceKey { service, id });
            while let Some(ticket) = self
                .asked_mut(&key)
                .and_then(|asked| asked.front().map(|asked| asked.ticket))
            {
                self.answer(&key, ticket, Err(Problem::Refused(why.clone())));
            }
            self.tidy(&key);
        }
        Ended::Refused
    }

    /// The last indexes of a service go to these.
    fn indexes_given(&mut self, now: Now, record: &ServiceRecord, ids: &[InstanceId]) {
        let first = record.counter + 1 - ids.len() as u64;
        for (index, id) in (first..).zip(ids) {
            let key = InstanceKey {
                service: record.name.clone(),
                id: *id,
            };
            if let Some(entry) = self.entry_mut(&key) {
                entry.index = Some((record.born, index));
                self.queue.push(&Key::Instance(key), now.mono);
            }
        }
    }

    fn instance_written(
        &mut self,
        now: Now,
        key: &InstanceKey,
        result: &Result<Revision, WriteError>,
    ) -> Ended {
        let Some(entry) = self.entry_mut(key) else {
            return Ended::Done;
        };
        let Some(pending) = &mut entry.pending else {
            return Ended::Done;
        };
        if let Ok(revision) = result {
            pending.made = Some(*revision);
            self.settle(now, &Key::Instance(key.clone()));
            return Ended::Done;
        }
        let Some(pending) = entry.pending.take() else {
            return Ended::Done;
        };
        entry.unsure |=
            pending.content.is_none() && matches!(result, Err(WriteError::Unavailable(_)));
        if let (Err(WriteError::Refused(why)), Some((ticket, _))) = (result, pending.asked) {
            let problem = Problem::Refused(why.clone());
            self.answer(&Key::Instance(key.clone()), ticket, Err(problem));
        }
        failed(result)
    }

    /// What waited for the watch to tell a write goes on, if it has.
    pub(super) fn settle(&mut self, now: Now, key: &Key) {
        let told = self.told(key.kind());
        let is_over = |made: Option<Revision>,
                       before: Option<Revision>,
                       stored: Option<Revision>,
                       is_put: bool| {
            made.is_some_and(|made| match is_put {
                true => told.is_some_and(|told| told >= made),
                // A removal may be told at a lower revision than it was answered.
                false => stored != before || stored.is_none(),
            })
        };
        let asked = match key {
            Key::Service(name) => {
                let Some(service) = self.services.get_mut(name) else {
                    return;
                };
                let stored = service.stored.as_ref().map(|(_, revision)| *revision);
                let settled = service.pending.take_if(|pending| {
                    is_over(
                        pending.made,
                        pending.before,
                        stored,
                        pending.content.is_some(),
                    )
                });
                let Some(settled) = settled else { return };
                settled.asked
            }
            Key::Instance(instance) => {
                let Some(entry) = self.entry_mut(instance) else {
                    return;
                };
                let stored = entry.stored.as_ref().map(|(_, revision)| *revision);
                let settled = entry.pending.take_if(|pending| {
                    is_over(
                        pending.made,
                        pending.before,
                        stored,
                        pending.content.is_some(),
                    )
                });
                let Some(settled) = settled else { return };
                settled.asked
            }
            _ => return,
        };
        if let Some((ticket, done)) = asked {
            // Its service may have been removed meanwhile.
            let orphaned = match key {
                Key::Instance(key) => self
                    .services
                    .get(&key.service)
                    .is_none_or(|service| service.stored.is_none())
                    .then(|| Problem::NoService(key.service.clone())),
                _ => None,
            };
            self.answer(key, ticket, orphaned.map_or(Ok(done), Err));
        }
        self.queue.push(key, now.mono);
    }
}

impl Service {
    /// What is to be done about the service.
    fn step(&self, name: &ServiceName, high: u64) -> Step<ServiceRecord> {
        let record = self.record();
        let Some(asked) = self.asked.front() else {
            return match record {
                Some(record) if !self.wanting.is_empty() => {
                    Step::Store(Some((**record).clone()), Done::Done)
                }
                _ => Step::Nothing,
            };
        };
        // It was made, and only the answer was lost.
        let is_made = asked
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.as_ref() == record);
        let nothing = || Step::Answer(Err(Problem::NoService(name.clone())));
        match (&asked.wish, record) {
            (Request::Create(..) | Request::SetLeader(..), _) if is_made => {
                Step::Answer(Ok(Done::Done))
            }
            (Request::Remove(_), None) if is_made => Step::Answer(Ok(Done::Done)),
            (Request::Create(..), Some(_)) => {
                Step::Answer(Err(Problem::ServiceExists(name.clone())))
            }
            (Request::Create(_, leader_type), None) => {
                let record = ServiceRecord {
                    name: name.clone(),
                    born: high,
                    counter: high,
                    leader_type: *leader_type,
                    leader: None,
                    meta: None,
                };
                Step::Store(Some(record), Done::Done)
            }
            (Request::Remove(_), None) => nothing(),
            (Request::Remove(_), Some(_)) => Step::Store(None, Done::Done),
            (Request::SetMeta(..), None) => nothing(),
            (Request::SetMeta(_, data, index, leader), Some(record)) => {
                match &record.meta {
                    Some(meta) if is_made => return Step::Answer(Ok(Done::Meta(meta.clone()))),
                    Some(meta) if *index == 0 => {
                        return Step::Answer(Err(Problem::MetaExists(meta.index)));
                    }
                    meta => {
                        let known = meta.as_ref().map_or(0, |meta| meta.index);
                        if known != *index {
                            return Step::Answer(Err(Problem::MetaChanged(known)));
                        }
                    }
                }
                if leader.is_some() && record.leader_type != LeaderType::Manual {
                    return Step::Answer(Err(Problem::NotManual));
                }
                let mut record = (**record).clone();
                record.counter += 1;
                let meta = ServiceMeta {
                    data: data.clone(),
                    index: record.counter,
                };
                record.meta = Some(meta.clone());
                record.leader = leader.or(record.leader);
                Step::Store(Some(record), Done::Meta(meta))
            }
            (Request::SetLeader(_, id), Some(record))
                if record.leader_type == LeaderType::Manual =>
            {
                if record.leader == Some(*id) {
                    return Step::Answer(Ok(Done::Done));
                }
                let mut record = (**record).clone();
                record.leader = Some(*id);
                Step::Store(Some(record), Done::Done)
            }
            _ => Step::Answer(Err(Problem::NotManual)),
        }
    }
}

fn write(key: Key, content: Option<Record>, before: Option<Revision>) -> Write {
    match (content, before) {
        (Some(record), None) => Write::Create(record),
        (Some(record), Some(revision)) => Write::Put(record, revision),
        (None, revision) => Write::Delete(key, revision.unwrap_or_default()),
    }
}

fn failed(result: &Result<Revision, WriteError>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(WriteError::Conflict(_)) => Ended::Conflict,
        Err(WriteError::Unavailable(_)) => Ended::Unavailable,
        Err(WriteError::Refused(_)) => Ended::Refused,
    }
}

/// The next moment that a store can tell apart.
fn later(time: Timestamp) -> Timestamp {
    time.checked_add(std::time::Duration::from_micros(1))
        .unwrap_or(time)
}
