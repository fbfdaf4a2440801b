//! What happens when: the events of a schedule, in the order of time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::{Revision, WriteError};
use crate::record::{EndpointKey, Kind, ReplicaRecord};
use crate::simulation::client::Fault;
use crate::simulation::gost::Call;
use std::sync::Arc;

/// Time since the schedule began.
pub type Time = Duration;

/// A process that talks to the API server: a replica, or a controller.
pub type ClientId = usize;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica looks for what is to be done.
    Wake(ClientId, u32),
    /// A watch has something to tell a client.
    Tell(ClientId, u32, Kind),
    /// The watch of pods has something to tell a client.
    TellPods(ClientId, u32),
    /// A request reaches the API server.
    Arrive(u64),
    /// A request that met a conflict reads what is there instead.
    Read(u64),
    /// The answer to a request reaches who asked.
    Answer(u64, Answer),
    /// Whoever asked has waited long enough.
    Late(u64),
    /// A controller begins a pass.
    Tick(ClientId, u32),
    /// A call of a gost reaches a replica.
    Call(Call),
    /// A gost renews all its connectors.
    Renew(usize, u32),
    /// A gost that has died starts anew.
    Revive(usize, u32),
    /// Something goes wrong.
    Disturb,
    /// A fault ends.
    Mend(ClientId, Fault),
    /// A watch that broke is opened again.
    Reopen(ClientId, u32, Kind),
    /// A process that was frozen goes on.
    Thaw(ClientId, u32),
    /// A process starts.
    Start(ClientId),
    /// An orderly stop has waited long enough for its writes.
    Flushed(ClientId, u32),
    /// A pod's object is removed.
    PodGone(uuid::Uuid),
    /// What still runs of a pod that is gone is ended.
    PodKilled(uuid::Uuid),
    /// Kubernetes collects what a gone pod owned.
    Garbage,
    /// The API server goes on.
    Unhang,
    /// The disturbances are over.
    Calm,
    /// The promises that are bound to time are checked.
    Check,
}

/// What the API server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a write.
    Written(Result<Revision, WriteError>),
    /// To a list of the replicas' leases; none when that failed.
    Listed(Option<Vec<Arc<ReplicaRecord>>>),
}

/// What is to happen.
#[derive(Debug, Default)]
pub struct Agenda {
    events: BTreeMap<(Time, u64), Event>,
    serial: u64,
}

impl Agenda {
    /// `event` happens at `at`, after all that was put there before.
    pub fn put(&mut self, at: Time, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    /// What happens next, and when.
    pub fn next(&mut self) -> Option<(Time, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }
}

/// A request of a client.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asked, in which of its lives.
    pub client: ClientId,
    /// The life.
    pub life: u32,
    /// What was asked for.
    pub ask: Ask,
    /// What the answer is for.
    pub purpose: Purpose,
    /// When.
    pub sent: Time,
    /// Whether somebody still waits for the answer.
    pub awaited: bool,
    /// Whether the API server may still make it.
    pub travels: bool,
}

/// What may be asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A conditional write.
    Write(crate::backend::Write),
    /// The leases of all replicas.
    List,
}

/// What an answer is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// The registry's queue.
    Endpoint(crate::registry::sync::Made),
    /// A replica's own lease.
    Vouch,
    /// The same, at an orderly stop; so many tries are left.
    GiveUp(u32),
    /// A controller's pass.
    List,
    /// A delete of a controller.
    Collect(EndpointKey),
}
