//! What goes wrong, drawn from the seed; and how it ends.

use std::time::Duration;

use crate::backend::Write;
use crate::lease::Lease;
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Key, Kind, Network, Record};
use crate::simulation::agenda::{ClientId, Event};
use crate::simulation::client::{Fault, Process};
use crate::simulation::gost::Calls;
use crate::simulation::promises::By;
use crate::simulation::world::World;
use crate::time::Now;
use std::sync::Arc;

impl World {
    fn draw_length(&mut self) -> Duration {
        // Short ones are the more frequent.
        let part = self.random.f64() * self.random.f64();
        Duration::from_secs(1) + self.settings.longest.mul_f64(part)
    }

    fn any_client(&mut self) -> ClientId {
        self.random.usize(0..self.clients.len())
    }

    fn any_replica(&mut self) -> ClientId {
        self.random.usize(0..self.replicas.len())
    }

    fn any_gost(&mut self) -> usize {
        self.random.usize(0..self.gosts.len())
    }

    /// Something goes wrong, or changes as it may at any time.
    pub fn disturb(&mut self) {
        match self.random.u8(0..24) {
            0..=3 => self.disturb_network(),
            4 => self.disturb_watch(),
            5 => self.hang_api(),
            6 => self.cut_all(),
            7 => self.kill_and_start(),
            8 => {
                let client = self.any_client();
                let time = self.draw_length();
                self.counts.add("fault: process frozen", 1);
                self.freeze(client, time);
            }
            9 => self.stop_and_start(),
            10 => {
                let client = self.any_client();
                if !self.settings.clocks_agree {
                    self.counts.add("fault: wall clock jumps", 1);
                    self.clients[client].astray = self.random.i64(-600..=600);
                }
            }
            11 => self.change_leader(),
            12..=14 => {
                let gost = self.any_gost();
                self.connect(gost);
            }
            15 | 16 => {
                let gost = self.any_gost();
                self.disconnect(gost);
            }
            17 => self.end_gost(),
            18 => {
                let gost = self.any_gost();
                let until = self.now + self.draw_length();
                self.counts.add("fault: calls of a gost lost", 1);
                self.note(|_| format!("calls of gost {gost} are lost until {until:?}"));
                self.gosts[gost].cut_until = until;
            }
            19 => {
                let gost = self.any_gost();
                let shared: Vec<_> = (self.settings.sidecars..self.replicas.len()).collect();
                self.move_to(gost, &shared);
            }
            20 => self.end_pod(),
            21 => self.crash_together(),
            _ => self.act_by_hand(),
        }
    }

    fn disturb_network(&mut self) {
        let client = self.any_client();
        if let Some(fault) = self.one_of(&Fault::ALL) {
            let time = self.draw_length();
            self.begin(client, fault, time);
        }
    }

    fn begin(&mut self, client: ClientId, fault: Fault, time: Duration) {
        self.counts.add(fault.as_str(), 1);
        self.note(|world| format!("{}: {fault:?} for {time:?}", world.name_of(client)));
        self.clients[client].begin(fault);
        self.trouble(client);
        self.agenda.put(self.now + time, Event::Mend(client, fault));
    }

    /// A fault ends.
    pub fn mend(&mut self, client: ClientId, fault: Fault) {
        self.note(|world| format!("{}: {fault:?} ends", world.name_of(client)));
        self.clients[client].mend(fault);
        self.trouble(client);
        for kind in Kind::ALL {
            self.wants_telling(client, kind);
        }
        self.pods_want_telling(client);
    }

    fn disturb_watch(&mut self) {
        let client = self.any_client();
        let kind = match self.random.bool() {
            true => Kind::Endpoint,
            false => Kind::Replica,
        };
        self.counts.add("fault: watch broken", 1);
        self.note(|world| format!("{}: watch of {kind:?}s breaks", world.name_of(client)));
        if self.clients[client].watches[kind as usize].open {
            self.break_watch(client, kind);
        }
    }

    fn hang_api(&mut self) {
        self.counts.add("fault: API server hangs", 1);
        let time = self.draw_length();
        self.note(|_| format!("the API server hangs for {time:?}"));
        self.api.hangs += 1;
        self.trouble_all();
        self.agenda.put(self.now + time, Event::Unhang);
    }

    /// Something stands in the way of everybody.
    pub fn trouble_all(&mut self) {
        for client in 0..self.clients.len() {
            self.trouble(client);
        }
    }

    fn cut_all(&mut self) {
        self.counts.add("fault: API server away", 1);
        let time = self.draw_length();
        for client in 0..self.clients.len() {
            self.begin(client, Fault::Cut, time);
        }
    }

    fn kill_and_start(&mut self) {
        let client = self.any_client();
        self.counts.add("fault: kill -9", 1);
        self.kill(client);
        self.start_later(client);
    }

    /// A process that is down comes back some time.
    fn start_later(&mut self, client: ClientId) {
        let away = match self.one_in(2) {
            true => Duration::from_secs(self.random.u64(1..=5)),
            false => self.draw_length(),
        };
        self.agenda.put(self.now + away, Event::Start(client));
        if self.is_replica(client) {
            self.back_off(client, away + Duration::from_secs(1));
        }
    }

    fn stop_and_start(&mut self) {
        let client = self.any_replica();
        if self.clients[client].process == Process::Runs {
            self.counts.add("fault: orderly stop", 1);
            self.stop(client);
            let away = Duration::from_secs(15) + self.draw_length();
            self.agenda.put(self.now + away, Event::Start(client));
            self.back_off(client, away);
        }
    }

    fn change_leader(&mut self) {
        let at = self.random.usize(0..self.controllers.len());
        let acts = self.random.bool();
        self.controllers[at].acts = acts;
        let client = self.replicas.len() + at;
        self.trouble(client);
        let acting = self.controllers.iter().filter(|one| one.acts).count();
        self.note(|_| format!("{acting} controllers act"));
        if acting == 2 {
            self.counts.add("fault: two controllers act", 1);
        }
    }

    fn end_gost(&mut self) {
        let gost = self.any_gost();
        let how = self.random.u8(0..3);
        match how {
            0 => self.counts.add("fault: gost dies silently", 1),
            1 => self
                .counts
                .add("fault: gost dies and its connections close", 1),
            _ => {
                self.counts.add("fault: gost is stopped", 1);
                // Few of its Deregisters are delivered.
                if self.random.bool() {
                    self.disconnect(gost);
                }
            }
        }
        self.die(gost, how > 0);
        self.revive_later(gost);
    }

    fn revive_later(&mut self, at: usize) {
        if self.one_in(4) {
            return;
        }
        self.maybe_readdress(at);
        let life = self.gosts[at].life;
        let away = self.draw_length();
        self.agenda.put(self.now + away, Event::Revive(at, life));
    }

    /// A gost of a host that is gone gives its address to another one.
    fn maybe_readdress(&mut self, at: usize) {
        let sidecars = self.settings.sidecars;
        if at < sidecars || self.one_in(2) {
            return;
        }
        let other = self.random.usize(sidecars..self.gosts.len());
        let (a, b) = (self.gosts[at].ip, self.gosts[other].ip);
        if !self.gosts[other].runs {
            self.counts.add("address used by another gost", 1);
            (self.gosts[at].ip, self.gosts[other].ip) = (b, a);
            for gost in [at, other] {
                if let Some(pod) = self.gosts[gost].pod {
                    self.pod_gone(pod);
                }
            }
        } else if !self.gosts[at].in_pod && !self.gosts[other].in_pod {
            self.counts.add("address shared by two gosts", 1);
            self.gosts[at].ip = b;
        }
    }

    fn end_pod(&mut self) {
        let gost = self.any_gost();
        let Some(pod) = self.gosts[gost].pod else {
            return;
        };
        let grace = self.soon(30_000);
        match self.random.u8(0..3) {
            0 => {
                self.counts.add("fault: pod is deleted", 1);
                self.terminate_pod(pod);
                self.disconnect(gost);
                self.die(gost, true);
                if let Calls::Sidecar(replica) = self.gosts[gost].calls {
                    self.stop(replica);
                }
                self.agenda.put(grace, Event::PodGone(pod));
            }
            1 => {
                self.counts.add("fault: node of a pod is lost", 1);
                self.die(gost, false);
                if let Calls::Sidecar(replica) = self.gosts[gost].calls {
                    self.kill(replica);
                }
                let at = self.now + self.draw_length();
                self.agenda.put(at, Event::PodGone(pod));
            }
            _ => {
                // Its object is removed; for a while it goes on unseen.
                self.counts.add("fault: pod is deleted by force", 1);
                self.pod_gone(pod);
                return;
            }
        }
        let life = self.gosts[gost].life;
        let again = grace + self.draw_length();
        self.agenda.put(again, Event::Revive(gost, life));
    }

    /// What still runs of a pod that is gone is ended, and comes back in another.
    pub fn kill_pod(&mut self, uid: uuid::Uuid) {
        for gost in 0..self.gosts.len() {
            if self.gosts[gost].pod == Some(uid) {
                self.die(gost, false);
                if let Calls::Sidecar(replica) = self.gosts[gost].calls {
                    self.kill(replica);
                }
                let life = self.gosts[gost].life;
                let again = self.now + self.draw_length();
                self.agenda.put(again, Event::Revive(gost, life));
            }
        }
    }

    /// A sidecar and its gost die together; the containers start again, or never.
    fn crash_together(&mut self) {
        if self.settings.sidecars == 0 {
            return;
        }
        let at = self.random.usize(0..self.settings.sidecars);
        self.counts.add("fault: sidecar and gost crash together", 1);
        self.die(at, false);
        self.kill(at);
        if !self.one_in(4) {
            self.start_later(at);
            let life = self.gosts[at].life;
            let away = self.draw_length();
            self.agenda.put(self.now + away, Event::Revive(at, life));
        }
    }

    fn act_by_hand(&mut self) {
        let keys: Vec<EndpointKey> = self
            .api
            .endpoints()
            .filter(|record| !record.is_static)
            .map(|record| record.endpoint.key.clone())
            .collect();
        let endpoint = self.one_of(&keys).map(Key::Endpoint);
        match self.random.u8(0..4) {
            0 => self.make_static(),
            1 => {
                let identities = self.api.replicas();
                let key = self.one_of(&identities);
                if let Some(key) = key.map(|replica| Key::Replica(Arc::clone(&replica.identity))) {
                    self.counts.add("by hand: lease of a replica deleted", 1);
                    // Nobody vouches for what it holds until it is there again.
                    self.trouble_all();
                    self.delete_by_hand(key);
                }
            }
            2 => {
                if let Some(key) = endpoint {
                    self.counts.add("by hand: lease of an endpoint removed", 1);
                    self.strip(&key);
                }
            }
            _ => {
                if let Some(key) = endpoint {
                    self.counts.add("by hand: endpoint deleted", 1);
                    self.delete_by_hand(key);
                }
            }
        }
    }

    fn delete_by_hand(&mut self, key: Key) {
        if let Some(revision) = self.api.get(&key).map(|stored| stored.revision) {
            self.make_directly(By::Hand, Write::Delete(key, revision));
        }
    }

    /// Somebody removes the annotations of an endpoint.
    fn strip(&mut self, key: &Key) {
        let Some(stored) = self.api.get(key).cloned() else {
            return;
        };
        if let Record::Endpoint(mut record) = stored.record {
            Arc::make_mut(&mut record).lease = bare(self.right_now());
            let write = Write::Put(Record::Endpoint(record), stored.revision);
            self.make_directly(By::Hand, write);
        }
    }

    fn make_static(&mut self) {
        self.serial += 1;
        let parse = |text: String| text.parse().ok();
        let key = parse(format!("t{}", self.serial % 2))
            .zip(parse("by-hand".into()))
            .zip(parse(format!("s{}", self.serial)));
        let address = "10.9.0.1:80".parse().ok();
        let Some((((tunnel, node), connector), address)) = key.zip(address) else {
            return;
        };
        self.counts.add("by hand: static endpoint made", 1);
        let record = Arc::new(EndpointRecord {
            endpoint: Endpoint {
                key: EndpointKey {
                    tunnel,
                    node,
                    connector,
                },
                network: Network::Tcp,
                address,
                origin: None,
                pod: None,
                attributes: Default::default(),
            },
            lease: bare(self.right_now()),
            is_static: true,
        });
        self.statics.insert(record.endpoint.key.clone(), self.now);
        let write = Write::Create(Record::Endpoint(record));
        self.make_directly(By::Hand, write);
    }

    /// The disturbances are over: what is broken is mended, and at least one
    /// controller acts. Not everybody who is down comes back.
    pub fn calm_down(&mut self) {
        self.note(|_| "everything calms down".into());
        self.calm = Some(self.now);
        for client in 0..self.clients.len() {
            for fault in Fault::ALL {
                while self.clients[client].has(fault) {
                    self.mend(client, fault);
                }
            }
            let life = self.clients[client].life;
            self.thaw(client, life);
        }
        while self.api.hangs > 0 {
            self.unhang();
        }
        for gost in &mut self.gosts {
            gost.cut_until = gost.cut_until.min(self.now + Duration::from_secs(144));
        }
        self.controllers[0].acts = true;
        self.trouble_all();
        for client in self.replicas.len()..self.clients.len() {
            self.agenda.put(self.now, Event::Start(client));
        }
        for client in 0..self.replicas.len() {
            if self.clients[client].process == Process::Down && !self.one_in(3) {
                self.start_later(client);
            }
        }
    }
}

/// The lease of an object without annotations, as it is read.
fn bare(now: Now) -> Lease {
    Lease {
        holder: None,
        renew_time: now.wall,
        duration_seconds: 60,
        released: None,
        interval_seconds: None,
    }
}
