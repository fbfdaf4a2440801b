//! What becomes of a request, or of an instance, when it has its turn: by what is
//! known, without changing it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::discoverd::engine::known::Service;
use crate::discoverd::engine::{Done, Engine, Outcome, Request};
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{
    InstanceKey, InstanceRecord, LeaderType, ServiceMeta, ServiceRecord,
};
use crate::lease::{Lease, Released};
use crate::time::Now;

/// What becomes of a request, or of an instance, when it has its turn.
pub(super) enum Step<T> {
    Answer(Outcome),
    /// First the store must hold this, or nothing.
    Store(Option<T>, Done),
    /// It needs an index.
    Index,
    Nothing,
}

impl Service {
    /// What is to be done about the service.
    pub(super) fn step(&self, name: &ServiceName, high: u64) -> Step<ServiceRecord> {
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

impl Engine {
    /// What is to be done about an instance.
    pub(super) fn step_of_instance(
        &self,
        now: Now,
        at: Instant,
        key: &InstanceKey,
    ) -> Step<InstanceRecord> {
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
}

/// The next moment that a store can tell apart.
fn later(time: Timestamp) -> Timestamp {
    time.checked_add(Duration::from_micros(1)).unwrap_or(time)
}
