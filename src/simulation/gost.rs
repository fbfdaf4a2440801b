//! gosts: what they call, when, and where, as their own client does.

mod calls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::record::{Address, Endpoint, EndpointKey, Network};
use crate::registry::core::Registered;
use crate::registry::{Caller, ClosedBy, ConnectionId};
use crate::simulation::agenda::{ClientId, Event, Time};
use crate::simulation::client::Process;
use crate::simulation::mutation::Mutation;
use crate::simulation::truth::{End, Heard, Truth};
use crate::simulation::world::World;

/// A call takes at most so many milliseconds.
const USUAL: u64 = 20;
/// And at most so many when another goroutine was faster: less than a tombstone
/// is kept.
const OVERTAKEN: u64 = 4_000;
/// gost's gRPC client waits so long at most before it connects again: 120 s, and
/// a fifth.
const BACK_OFF: Duration = Duration::from_secs(144);
/// The registry closes a connection that carried nothing for so long.
const IDLE: Duration = Duration::from_secs(600);

/// Where a gost calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Its own replica.
    Sidecar(ClientId),
    /// One shared replica, until that one goes.
    One(ClientId),
    /// A shared replica, another one each time.
    Any,
}

/// A gost server with one tunnel handler.
#[derive(Debug)]
pub struct Gost {
    /// Where it calls.
    pub calls: Calls,
    /// Whether over gRPC.
    pub lasting: bool,
    /// Its `tunnel.ttl`.
    pub ttl: Duration,
    /// Its address.
    pub ip: IpAddr,
    /// Whether it runs in a pod; of a sidecar, in the sidecar's.
    pub in_pod: bool,
    /// That pod.
    pub pod: Option<Uuid>,
    /// How often it was started; each life has another node id.
    pub life: u32,
    /// Whether it runs.
    pub runs: bool,
    /// Its connectors.
    pub connectors: Vec<EndpointKey>,
    /// The connections that it has to replicas.
    connections: BTreeMap<ClientId, Connection>,
    /// Until when its calls are lost.
    pub cut_until: Time,
    /// When it last closed its connections.
    pub hung_up: Time,
    /// Whether a renewal is stuck at a replica that is frozen.
    stuck: bool,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    id: ConnectionId,
    used: Time,
}

/// A call on its way.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose.
    pub gost: usize,
    /// Of which connector.
    pub key: EndpointKey,
    /// For what.
    pub what: What,
    /// To which replica.
    pub replica: ClientId,
    /// From which address.
    ip: IpAddr,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A connector was announced.
    Register,
    /// It lives.
    Renew,
    /// It was withdrawn.
    Deregister,
    /// The connection is closed; no call at all.
    HangUp(ConnectionId),
}

impl World {
    /// A gost that does not run yet: sidecars come first.
    pub fn new_gost(&mut self, at: usize) -> Gost {
        let sidecars = self.settings.sidecars;
        let shared: Vec<ClientId> = (sidecars..self.replicas.len()).collect();
        let calls = match at < sidecars {
            true => Calls::Sidecar(at),
            false if self.random.bool() => Calls::Any,
            false => Calls::One(self.one_of(&shared).unwrap_or_default()),
        };
        let ttl = match self.random.u8(0..10) {
            0 => 5,
            1 => 120,
            _ => 15,
        };
        let number = u8::try_from(at).unwrap_or(u8::MAX);
        Gost {
            calls,
            lasting: calls != Calls::Any && self.random.bool(),
            ttl: Duration::from_secs(ttl),
            ip: [10, 1, 0, number].into(),
            in_pod: at < sidecars || self.random.bool(),
            pod: None,
            life: 0,
            runs: false,
            connectors: Vec::new(),
            connections: BTreeMap::new(),
            cut_until: Time::ZERO,
            hung_up: Time::ZERO,
            stuck: false,
        }
    }

    /// A gost starts, unless it has been started meanwhile.
    pub fn revive(&mut self, at: usize, life: u32) {
        if self.gosts[at].runs || self.gosts[at].life != life {
            return;
        }
        self.give_pod(at);
        let gost = &mut self.gosts[at];
        gost.life += 1;
        gost.runs = true;
        gost.stuck = false;
        let life = gost.life;
        self.counts.add("gost started", 1);
        self.note(|world| {
            let gost = &world.gosts[at];
            format!(
                "gost {at} starts at {} ({:?}, every {:?})",
                gost.ip, gost.calls, gost.ttl
            )
        });
        for _ in 0..self.random.usize(1..=self.settings.connectors) {
            self.connect(at);
        }
        let first = self.now + self.gosts[at].ttl;
        self.agenda.put(first, Event::Renew(at, life));
    }

    /// A gost's pod is made, if it is to have one and has none.
    fn give_pod(&mut self, at: usize) {
        let gost = &self.gosts[at];
        if !gost.in_pod || gost.pod.is_some_and(|pod| self.pods.is_there(pod)) {
            return;
        }
        let ip = gost.ip;
        let pod = self.make_pod(Some(ip));
        self.gosts[at].pod = Some(pod);
        if let Calls::Sidecar(replica) = self.gosts[at].calls {
            self.replicas[replica].pod = Some(pod);
            self.replicas[replica].pod_ip = Some(ip);
            // The pod starts its containers together.
            self.kill(replica);
            self.replicas[replica].identity = format!("replica-{replica}-{pod}").into();
            self.start(replica);
        }
    }

    /// A client connects to a gost, which announces it.
    pub fn connect(&mut self, at: usize) {
        self.serial += 1;
        let gost = &self.gosts[at];
        if !gost.runs || gost.connectors.len() >= self.settings.connectors {
            return;
        }
        let parse = |text: String| text.parse().ok();
        let key = parse(format!("t{}", self.serial % 2))
            .zip(parse(format!("gost-{at}-{}", gost.life)))
            .zip(parse(format!("c{}", self.serial)))
            .map(|((tunnel, node), connector)| EndpointKey {
                tunnel,
                node,
                connector,
            });
        let Some(key) = key else {
            return;
        };
        let owner = match gost.calls {
            Calls::Sidecar(replica) => self.replicas[replica].pod,
            Calls::One(_) | Calls::Any => None,
        };
        let mut truth = Truth::new(at, gost.pod, owner, self.now);
        if gost.pod.is_some_and(|pod| !self.pods.is_there(pod)) {
            truth.end(self.now, End::PodGone);
        }
        self.truths.insert(key.clone(), truth);
        self.gosts[at].connectors.push(key.clone());
        self.counts.add("connector opened", 1);
        self.send(at, key, What::Register);
    }

    /// A client leaves a gost, which withdraws it.
    pub fn disconnect(&mut self, at: usize) {
        let connectors = self.gosts[at].connectors.clone();
        if let Some(key) = self.one_of(&connectors) {
            self.gosts[at].connectors.retain(|other| *other != key);
            self.counts.add("connector closed", 1);
            if let Some(truth) = self.truths.get_mut(&key) {
                truth.end(self.now, End::Left);
            }
            if self.one_in(4) {
                // A renewal was under way.
                self.send(at, key.clone(), What::Renew);
            }
            self.send(at, key, What::Deregister);
        }
    }

    /// Every connector is renewed, one after the other.
    pub fn renew_all(&mut self, at: usize, life: u32) {
        let gost = &self.gosts[at];
        if !gost.runs || gost.life != life {
            return;
        }
        let frozen = match gost.calls {
            Calls::Sidecar(replica) | Calls::One(replica) => {
                gost.lasting && self.clients[replica].process == Process::Frozen
            }
            Calls::Any => false,
        };
        let stuck = std::mem::replace(&mut self.gosts[at].stuck, frozen);
        if stuck && frozen {
            let at_next = self.now + Duration::from_secs(1);
            self.agenda.put(at_next, Event::Renew(at, life));
            return;
        }
        for key in self.gosts[at].connectors.clone() {
            self.send(at, key, What::Renew);
        }
        let next = self.now + self.gosts[at].ttl;
        self.agenda.put(next, Event::Renew(at, life));
    }

    fn send(&mut self, at: usize, key: EndpointKey, what: What) {
        if self.now < self.gosts[at].cut_until {
            self.counts.add("call that was lost", 1);
            self.note(|_| format!("{what:?} of {key} is lost"));
            return;
        }
        let replica = self.target(at);
        let arrives = match self.one_in(20) {
            true => {
                self.counts.add("call that was overtaken", 1);
                self.soon(OVERTAKEN)
            }
            false => self.soon(USUAL),
        };
        let call = Call {
            gost: at,
            key,
            what,
            replica,
            ip: self.gosts[at].ip,
        };
        self.agenda.put(arrives, Event::Call(call));
    }

    /// The replica that a call of a gost goes to.
    fn target(&mut self, at: usize) -> ClientId {
        let shared: Vec<ClientId> = (self.settings.sidecars..self.replicas.len()).collect();
        match self.gosts[at].calls {
            Calls::Sidecar(replica) => replica,
            Calls::Any => {
                let first = self.one_of(&shared).unwrap_or_default();
                // A Service soon leaves out who is not there.
                match self.clients[first].process {
                    Process::Down => self.one_of(&shared).unwrap_or_default(),
                    Process::Runs | Process::Frozen => first,
                }
            }
            Calls::One(replica) => {
                if self.clients[replica].process == Process::Down && self.one_in(3) {
                    self.move_to(at, &shared);
                }
                match self.gosts[at].calls {
                    Calls::One(replica) => replica,
                    Calls::Sidecar(_) | Calls::Any => replica,
                }
            }
        }
    }

    /// A gost calls another replica from now on; its connection is closed.
    pub fn move_to(&mut self, at: usize, shared: &[ClientId]) {
        if let (Calls::One(_), Some(replica)) = (self.gosts[at].calls, self.one_of(shared)) {
            self.counts.add("gost moved to another replica", 1);
            self.note(|_| format!("gost {at} moves to replica {replica}"));
            self.hang_up(at);
            self.gosts[at].calls = Calls::One(replica);
        }
    }

    /// The connections of a gost are closed from its side.
    pub fn hang_up(&mut self, at: usize) {
        let connections = std::mem::take(&mut self.gosts[at].connections);
        self.gosts[at].hung_up = self.now;
        let Some(key) = self.gosts[at].connectors.first().cloned() else {
            return;
        };
        for (replica, connection) in connections {
            let call = Call {
                gost: at,
                key: key.clone(),
                what: What::HangUp(connection.id),
                replica,
                ip: self.gosts[at].ip,
            };
            let arrives = self.soon(USUAL);
            self.agenda.put(arrives, Event::Call(call));
        }
    }

    /// A gost ends. `closes` tells whether its connections are seen to close.
    pub fn die(&mut self, at: usize, closes: bool) {
        if !self.gosts[at].runs {
            return;
        }
        self.note(|_| format!("gost {at} dies; seen to close: {closes}"));
        self.counts.add("gost died", 1);
        if closes {
            self.hang_up(at);
        }
        let gost = &mut self.gosts[at];
        gost.runs = false;
        gost.connections.clear();
        for key in std::mem::take(&mut gost.connectors) {
            if let Some(truth) = self.truths.get_mut(&key) {
                truth.end(self.now, End::Died);
            }
        }
    }
}
