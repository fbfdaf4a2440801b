//! Replicas: a registry's decisions, with what the process around them does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::backend::{Change, Revision, WriteError};
use crate::lease::Timing;
use crate::record::{EndpointKey, Key, Kind, Record};
use crate::registry::Limits;
use crate::registry::core::{Core, Setup};
use crate::registry::sync::{Made, Wrote};
use crate::registry::vouch::Sharing;
use crate::replicas::VALIDITY;
use crate::simulation::agenda::{Ask, ClientId, Event, Purpose, Time};
use crate::simulation::client::Process;
use crate::simulation::mutation;
use crate::simulation::network::told_write;
use crate::simulation::world::World;

/// Every endpoint is looked at so often (`upkeep`: eight ticks of 250 ms).
const SWEEP: Duration = Duration::from_secs(2);
/// While writes wait they are looked at so often; the process is woken at the
/// very moment.
const POLL: Duration = Duration::from_millis(100);
/// As in `writeback`.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// As in `vouch`.
const VOUCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for giving the lease up.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// An orderly stop waits so long for its writes (`--flush`).
pub const FLUSH: Duration = Duration::from_secs(5);

/// A replica. Its process is the client with the same number.
#[derive(Debug)]
pub struct Replica {
    /// Who it is; another one when its pod is replaced.
    pub identity: Arc<str>,
    /// Its decisions; none while it is down.
    pub core: Option<Core>,
    /// The pod of a sidecar, and of its gost.
    pub pod: Option<Uuid>,
    /// The address of that pod.
    pub pod_ip: Option<IpAddr>,
    /// What it was told of, or heard, in this life.
    pub knows: BTreeSet<EndpointKey>,
    /// Whether its lease is being written.
    pub vouching: bool,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// When it is to sweep next.
    sweeps: Time,
    /// When it is to be woken.
    woken: Option<Time>,
}

impl Replica {
    /// A replica that was not started yet.
    pub fn new(at: usize) -> Self {
        Self {
            identity: format!("replica-{at}").into(),
            core: None,
            pod: None,
            pod_ip: None,
            knows: BTreeSet::new(),
            vouching: false,
            stopping: false,
            sweeps: Time::ZERO,
            woken: None,
        }
    }
}

impl World {
    /// A process starts; it remembers nothing of an earlier life.
    pub fn start(&mut self, client: ClientId) {
        if self.clients[client].process != Process::Down {
            return;
        }
        let now = self.now;
        let state = &mut self.clients[client];
        state.life += 1;
        state.process = Process::Runs;
        state.started = now;
        state.troubled = now;
        state.watches = Default::default();
        state.pods = 0;
        state.telling_pods = false;
        state.inbox.clear();
        let life = state.life;
        self.counts.add("process started", 1);
        self.note(|world| format!("{} starts", world.name_of(client)));
        if self.is_replica(client) {
            self.start_replica(client);
        } else {
            self.start_controller(client);
        }
        for kind in Kind::ALL {
            let at = self.soon(1_000);
            self.agenda.put(at, Event::Reopen(client, life, kind));
        }
        self.pods_want_telling(client);
    }

    fn start_replica(&mut self, client: ClientId) {
        let now = self.now_of(client);
        let seed = self.random.u64(..);
        let replica = &mut self.replicas[client];
        let setup = Setup {
            identity: Arc::clone(&replica.identity),
            pod: replica.pod,
            sharing: Some(Sharing { validity: VALIDITY }),
            timing: Timing::default(),
            limits: Limits::default(),
            seed,
        };
        replica.core = Some(Core::new(setup, now));
        replica.knows.clear();
        replica.vouching = false;
        replica.stopping = false;
        replica.sweeps = self.now;
        replica.woken = None;
        self.pump(client);
    }

    /// A replica does what is due.
    pub fn wake(&mut self, client: ClientId) {
        if self.replicas[client].woken == Some(self.now) {
            self.replicas[client].woken = None;
            self.pump(client);
        }
    }

    /// A replica sweeps when it is time, makes the writes that are due, and is
    /// woken again.
    pub fn pump(&mut self, client: ClientId) {
        if self.clients[client].process != Process::Runs {
            return;
        }
        let now = self.now_of(client);
        let replica = &mut self.replicas[client];
        let Some(core) = &mut replica.core else {
            return;
        };
        if replica.sweeps <= self.now {
            core.sweep(now, 0, usize::MAX);
            replica.sweeps = self.now + SWEEP;
        }
        let mut asks = Vec::new();
        while let Some((made, write)) = core.next_write(now) {
            asks.push((Ask::Write(write), Purpose::Endpoint(made), WRITE_TIMEOUT));
        }
        let mut due = core.vouch_due(now);
        if !replica.vouching && !replica.stopping && due.is_some_and(|due| due <= now.mono) {
            replica.vouching = true;
            let vouch = core.vouch(now, false);
            asks.extend(vouch.map(|write| (Ask::Write(write), Purpose::Vouch, VOUCH_TIMEOUT)));
            due = None;
        }
        let mut next = replica.sweeps;
        if core.figures(now).queue > 0 {
            next = next.min(self.now + POLL);
        }
        if let Some(due) = due.filter(|_| !replica.vouching && !replica.stopping) {
            next = next.min(self.now + due.saturating_duration_since(now.mono));
        }
        if replica
            .woken
            .is_none_or(|woken| woken > next || woken <= self.now)
        {
            replica.woken = Some(next);
            let life = self.clients[client].life;
            self.agenda.put(next, Event::Wake(client, life));
        }
        for (ask, purpose, limit) in asks {
            if let Ask::Write(write) = &ask {
                self.note(|world| format!("{} asks: {}", world.name_of(client), told_write(write)));
            }
            self.ask(client, ask, purpose, limit);
        }
    }

    /// The write of an endpoint has ended.
    pub fn written(
        &mut self,
        client: ClientId,
        made: &Made,
        result: &Result<Revision, WriteError>,
    ) {
        let now = self.now_of(client);
        if let Some(core) = &mut self.replicas[client].core {
            let stored = core.written(now, made, result);
            if stored && result.is_ok() && made.what == Wrote::Record {
                self.reported_stored(client, &made.key);
            }
        }
        self.pump(client);
    }

    /// The write of a replica's lease has ended.
    pub fn vouched(&mut self, client: ClientId, result: &Result<Revision, WriteError>) {
        let now = self.now_of(client);
        let replica = &mut self.replicas[client];
        replica.vouching = false;
        if let Some(core) = &mut replica.core {
            core.vouched(now, result);
        }
        self.pump(client);
    }

    /// A watch tells a replica a change.
    pub fn replica_told(&mut self, client: ClientId, mut change: Change) {
        let now = self.now_of(client);
        let replica = &mut self.replicas[client];
        mutation::told(self.mutation, &mut change, &replica.identity, now);
        match &change {
            Change::Reset(_, all, _) => {
                let keys = all.iter().map(|stored| stored.record.key());
                replica.knows.extend(keys.filter_map(|key| match key {
                    Key::Endpoint(key) => Some(key),
                    _ => None,
                }));
            }
            Change::Put(stored) => {
                if let Record::Endpoint(record) = &stored.record {
                    replica.knows.insert(record.endpoint.key.clone());
                }
            }
            Change::Delete(..) => {}
        }
        if let Some(core) = &mut replica.core {
            core.apply(now, change);
        }
        self.pump(client);
    }

    /// The process of a replica or a controller is killed. What it asked for may
    /// be made still.
    pub fn kill(&mut self, client: ClientId) {
        if self.clients[client].process == Process::Down {
            return;
        }
        self.note(|world| format!("{} is killed", world.name_of(client)));
        self.end(client);
    }

    fn end(&mut self, client: ClientId) {
        let state = &mut self.clients[client];
        state.process = Process::Down;
        state.down_since = self.now;
        state.inbox.clear();
        for request in self.requests.values_mut() {
            if request.client == client {
                request.awaited = false;
            }
        }
        self.requests
            .retain(|_, request| request.awaited || request.travels);
        if self.is_replica(client) {
            self.count_events(client);
            let identity = Arc::clone(&self.replicas[client].identity);
            self.rates.died.insert(identity, self.now);
            self.replicas[client].core = None;
            self.connections_end(client);
        } else {
            self.end_controller(client);
        }
    }

    /// What a registry counted.
    pub fn count_events(&mut self, client: ClientId) {
        let now = self.now_of(client);
        if let Some(core) = &self.replicas[client].core {
            let counts = core.figures(now).counts;
            for (what, times) in [
                ("registry: released", counts.released),
                ("registry: gone without a Deregister", counts.expired),
                ("registry: superseded", counts.superseded),
                ("registry: restored", counts.restored),
                ("registry: taken over", counts.taken_over),
                ("registry: refreshed", counts.refreshed),
                ("registry: absorbed", counts.absorbed),
                ("registry: unknown renewals", counts.unknown_renewals),
                ("registry: suspected", counts.suspected),
            ] {
                self.counts.add(what, times);
            }
        }
    }

    /// A replica is asked to stop: it takes no calls any more, and makes the
    /// writes that wait.
    pub fn stop(&mut self, client: ClientId) {
        if self.clients[client].process != Process::Runs || self.replicas[client].stopping {
            return;
        }
        self.note(|world| format!("{} is asked to stop", world.name_of(client)));
        self.replicas[client].stopping = true;
        self.registry_closes(client);
        let life = self.clients[client].life;
        let now = self.now_of(client);
        let waits = match &self.replicas[client].core {
            Some(core) if core.figures(now).queue == 0 => Duration::ZERO,
            _ => FLUSH,
        };
        self.agenda
            .put(self.now + waits, Event::Flushed(client, life));
        self.pump(client);
    }

    /// A replica that stops gives its lease up.
    pub fn give_up(&mut self, client: ClientId, left: u32) {
        let now = self.now_of(client);
        let write = match &mut self.replicas[client].core {
            Some(core) => core.vouch(now, true),
            None => None,
        };
        if let Some(write) = write {
            let purpose = Purpose::GiveUp(left);
            self.ask(client, Ask::Write(write), purpose, LAST_TIMEOUT);
        }
    }

    /// The answer to that.
    pub fn gave_up(&mut self, client: ClientId, left: u32, result: &Result<Revision, WriteError>) {
        let now = self.now_of(client);
        if let Some(core) = &mut self.replicas[client].core {
            core.vouched(now, result);
        }
        match result {
            Err(WriteError::Conflict(_)) if left > 1 => self.give_up(client, left - 1),
            _ => {
                self.note(|world| format!("{} has stopped", world.name_of(client)));
                self.end(client);
            }
        }
    }

    /// The process does not run for a while.
    pub fn freeze(&mut self, client: ClientId, time: Duration) {
        if self.clients[client].process != Process::Runs {
            return;
        }
        self.note(|world| format!("{} is frozen for {time:?}", world.name_of(client)));
        self.clients[client].process = Process::Frozen;
        let life = self.clients[client].life;
        self.agenda.put(self.now + time, Event::Thaw(client, life));
    }

    /// It goes on: first with what came meanwhile.
    pub fn thaw(&mut self, client: ClientId, life: u32) {
        if !self.lives(client, life) || self.clients[client].process != Process::Frozen {
            return;
        }
        self.note(|world| format!("{} goes on", world.name_of(client)));
        self.clients[client].process = Process::Runs;
        self.trouble(client);
        let mut inbox = std::mem::take(&mut self.clients[client].inbox);
        // Its tasks are all ready at once.
        if self.one_in(2) {
            self.random.shuffle(&mut inbox);
        }
        for event in inbox {
            let event = match event {
                Event::Wake(client, life) => {
                    self.replicas[client].woken = Some(self.now);
                    Event::Wake(client, life)
                }
                event => event,
            };
            self.agenda.put(self.now, event);
        }
    }

    /// Default address of loopback callers.
    pub fn loopback() -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}
