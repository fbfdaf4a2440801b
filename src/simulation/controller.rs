//! Controllers: the plan's decisions, with what the process around them does.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Change, Revision, Write, WriteError};
use crate::controller::plan::cluster::ClusterPlan;
use crate::controller::plan::{Due, Pace};
use crate::record::{EndpointKey, Key, Record, ReplicaRecord};
use crate::simulation::agenda::{Ask, ClientId, Event, Purpose};
use crate::simulation::mutation::{self, Mutation};
use crate::simulation::world::World;

/// A pass follows the last one after so long, as in `collect`.
const TICK: Duration = Duration::from_secs(1);
/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A controller. Its process is the client with its number after the replicas.
#[derive(Debug)]
pub struct Controller {
    /// Its decisions; none while it is down.
    pub plan: Option<ClusterPlan>,
    /// Whether it believes to be the leader.
    pub acts: bool,
    /// Deletes that were not answered yet.
    deletes: usize,
    /// The leases as they were last read.
    read: Vec<Arc<ReplicaRecord>>,
}

impl Controller {
    /// A controller that was not started yet.
    pub fn new(acts: bool) -> Self {
        Self {
            plan: None,
            acts,
            deletes: 0,
            read: Vec::new(),
        }
    }
}

impl World {
    fn controller(&mut self, client: ClientId) -> &mut Controller {
        let at = client - self.replicas.len();
        &mut self.controllers[at]
    }

    /// A controller starts.
    pub fn start_controller(&mut self, client: ClientId) {
        let pace = Pace {
            brake_for: self.settings.brake_for,
            ..Pace::cluster()
        };
        let now = self.now_of(client).mono;
        let plan = ClusterPlan::new(pace, self.settings.orphan_for, now);
        self.answers.remove(&client);
        let controller = self.controller(client);
        controller.plan = Some(plan);
        controller.deletes = 0;
        controller.read.clear();
        let life = self.clients[client].life;
        let at = self.soon(1_000);
        self.agenda.put(at, Event::Tick(client, life));
    }

    /// A controller has ended.
    pub fn end_controller(&mut self, client: ClientId) {
        self.controller(client).plan = None;
    }

    /// A pass begins: the leases of all replicas are asked for.
    pub fn tick(&mut self, client: ClientId) {
        self.ask(client, Ask::List, Purpose::List, REQUEST_TIMEOUT);
    }

    fn rest(&mut self, client: ClientId) {
        let life = self.clients[client].life;
        self.agenda.put(self.now + TICK, Event::Tick(client, life));
    }

    /// The leases were read, or not.
    pub fn listed(&mut self, client: ClientId, listed: Option<Vec<Arc<ReplicaRecord>>>) {
        let now = self.now_of(client);
        let mutation = self.mutation;
        if let Some(listed) = &listed {
            self.leases_were_read(client, listed);
        }
        let listed = match mutation {
            Some(Mutation::ComparesWallClocks) => listed.map(|all| worn(mutation, all, now)),
            _ => listed,
        };
        let controller = self.controller(client);
        let (Some(listed), Some(plan)) = (listed, &mut controller.plan) else {
            if mutation == Some(Mutation::CountsOutages)
                && let Some(plan) = &mut controller.plan
            {
                plan.contact(now.mono, &controller.read);
            }
            self.rest(client);
            return;
        };
        plan.contact(now.mono, &listed);
        if mutation == Some(Mutation::CountsOutages) {
            controller.read = listed;
        }
        let due = match controller.acts {
            true => plan.take_due(now.mono),
            false => Vec::new(),
        };
        controller.deletes = due.len();
        self.no_orphan_goes_early(client, &due);
        if due.is_empty() {
            self.rest(client);
        }
        for Due {
            key,
            revision,
            reason,
        } in due
        {
            self.note(|world| format!("{} collects {key}: {reason:?}", world.name_of(client)));
            self.counts.add("controller: delete asked for", 1);
            let write = Write::Delete(Key::Endpoint(key.clone()), revision);
            let purpose = Purpose::Collect(key);
            self.ask(client, Ask::Write(write), purpose, REQUEST_TIMEOUT);
        }
    }

    /// A delete was answered.
    pub fn collected(
        &mut self,
        client: ClientId,
        key: &EndpointKey,
        result: &Result<Revision, WriteError>,
    ) {
        let controller = self.controller(client);
        controller.deletes = controller.deletes.saturating_sub(1);
        if let (Err(WriteError::Unavailable(_) | WriteError::Refused(_)), Some(plan)) =
            (result, &mut controller.plan)
        {
            plan.again(key);
        }
        if controller.deletes == 0 {
            self.rest(client);
        }
    }

    /// A watch tells a controller a change.
    pub fn controller_told(&mut self, client: ClientId, change: Change) {
        if let Some(plan) = &mut self.controller(client).plan {
            plan.apply(&[change]);
        }
    }
}

fn worn(
    mutation: Option<Mutation>,
    all: Vec<Arc<ReplicaRecord>>,
    now: crate::time::Now,
) -> Vec<Arc<ReplicaRecord>> {
    all.into_iter()
        .map(|replica| {
            let mut record = Record::Replica(replica);
            mutation::seen(mutation, &mut record, "", now);
            record
        })
        .filter_map(|record| match record {
            Record::Replica(replica) => Some(replica),
            _ => None,
        })
        .collect()
}
