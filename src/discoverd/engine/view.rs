//! What there is.

use std::sync::Arc;
use std::time::Instant;

use crate::discoverd::engine::Engine;
use crate::discoverd::event::{Event, Wanted, What};
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{InstanceRecord, ServiceMeta, ServiceRecord};
use crate::map::Set;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instances that are known or asked for.
    pub instances: usize,
    /// Requests that the store did not take in time.
    pub given_up: u64,
}

/// A service in the list of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The service.
    pub record: Arc<ServiceRecord>,
    /// How many instances it has.
    pub instances: usize,
    /// Who leads it.
    pub leader: Option<Arc<InstanceRecord>>,
}

impl Engine {
    /// All services, in no order.
    ///
    /// # Errors
    /// When nobody knows yet.
    pub fn list(&self) -> Result<Vec<Summary>, Problem> {
        if !self.is_ready() {
            return Err(Problem::NotReady);
        }
        let services = self.services.values();
        let all = services
            .filter_map(|service| {
                let shown = |id| service.shown(id).cloned();
                Some(Summary {
                    record: Arc::clone(service.record()?),
                    instances: service.order.len(),
                    leader: service.leader.and_then(shown),
                })
            })
            .collect();
        Ok(all)
    }

    /// The instances of a service, by index.
    ///
    /// # Errors
    /// When there is no such service, or nobody knows yet.
    pub fn instances(&self, name: &ServiceName) -> Result<Vec<Arc<InstanceRecord>>, Problem> {
        if !self.is_ready() {
            return Err(Problem::NotReady);
        }
        let service = self.services.get(name);
        let service = service.filter(|service| service.stored.is_some());
        let service = service.ok_or_else(|| Problem::NoService(name.clone()))?;
        let shown = service.order.iter();
        Ok(shown
            .filter_map(|(_, id)| service.shown(*id).cloned())
            .collect())
    }

    /// Whether there is a service of this name, as far as is known.
    #[must_use]
    pub fn has(&self, name: &ServiceName) -> bool {
        let service = self.services.get(name);
        service.is_some_and(|service| service.stored.is_some())
    }

    /// Who leads a service.
    ///
    /// # Errors
    /// When nobody does, or nobody knows yet.
    pub fn leader(&self, name: &ServiceName) -> Result<Arc<InstanceRecord>, Problem> {
        if !self.is_ready() {
            return Err(Problem::NotReady);
        }
        let service = self.services.get(name);
        let leader = service.and_then(|service| service.shown(service.leader?).cloned());
        leader.ok_or(Problem::NoLeader)
    }

    /// The meta data of a service.
    ///
    /// # Errors
    /// When there is none, or nobody knows yet.
    pub fn meta(&self, name: &ServiceName) -> Result<ServiceMeta, Problem> {
        if !self.is_ready() {
            return Err(Problem::NotReady);
        }
        let record = self.services.get(name).and_then(|service| service.record());
        let meta = record.and_then(|record| record.meta.clone());
        meta.ok_or(Problem::NoMeta)
    }

    /// What a new subscriber is told first, whether or not there is such a
    /// service: the instances by index, the leader, the meta data, and that this
    /// was all.
    ///
    /// # Errors
    /// When nobody knows yet.
    pub fn present(&self, name: &ServiceName, wanted: Wanted) -> Result<Vec<Event>, Problem> {
        let instances = match self.instances(name) {
            Err(Problem::NoService(_)) => Vec::new(),
            instances => instances?,
        };
        let mut all: Vec<What> = instances.into_iter().map(What::Up).collect();
        all.extend(
            self.leader(name)
                .ok()
                .map(|leader| What::Leader(Some(leader))),
        );
        all.extend(self.meta(name).ok().map(What::ServiceMeta));
        all.push(What::Current);
        let service = name.clone();
        let event = |what| Event {
            service: service.clone(),
            of_tunnel: false,
            what,
        };
        let all = all.into_iter().filter(|what| wanted.includes(what));
        Ok(all.map(event).collect())
    }

    /// Who, of other replicas, hears instances.
    #[must_use]
    pub fn holders(&self) -> Set<Arc<str>> {
        self.services
            .values()
            .flat_map(|service| service.instances.values())
            .filter_map(|entry| entry.stored.as_ref()?.0.lease.holder.clone())
            .filter(|holder| *holder != self.setup.identity)
            .collect()
    }

    /// How many services there are.
    #[must_use]
    pub fn services(&self) -> usize {
        let services = self.services.values();
        services.filter(|service| service.stored.is_some()).count()
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many writes wait or are under way.
    #[must_use]
    pub fn waiting_writes(&self) -> usize {
        self.queue.len()
    }

    /// When the next write is due if nothing else happens.
    #[must_use]
    pub fn next_write_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }
}
