//! What happens without a request: silence, and what goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::discoverd::engine::known::{Asked, Entry, Service};
use crate::discoverd::engine::{Engine, Ticket};
use crate::discoverd::problem::Problem;
use crate::discoverd::record::InstanceKey;
use crate::record::{Key, Kind};
use crate::time::Now;

/// So long an instance stays after its replica has released it, where replicas
/// share the store: another one that hears it takes it over meanwhile.
pub const RELEASED_FOR: Duration = Duration::from_secs(3);
/// So long instances may be there without their service, once it is certain that
/// there is none. A watch tells of services and of instances in no common order.
const MISSING_FOR: Duration = Duration::from_secs(60);

impl Engine {
    /// Looks at every instance. To be called every second; `has_run_out` tells of
    /// another replica whether it has certainly ceased to hear heartbeats.
    pub fn sweep(&mut self, now: Now, has_run_out: impl Fn(&Arc<str>) -> bool) {
        let at = self.patience.counted(now.mono);
        if self.grace.is_none() {
            return;
        }
        self.give_up_late(now);
        let identity = Arc::clone(&self.setup.identity);
        for service in self.services.values_mut() {
            let is_missing = service.instances.values().any(|entry| {
                let record = entry.stored.as_ref().map(|(record, _)| record);
                record.is_some_and(|record| !service.shows(record))
            });
            let since = service.missing;
            service.missing = is_missing.then(|| since.unwrap_or(at));
            for entry in service.instances.values_mut() {
                let holder = entry
                    .stored
                    .as_ref()
                    .map(|(record, _)| &record.lease.holder);
                let is_loose = holder.is_some_and(|holder| match holder {
                    None => true,
                    Some(holder) => *holder != identity && has_run_out(holder),
                });
                let since = entry.loose;
                entry.loose = is_loose.then(|| since.unwrap_or(at));
            }
        }
        let mut due = Vec::new();
        for (name, service) in &self.services {
            for (id, entry) in &service.instances {
                let is_due = entry.pending.is_none()
                    && (self.is_over(service, entry, at)
                        || self.is_to_be_released(entry, at)
                        || self.is_to_be_held(entry, at));
                if is_due {
                    due.push(Key::Instance(InstanceKey {
                        service: name.clone(),
                        id: *id,
                    }));
                }
            }
        }
        for key in due {
            self.queue.push(&key, now.mono);
        }
    }

    /// Requests whose callers went away wait no longer than others.
    fn give_up_late(&mut self, now: Now) {
        let late = |asked: &Asked| (asked.deadline <= now.mono).then_some(asked.ticket);
        let services = self.services.values();
        let late: Vec<Ticket> = services
            .flat_map(|service| {
                let of_instances = service.instances.values().flat_map(|entry| &entry.asked);
                service.asked.iter().chain(of_instances).filter_map(late)
            })
            .collect();
        for ticket in late {
            if self.give_up(ticket).is_some() {
                self.answers.push((ticket, Err(Problem::Unavailable)));
            }
        }
    }

    /// Whether an instance was heard of here within the time that it has.
    fn is_heard(&self, entry: &Entry, at: Instant) -> bool {
        let within = |heard| at.saturating_duration_since(heard) < self.setup.ttl;
        entry.heard.is_some_and(within)
    }

    /// Whether an instance is to be removed.
    pub(super) fn is_over(&self, service: &Service, entry: &Entry, at: Instant) -> bool {
        let Some((record, revision)) = &entry.stored else {
            return false;
        };
        let passed = |since: Instant, time| at.saturating_duration_since(since) >= time;
        if !service.shows(record) {
            let of_former_life = service.born().is_some_and(|born| record.born < born);
            let was_removed = service.removed.is_some_and(|born| record.born <= born);
            // Its service was stored before it, and would have been told by now. A
            // watch of services that hangs proves nothing.
            let would_be_told = self.told(Kind::Service) >= Some(*revision);
            let is_missing = service
                .missing
                .is_some_and(|since| passed(since, MISSING_FOR));
            return of_former_life || was_removed || (is_missing && would_be_told);
        }
        if self.grace.is_none_or(|until| at < until) || self.is_heard(entry, at) {
            return false;
        }
        let ttl = self.setup.ttl;
        if !self.setup.shared {
            return passed(entry.since, ttl);
        }
        let patience = match record.lease.holder {
            None => RELEASED_FOR,
            // Its clients have to find another replica first.
            Some(_) => 2 * ttl,
        };
        entry.loose.is_some_and(|since| passed(since, patience))
    }

    /// Whether the store is to be told that this replica does not hear an instance
    /// any more.
    pub(super) fn is_to_be_released(&self, entry: &Entry, at: Instant) -> bool {
        let is_mine = entry
            .stored
            .as_ref()
            .is_some_and(|(record, _)| record.lease.holder.as_ref() == Some(&self.setup.identity));
        self.setup.shared
            && is_mine
            && self.grace.is_some_and(|until| at >= until)
            && !self.is_heard(entry, at)
            && at.saturating_duration_since(entry.since) >= self.setup.ttl
    }

    /// Whether the store is to be told that this replica hears an instance, which
    /// nobody else does.
    pub(super) fn is_to_be_held(&self, entry: &Entry, at: Instant) -> bool {
        self.setup.shared
            && entry.stored.is_some()
            && entry.loose.is_some()
            && self.is_heard(entry, at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SECOND, World};
    use super::*;
    use crate::backend::contract::{instance, service};
    use crate::backend::{Change, Revision, Stored, Write};
    use crate::record::Record;

    fn told(record: Record, revision: u64) -> Change {
        let revision = Revision(revision);
        Change::Put(Stored { record, revision })
    }

    /// What is written within two minutes.
    fn writes(world: &mut World) -> Vec<Write> {
        let mut writes = Vec::new();
        for _ in 0..120 {
            world.now = world.now.plus(SECOND);
            let now = world.now;
            world.engine(0).sweep(now, |_| true);
            writes.extend(world.engine(0).next_write(now).map(|(_, write)| write));
        }
        writes
    }

    #[test]
    fn instances_without_their_service_stay_while_a_watch_may_have_missed_it() {
        let mut world = World::shared(1);
        let now = world.now;
        let lost = instance("s", "h", 1);
        let key = lost.key();
        world.engine(0).apply(now, &told(lost, 5));
        assert_eq!(writes(&mut world), []);
        let now = world.now;
        let other = told(service("other", 1), 6);
        world.engine(0).apply(now, &other);
        assert_eq!(writes(&mut world), [Write::Delete(key, Revision(5))]);
    }

    #[test]
    fn instances_of_a_life_that_a_watch_has_not_told_yet_stay() {
        let mut world = World::shared(1);
        let now = world.now;
        // Made again elsewhere: born 9 now, and 5 as far as is known.
        let mut known = service("s", 1);
        if let Record::Service(record) = &mut known {
            Arc::make_mut(record).born = 5;
        }
        world.engine(0).apply(now, &told(known, 3));
        world.engine(0).apply(now, &told(instance("s", "h", 9), 10));
        assert_eq!(writes(&mut world), []);
        let now = world.now;
        world.engine(0).apply(now, &told(service("other", 1), 11));
        assert_eq!(writes(&mut world).len(), 1, "no watch will tell it");
    }
}
