//! The promises, as invariants. Each is a function whose documentation says where
//! it is promised, and what slack is allowed.
//!
//! Those about a single write or answer are checked as it happens; those that are
//! bound to time, every second.

mod agreement;
mod dead;
mod live;
pub mod patient;
pub mod rates;
mod routing;
mod withdrawn;

use std::time::Duration;

use crate::record::EndpointKey;
use crate::registry::core::Registered;
use crate::simulation::agenda::{ClientId, Time};
use crate::simulation::api::Edit;
use crate::simulation::client::Process;
use crate::simulation::world::World;

/// Who made a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A replica or a controller.
    Client(ClientId),
    /// A person.
    Hand,
    /// Kubernetes, of what a gone pod owned.
    Garbage,
}

/// A request that was under way for so long shows that something is wrong.
const SLOW: Duration = Duration::from_secs(1);

impl World {
    /// A write was made.
    pub fn made(&mut self, by: By, edit: Edit) {
        self.note(|_| match &edit.after {
            Some(stored) => format!("{by:?} made {} at {}", edit.key, stored.revision),
            None => format!("{by:?} removed {}", edit.key),
        });
        self.static_is_untouched(by, &edit);
        self.nothing_live_is_removed(by, &edit);
        self.holders_do_not_fight(by, &edit);
        self.count_write(by, &edit);
        if let Some(record) = edit.after().or(edit.before()) {
            let now = self.now;
            if let Some(truth) = self.truths.get_mut(&record.endpoint.key) {
                truth.written = now;
                match edit.after {
                    Some(_) => truth.missed.clear(),
                    None => truth.removed = Some(now),
                }
            }
        }
        self.announce(edit.key.kind());
    }

    /// A replica took a registration.
    pub fn registered(&mut self, client: ClientId, key: &EndpointKey, _how: Registered) {
        let heard = self.heard_here(client);
        if let Some(truth) = self.truths.get_mut(key) {
            truth.accepted = true;
            truth.registered = Some(heard);
            truth.hear(heard);
        }
        self.own_writes_are_visible(client, key, true);
    }

    /// A replica took a renewal.
    pub fn renewed(&mut self, client: ClientId, key: &EndpointKey) {
        let heard = self.heard_here(client);
        let knew = self.replicas[client].knows.contains(key);
        let missing = self.api.endpoint(key).is_none();
        if let Some(truth) = self.truths.get_mut(key) {
            truth.hear(heard);
            if knew && missing {
                truth.missed.push(heard);
            }
        }
        if knew && missing {
            self.counts.add("checked: renewal of what is missing", 1);
        }
    }

    /// A replica took a Deregister.
    pub fn withdrawn(&mut self, client: ClientId, key: &EndpointKey) {
        let heard = self.heard_here(client);
        if let Some(truth) = self.truths.get_mut(key) {
            truth.withdrawn.push(heard);
        }
        self.own_writes_are_visible(client, key, false);
    }

    /// The promises that are bound to time.
    pub fn check(&mut self) {
        self.close_idle();
        for client in 0..self.clients.len() {
            if !self.is_clear(client) {
                self.trouble(client);
            }
        }
        self.watch_the_brake();
        self.live_is_back();
        self.dead_goes();
        self.withdrawn_goes();
        self.writes_are_few();
        let client = self.random.usize(0..self.replicas.len());
        self.agrees_with_the_store(client);
        self.routes(client);
    }

    /// Something stands in a client's way now.
    pub fn trouble(&mut self, client: ClientId) {
        let state = &mut self.clients[client];
        state.troubled = state.troubled.max(self.now);
    }

    /// Whether nothing stands between a client and the API server.
    fn is_clear(&self, client: ClientId) -> bool {
        let state = &self.clients[client];
        let old = |request: &&crate::simulation::agenda::Request| {
            request.client == client && self.now > request.sent + SLOW
        };
        state.process == Process::Runs
            && !state.has_any()
            && self.api.hangs == 0
            && !self.requests.values().any(|request| old(&request))
            && state.watches.iter().enumerate().all(|(kind, watch)| {
                let kind = crate::record::Kind::ALL[kind];
                watch.open
                    && watch.listed
                    && (watch.telling || watch.position == self.api.length(kind))
            })
    }

    /// Whether nothing has stood in a client's way for so long.
    pub fn clear_for(&self, client: ClientId, time: Duration) -> bool {
        let state = &self.clients[client];
        state.process == Process::Runs && self.now >= state.troubled + time
    }

    /// Since when nothing stands in the way of any process that is there, and a
    /// controller acts.
    pub fn calm_since(&self) -> Option<Time> {
        let acts = self.controllers.iter().enumerate().any(|(at, controller)| {
            let state = &self.clients[self.replicas.len() + at];
            controller.acts && state.process == Process::Runs
        });
        let there = self
            .clients
            .iter()
            .filter(|client| client.process != Process::Down);
        let troubled = there.map(|client| client.troubled).max();
        troubled.filter(|troubled| acts && *troubled < self.now)
    }

    /// The replica that runs under an identity.
    pub fn replica_of(&self, identity: &str) -> Option<ClientId> {
        let at = self
            .replicas
            .iter()
            .position(|replica| &*replica.identity == identity)?;
        (self.clients[at].process != Process::Down).then_some(at)
    }

    /// Whether all that is to happen after the disturbances has happened.
    pub fn is_settled(&self) -> bool {
        let stored = self.api.endpoints().all(|record| {
            let key = &record.endpoint.key;
            record.is_static
                || (self.truths.get(key).is_some_and(|truth| truth.lives())
                    && record
                        .lease
                        .holder
                        .as_ref()
                        .is_some_and(|holder| self.replica_of(holder).is_some()))
        });
        stored && self.truths.values().all(|truth| truth.missed.is_empty())
    }
}
