//! What is there, and what has to be told when that is something else than was told
//! before. Pure: no connection, no clock.

use std::collections::BTreeMap;

use crate::event::{Event, Sent};
use crate::{Instance, ServiceMeta};

/// What is there of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Present {
    instances: BTreeMap<String, Instance>,
    leader: Option<Instance>,
    meta: Option<ServiceMeta>,
}

impl Present {
    /// The instances, in the order in which they first registered.
    #[must_use]
    pub fn instances(&self) -> Vec<&Instance> {
        let mut all: Vec<&Instance> = self.instances.values().collect();
        all.sort_by_key(|instance| instance.index);
        all
    }

    /// The instance with this id.
    #[must_use]
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.get(id)
    }

    /// The one that leads.
    #[must_use]
    pub fn leader(&self) -> Option<&Instance> {
        self.leader.as_ref()
    }

    /// The meta data.
    #[must_use]
    pub fn meta(&self) -> Option<&ServiceMeta> {
        self.meta.as_ref()
    }

    /// Takes over what an event tells.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Up(instance) | Event::Update(instance) => self.put(instance.clone()),
            Event::Down(instance) => {
                self.instances.remove(&instance.id);
            }
            Event::Leader(leader) => self.leader.clone_from(leader),
            Event::ServiceMeta(meta) => self.meta.clone_from(meta),
            Event::Current | Event::Lost(_) => {}
        }
    }

    fn put(&mut self, instance: Instance) {
        if let Some(leader) = &mut self.leader
            && leader.id == instance.id
        {
            leader.clone_from(&instance);
        }
        self.instances.insert(instance.id.clone(), instance);
    }

    /// Takes over what is sent while what is there is being listed.
    fn list(&mut self, sent: Sent) {
        match sent {
            Sent::Up(instance) | Sent::Update(instance) => self.put(instance),
            Sent::Down(instance) => {
                self.instances.remove(&instance.id);
            }
            Sent::Leader(leader) => self.leader = leader,
            Sent::ServiceMeta(meta) => self.meta = Some(meta),
            Sent::Current | Sent::Unknown => {}
        }
    }

    /// What one change comes to; nothing when it tells nothing new.
    fn change(&self, sent: Sent) -> Option<Event> {
        match sent {
            Sent::Up(instance) | Sent::Update(instance) => match self.instances.get(&instance.id) {
                Some(known) if *known == instance => None,
                Some(_) => Some(Event::Update(instance)),
                None => Some(Event::Up(instance)),
            },
            Sent::Down(instance) => {
                let known = self.instances.get(&instance.id)?;
                Some(Event::Down(known.clone()))
            }
            Sent::Leader(leader) => (self.leader != leader).then_some(Event::Leader(leader)),
            Sent::ServiceMeta(meta) => {
                let meta = Some(meta);
                (self.meta != meta).then_some(Event::ServiceMeta(meta))
            }
            Sent::Current | Sent::Unknown => None,
        }
    }

    /// The events that lead from here to `new`, none of which tells nothing. First
    /// who is there, by index, then who is gone, so that nobody sees a service
    /// empty that is not; then the leader and the meta data.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        for instance in new.instances() {
            match self.instances.get(&instance.id) {
                Some(known) if known == instance => {}
                Some(_) => events.push(Event::Update(instance.clone())),
                None => events.push(Event::Up(instance.clone())),
            }
        }
        for known in self.instances() {
            if !new.instances.contains_key(&known.id) {
                events.push(Event::Down(known.clone()));
            }
        }
        let told = |id: &str| new.instances.get(id);
        // An update of the leader has told that already.
        let leader = self
            .leader
            .as_ref()
            .map(|leader| told(&leader.id).unwrap_or(leader));
        if leader != new.leader.as_ref() {
            events.push(Event::Leader(new.leader.clone()));
        }
        if self.meta != new.meta {
            events.push(Event::ServiceMeta(new.meta.clone()));
        }
        events
    }
}

/// Turns what is sent on one connection after the other into events.
#[derive(Debug, Default)]
pub(crate) struct Resuming {
    /// What is being listed, until all of it was sent.
    listed: Option<Present>,
}

impl Resuming {
    /// A connection has come about: what is there is listed next.
    pub fn connected(&mut self) {
        self.listed = Some(Present::default());
    }

    /// What something that was sent comes to, for whoever was told `told`.
    pub fn take(&mut self, told: &Present, sent: Sent) -> Vec<Event> {
        match (self.listed.take(), sent) {
            (Some(listed), Sent::Current) => {
                let mut events = told.changes_to(&listed);
                events.push(Event::Current);
                events
            }
            (Some(mut listed), sent) => {
                listed.list(sent);
                self.listed = Some(listed);
                Vec::new()
            }
            (None, sent) => told.change(sent).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
