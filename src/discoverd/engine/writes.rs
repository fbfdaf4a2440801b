//! Which write is next, and what its end means.
//!
//! Every write is conditional on what the watch has told. Once one was made, the
//! next of the same record waits until the watch has told it.

use std::sync::Arc;

use crate::backend::{Revision, Write, WriteError};
use crate::discoverd::engine::known::Pending;
use crate::discoverd::engine::steps::Step;
use crate::discoverd::engine::{Done, Engine, Ticket};
use crate::discoverd::instance::InstanceId;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{InstanceKey, ServiceRecord};
use crate::record::{Key, Record};
use crate::registry::queue::Ended;
use crate::time::Now;

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
        let settled = match key {
            Key::Service(name) => self.services.get_mut(name).and_then(|service| {
                let stored = service.stored.as_ref().map(|(_, revision)| *revision);
                settled(&mut service.pending, told, stored)
            }),
            Key::Instance(instance) => self.entry_mut(instance).and_then(|entry| {
                let stored = entry.stored.as_ref().map(|(_, revision)| *revision);
                settled(&mut entry.pending, told, stored)
            }),
            _ => None,
        };
        let Some(asked) = settled else { return };
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

/// For which request a write was, if the watch has told it: up to `told`, and that
/// `stored` is there.
fn settled<T>(
    pending: &mut Option<Pending<T>>,
    told: Option<Revision>,
    stored: Option<Revision>,
) -> Option<Option<(Ticket, Done)>> {
    let settled = pending.take_if(|pending| {
        pending.made.is_some_and(|made| match pending.content {
            Some(_) => told.is_some_and(|told| told >= made),
            // A removal may be told at a lower revision than it was answered.
            None => stored != pending.before || stored.is_none(),
        })
    })?;
    Some(settled.asked)
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
