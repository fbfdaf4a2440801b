//! What clients ask for: what can be answered at once, and what waits for its turn.

use std::time::Instant;

use crate::discoverd::engine::known::{Asked, Entry, Service};
use crate::discoverd::engine::{
    ANSWER_WITHIN, Answer, Done, Engine, Limits, MAX_ASKED, Outcome, Request, Ticket,
};
use crate::discoverd::instance::Instance;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::InstanceKey;
use crate::record::Key;
use crate::time::Now;

impl Engine {
    /// A client asks for something to be done.
    pub fn ask(&mut self, now: Now, request: Request) -> Answer {
        let at = self.patience.counted(now.mono);
        if self.grace.is_none() {
            return Answer::Now(Err(Problem::NotReady));
        }
        match self.enter(now, at, request) {
            Err(outcome) => Answer::Now(outcome),
            Ok(ticket) => Answer::Later(ticket),
        }
    }

    /// Lets a request wait for its turn, unless it can be answered.
    fn enter(&mut self, now: Now, at: Instant, request: Request) -> Result<Ticket, Outcome> {
        if self.tickets.len() >= self.setup.limits.asked {
            return Err(Err(Problem::Full(
                "requests that wait for the store",
                self.setup.limits.asked,
            )));
        }
        match &request {
            Request::Create(name, _) => {
                let known = self.services.get(name);
                if known.is_some_and(|service| service.stored.is_some()) {
                    return Err(Err(Problem::ServiceExists(name.clone())));
                }
                let most = self.setup.limits.services;
                if known.is_none() && self.services.len() >= most {
                    return Err(Err(Problem::Full("services", most)));
                }
                self.services.entry(name.clone()).or_default();
            }
            Request::SetLeader(name, _) => {
                let known = self.services.get(name);
                if known.and_then(Service::record).is_none() {
                    return Err(Err(Problem::NotManual));
                }
            }
            Request::Remove(name) | Request::SetMeta(name, ..) => {
                self.existing(name)?;
            }
            Request::Register(name, instance) => {
                self.heard(now, at, name, instance)?;
                let key = InstanceKey {
                    service: name.clone(),
                    id: instance.id,
                };
                return self.enqueue(now, Key::Instance(key), request);
            }
            Request::Unregister(name, id) => {
                let service = self.existing(name)?;
                if !service.instances.contains_key(id) {
                    return Err(Ok(Done::Done));
                }
                let (service, id) = (name.clone(), *id);
                return self.enqueue(now, Key::Instance(InstanceKey { service, id }), request);
            }
        }
        let (Request::Create(name, _)
        | Request::Remove(name)
        | Request::SetMeta(name, ..)
        | Request::SetLeader(name, _)
        | Request::Register(name, _)
        | Request::Unregister(name, _)) = &request;
        self.enqueue(now, Key::Service(name.clone()), request)
    }

    fn existing(&mut self, name: &ServiceName) -> Result<&mut Service, Outcome> {
        self.services
            .get_mut(name)
            .filter(|service| service.stored.is_some())
            .ok_or_else(|| Err(Problem::NoService(name.clone())))
    }

    /// An instance was heard of. Answers when that is all there is to it.
    fn heard(
        &mut self,
        now: Now,
        at: Instant,
        name: &ServiceName,
        instance: &Instance,
    ) -> Result<(), Outcome> {
        let Limits {
            per_service,
            instances,
            ..
        } = self.setup.limits;
        let known = self.counts.instances;
        let shared = self.setup.shared;
        let service = self.existing(name)?;
        let is_shown = service.shown(instance.id).is_some();
        let is_new = !service.instances.contains_key(&instance.id);
        if is_new && service.instances.len() >= per_service {
            return Err(Err(Problem::Full("instances of a service", per_service)));
        }
        if is_new && known >= instances {
            return Err(Err(Problem::Full("instances", instances)));
        }
        let entry = service.instances.entry(instance.id);
        let entry = entry.or_insert_with(|| Entry::new(at));
        entry.heard = Some(at);
        let is_same = entry
            .stored
            .as_ref()
            .is_some_and(|(record, _)| record.instance == *instance);
        if is_shown && is_same && entry.asked.is_empty() && !entry.is_leaving() {
            if shared && entry.loose.is_some() {
                let key = InstanceKey {
                    service: name.clone(),
                    id: instance.id,
                };
                self.queue.push(&Key::Instance(key), now.mono);
            }
            return Err(Ok(Done::Done));
        }
        self.counts.instances += usize::from(is_new);
        Ok(())
    }

    fn enqueue(&mut self, now: Now, key: Key, wish: Request) -> Result<Ticket, Outcome> {
        let ticket = Ticket(self.last_ticket + 1);
        let Some(asked) = self.asked_mut(&key) else {
            return Err(Err(Problem::Unavailable));
        };
        if asked.len() >= MAX_ASKED {
            return Err(Err(Problem::Full("requests at once for this", MAX_ASKED)));
        }
        asked.push_back(Asked {
            ticket,
            wish,
            deadline: now.mono + ANSWER_WITHIN,
            attempt: None,
        });
        self.last_ticket = ticket.0;
        // Not after the wait for which an earlier write had to be.
        if self.asked_mut(&key).is_some_and(|asked| asked.len() == 1) {
            self.queue.cancel(&key);
        }
        self.queue.push(&key, now.mono);
        self.tickets.insert(ticket, key);
        Ok(ticket)
    }

    /// Answers the request that has its turn, if it is still this one.
    pub(super) fn answer(&mut self, key: &Key, ticket: Ticket, outcome: Outcome) {
        let Some(asked) = self.asked_mut(key) else {
            return;
        };
        if asked.front().is_some_and(|asked| asked.ticket == ticket) {
            asked.pop_front();
            self.tickets.remove(&ticket);
            self.answers.push((ticket, outcome));
        }
    }

    /// A request has waited too long. Returns what is answered; none if that was
    /// decided before.
    #[must_use]
    pub fn give_up(&mut self, ticket: Ticket) -> Option<Outcome> {
        let Some(key) = self.tickets.remove(&ticket) else {
            let place = self.answers.iter().position(|(other, _)| *other == ticket);
            return place.map(|place| self.answers.swap_remove(place).1);
        };
        if let Some(asked) = self.asked_mut(&key) {
            asked.retain(|asked| asked.ticket != ticket);
        }
        self.counts.given_up += 1;
        self.tidy(&key);
        Some(Err(Problem::Unavailable))
    }

    /// Forgets what is nothing any more.
    pub(super) fn tidy(&mut self, key: &Key) {
        let name = match key {
            Key::Service(name) => name,
            Key::Instance(key) => {
                if let Some(service) = self.services.get_mut(&key.service)
                    && service
                        .instances
                        .get(&key.id)
                        .is_some_and(Entry::is_nothing)
                {
                    service.instances.remove(&key.id);
                    service.wanting.retain(|id| *id != key.id);
                    self.counts.instances -= 1;
                }
                &key.service
            }
            _ => return,
        };
        if self.services.get(name).is_some_and(Service::is_nothing) {
            self.services.remove(name);
        }
    }
}
