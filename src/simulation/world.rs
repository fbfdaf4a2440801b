//! The world: all that there is in a schedule, and the loop that lets it happen.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::record::{EndpointKey, Kind};
use crate::simulation::agenda::{Agenda, ClientId, Event, Request, Time};
use crate::simulation::api::Api;
use crate::simulation::client::{Client, Process};
use crate::simulation::controller::Controller;
use crate::simulation::gost::Gost;
use crate::simulation::mutation::Mutation;
use crate::simulation::pods::PodLog;
use crate::simulation::promises::patient::Answers;
use crate::simulation::promises::rates::Rates;
use crate::simulation::replica::Replica;
use crate::simulation::report::{Counts, History, Report, Violation};
use crate::simulation::settings::{Settings, Size};
use crate::simulation::truth::Truth;
use crate::time::Now;

/// A schedule ends so long after the last disturbance at the latest.
const LONGEST_CALM: Duration = Duration::from_secs(45 * 60);
/// And when nothing has been left to do for so long: longer than a base time, so
/// that what would be released wrongly is.
const SETTLED_FOR: Duration = Duration::from_secs(80);

/// All that there is.
#[derive(Debug)]
pub struct World {
    pub now: Time,
    base: Now,
    pub random: Rng,
    pub agenda: Agenda,
    pub settings: Settings,
    pub mutation: Option<Mutation>,
    pub api: Api,
    pub requests: BTreeMap<u64, Request>,
    pub serial: u64,
    /// The processes that talk to the API server: the replicas, then the
    /// controllers.
    pub clients: Vec<Client>,
    pub replicas: Vec<Replica>,
    pub controllers: Vec<Controller>,
    pub gosts: Vec<Gost>,
    pub pods: PodLog,
    pub truths: BTreeMap<EndpointKey, Truth>,
    /// The endpoints that are kept by hand, and when they were made.
    pub statics: BTreeMap<EndpointKey, Time>,
    pub rates: Rates,
    /// What controllers were answered.
    pub answers: BTreeMap<ClientId, Answers>,
    pub counts: Counts,
    pub history: Option<History>,
    pub violation: Option<Violation>,
    /// Since when there are no disturbances any more.
    pub calm: Option<Time>,
    settled: Option<Time>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, size: Size, mutation: Option<Mutation>, history: bool) -> Self {
        let mut random = Rng::with_seed(seed);
        let settings = Settings::draw(&mut random, size);
        let read = Now::read();
        let mut world = Self {
            now: Time::ZERO,
            base: Now {
                // Long after the start of the machine: counted time may go back.
                mono: read.mono + Duration::from_secs(30 * 24 * 3_600),
                wall: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000),
            },
            random,
            agenda: Agenda::default(),
            mutation,
            api: Api::default(),
            requests: BTreeMap::new(),
            serial: 0,
            clients: Vec::new(),
            replicas: Vec::new(),
            controllers: Vec::new(),
            gosts: Vec::new(),
            pods: PodLog::default(),
            truths: BTreeMap::new(),
            statics: BTreeMap::new(),
            rates: Rates::default(),
            answers: BTreeMap::new(),
            counts: Counts::default(),
            history: history.then(History::default),
            violation: None,
            calm: None,
            settled: None,
            settings,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let settings = self.settings.clone();
        self.note(|_| format!("{settings:?}"));
        for at in 0..settings.sidecars + settings.shared {
            let client = Client::new(self.draw_astray());
            self.clients.push(client);
            self.replicas.push(Replica::new(at));
        }
        for at in 0..settings.controllers {
            let client = Client::new(self.draw_astray());
            self.clients.push(client);
            self.controllers.push(Controller::new(at == 0));
        }
        for at in 0..settings.sidecars + settings.strangers {
            let gost = self.new_gost(at);
            self.gosts.push(gost);
        }
        for client in 0..self.clients.len() {
            let at = self.soon(2_000);
            self.agenda.put(at, Event::Start(client));
        }
        for gost in 0..self.gosts.len() {
            let at = self.soon(10_000) + Duration::from_secs(2);
            self.agenda.put(at, Event::Revive(gost, 0));
        }
        let rough = settings.rough_for;
        let first = self.draw_pause();
        self.agenda.put(first, Event::Disturb);
        self.agenda.put(rough, Event::Calm);
        self.agenda.put(Duration::from_secs(1), Event::Check);
        self.agenda.put(Duration::from_secs(10), Event::Garbage);
    }

    fn draw_astray(&mut self) -> i64 {
        match self.settings.clocks_agree {
            true => 0,
            false => self.random.i64(-600..=600),
        }
    }

    fn draw_pause(&mut self) -> Time {
        let mean = self.settings.pause.as_secs_f64();
        self.now + Duration::from_secs_f64(mean * 2.0 * self.random.f64() + 0.01)
    }

    /// Lets it happen until nothing is left to do, or a promise is broken.
    pub fn run(&mut self) {
        while let Some((at, event)) = self.agenda.next() {
            self.now = at;
            self.happen(event);
            if self.violation.is_some() || self.is_over() {
                return;
            }
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(client) = self.process_of(&event)
            && self.clients[client].process == Process::Frozen
        {
            self.clients[client].inbox.push(event);
            return;
        }
        match event {
            Event::Wake(client, life) if self.lives(client, life) => self.wake(client),
            Event::Tell(client, life, kind) if self.lives(client, life) => self.tell(client, kind),
            Event::TellPods(client, life) if self.lives(client, life) => self.tell_pods(client),
            Event::Tick(client, life) if self.lives(client, life) => self.tick(client),
            Event::Reopen(client, life, kind) if self.lives(client, life) => {
                self.reopen(client, kind);
            }
            Event::Flushed(client, life) if self.lives(client, life) => self.give_up(client, 2),
            Event::Wake(..)
            | Event::Tell(..)
            | Event::TellPods(..)
            | Event::Tick(..)
            | Event::Reopen(..)
            | Event::Flushed(..) => {}
            Event::Arrive(request) => self.arrive(request),
            Event::Read(request) => self.read_instead(request),
            Event::Answer(request, answer) => self.answered(request, answer),
            Event::Late(request) => self.late(request),
            Event::Call(call) => self.called(&call),
            Event::Renew(gost, life) => self.renew_all(gost, life),
            Event::Revive(gost, life) => self.revive(gost, life),
            Event::Disturb => {
                if self.calm.is_none() {
                    self.disturb();
                    let next = self.draw_pause();
                    self.agenda.put(next, Event::Disturb);
                }
            }
            Event::Mend(client, fault) => self.mend(client, fault),
            Event::Thaw(client, life) => self.thaw(client, life),
            Event::Start(client) => self.start(client),
            Event::PodGone(uid) => self.pod_gone(uid),
            Event::PodKilled(uid) => self.kill_pod(uid),
            Event::Garbage => self.collect_garbage(),
            Event::Unhang => self.unhang(),
            Event::Calm => self.calm_down(),
            Event::Check => {
                self.check();
                let next = self.now + Duration::from_secs(1);
                self.agenda.put(next, Event::Check);
            }
        }
    }

    /// The process that must run for an event to happen.
    fn process_of(&self, event: &Event) -> Option<ClientId> {
        match event {
            Event::Wake(client, _)
            | Event::Tell(client, ..)
            | Event::TellPods(client, _)
            | Event::Tick(client, _)
            | Event::Reopen(client, ..)
            | Event::Flushed(client, _) => Some(*client),
            Event::Answer(request, _) | Event::Late(request) => {
                self.requests.get(request).map(|request| request.client)
            }
            Event::Call(call) => Some(call.replica),
            _ => None,
        }
    }

    fn is_over(&mut self) -> bool {
        let Some(calm) = self.calm else {
            return false;
        };
        if !self.is_settled() {
            self.settled = None;
            return self.now >= calm + LONGEST_CALM;
        }
        self.now >= *self.settled.get_or_insert(self.now) + SETTLED_FOR
    }

    /// Whether a process runs, and is the one that was meant.
    pub fn lives(&self, client: ClientId, life: u32) -> bool {
        let client = &self.clients[client];
        client.life == life && client.process != Process::Down
    }

    /// The present, as a process sees it.
    pub fn now_of(&self, client: ClientId) -> Now {
        let now = self.base.plus(self.now);
        let astray = SignedDuration::from_secs(self.clients[client].astray);
        Now {
            wall: now.wall.saturating_add(astray).unwrap_or(now.wall),
            ..now
        }
    }

    /// The present, on a clock that is right.
    pub fn right_now(&self) -> Now {
        self.base.plus(self.now)
    }

    /// At most so many milliseconds from now.
    pub fn soon(&mut self, millis: u64) -> Time {
        self.now + Duration::from_millis(self.random.u64(1..=millis))
    }

    /// One in so many times.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.random.u32(0..count) == 0
    }

    /// One of a few.
    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        match all.len() {
            0 => None,
            length => all.get(self.random.usize(0..length)).cloned(),
        }
    }

    /// Whether a client is a replica.
    pub fn is_replica(&self, client: ClientId) -> bool {
        client < self.replicas.len()
    }

    /// Who a client is, for people.
    pub fn name_of(&self, client: ClientId) -> String {
        match self.replicas.get(client) {
            Some(replica) => replica.identity.to_string(),
            None => format!("controller-{}", client - self.replicas.len()),
        }
    }

    /// The watches of all clients that are open and not about to tell anything
    /// will do so.
    pub fn announce(&mut self, kind: Kind) {
        for client in 0..self.clients.len() {
            self.wants_telling(client, kind);
        }
    }

    /// Writes down what happens, if anybody will read it.
    pub fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.history.is_some() {
            let text = text(self);
            let now = self.now;
            if let Some(history) = &mut self.history {
                history.push(now, text);
            }
        }
    }

    /// What became of it.
    pub fn report(mut self) -> Report {
        for client in 0..self.replicas.len() {
            self.count_events(client);
        }
        self.counts.add("write made", self.api.writes());
        Report {
            lasted: self.now,
            counts: self.counts,
        }
    }

    /// A promise was broken.
    pub fn broken(&mut self, promise: &'static str, text: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation::new(self.now, promise, text));
        }
    }
}
