//! Replicas and a store for the stories: the store may be away, or hang and make
//! what it was asked for only later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::memory::decide;
use crate::backend::{Change, Revision, Stored, Write, WriteError};
use crate::discoverd::engine::{
    ANSWER_WITHIN, Answer, Done, Engine, Limits, Outcome, Request, Setup,
};
use crate::discoverd::event::{Event, What};
use crate::discoverd::instance::{Instance, InstanceId};
use crate::discoverd::meta::Json;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{InstanceRecord, LeaderType};
use crate::record::{Key, Kind};
use crate::time::Now;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DONE: Outcome = Ok(Done::Done);

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Up,
    /// It refuses connections.
    Away,
    /// It takes writes and does not answer.
    Hung,
    /// It makes writes, and the answers are lost.
    Mute,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub engine: Engine,
    identity: Arc<str>,
    told: usize,
    pub lives: bool,
    unanswered: Vec<Key>,
    /// What its subscribers were told, in short.
    pub events: Vec<String>,
}

/// One store, and replicas that serve it.
#[derive(Debug)]
pub(super) struct World {
    pub now: Now,
    pub mood: Mood,
    pub limits: Limits,
    records: BTreeMap<Key, Stored>,
    revision: u64,
    log: Vec<Change>,
    hung: Vec<Write>,
    pub replicas: Vec<Replica>,
    shared: bool,
}

pub(super) fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

/// An instance at this host, with an attribute if there is one.
pub(super) fn instance(host: &str, meta: &str) -> Instance {
    let meta = (!meta.is_empty()).then(|| ("k".to_owned(), meta.to_owned()));
    let meta = meta.into_iter().collect();
    Instance::new(format!("{host}:80"), "tcp".into(), meta).unwrap()
}

pub(super) fn id(host: &str) -> InstanceId {
    instance(host, "").id
}

pub(super) fn json(text: &str) -> Json {
    Json::new(&serde_json::value::RawValue::from_string(text.into()).unwrap()).unwrap()
}

/// An event in short: its kind, and the host or the data that it is about.
pub(super) fn short(event: &Event) -> String {
    let host = |record: &InstanceRecord| {
        let (host, _) = record.instance.addr.split_once(':').unwrap();
        let meta = record.instance.meta.get("k");
        format!(
            "{host}{}",
            meta.map(|meta| format!("={meta}")).unwrap_or_default()
        )
    };
    let about = match &event.what {
        What::Up(record) | What::Update(record) | What::Down(record) => host(record),
        What::Leader(leader) => leader.as_deref().map_or("nobody".into(), host),
        What::ServiceMeta(meta) => meta.data.as_str().to_owned(),
        What::Current => String::new(),
    };
    format!("{} {about}", event.kind()).trim_end().to_owned()
}

impl World {
    /// A store of its own, and the registry on it, past its start.
    pub fn alone() -> Self {
        let mut world = Self::with(1, false);
        world.pass(30);
        world
    }

    /// A store that `count` replicas share.
    pub fn shared(count: usize) -> Self {
        let mut world = Self::with(count, true);
        world.pass(30);
        world
    }

    fn with(count: usize, shared: bool) -> Self {
        let mut world = Self {
            now: Now::read(),
            mood: Mood::Up,
            limits: Limits::default(),
            records: BTreeMap::new(),
            revision: 0,
            log: Vec::new(),
            hung: Vec::new(),
            replicas: Vec::new(),
            shared,
        };
        for number in 0..count {
            let replica = world.start(&format!("replica-{number}"));
            world.replicas.push(replica);
        }
        world
    }

    fn start(&mut self, identity: &str) -> Replica {
        let setup = Setup {
            identity: identity.into(),
            shared: self.shared,
            ttl: Setup::TTL,
            limits: self.limits,
            seed: 1,
        };
        let mut replica = Replica {
            engine: Engine::new(setup, self.now),
            identity: identity.into(),
            told: self.log.len(),
            lives: true,
            unanswered: Vec::new(),
            events: Vec::new(),
        };
        // A watch tells of the kinds in no certain order.
        for kind in [Kind::Instance, Kind::Service] {
            let reset = self.reset_of(kind);
            replica.engine.apply(self.now, &reset);
        }
        // They are what it found.
        let _ = replica.engine.take_events();
        replica
    }

    fn reset_of(&self, kind: Kind) -> Change {
        let all = self.records.values();
        let all = all.filter(|stored| stored.record.kind() == kind).cloned();
        Change::Reset(kind, all.collect(), Revision(self.revision))
    }

    /// A replica starts again, with the identity that it had.
    pub fn restart(&mut self, replica: usize) {
        let identity = Arc::clone(&self.replicas[replica].identity);
        self.replicas[replica] = self.start(&identity);
    }

    /// The watch of a replica begins anew.
    pub fn reset(&mut self, replica: usize) {
        self.replicas[replica].told = self.log.len();
        for kind in [Kind::Instance, Kind::Service] {
            let reset = self.reset_of(kind);
            self.replicas[replica].engine.apply(self.now, &reset);
        }
        self.tell();
    }

    pub fn engine(&mut self, replica: usize) -> &mut Engine {
        &mut self.replicas[replica].engine
    }

    fn make(&mut self, write: Write) -> Result<Revision, WriteError> {
        let key = write.key();
        let next = Revision(self.revision + 1);
        if let Some(edit) = decide(self.records.get(&key), write, next)? {
            self.log.push(match edit.stored() {
                Some(stored) => {
                    self.records.insert(key, stored.clone());
                    Change::Put(stored)
                }
                None => {
                    self.records.remove(&key);
                    Change::Delete(key, next)
                }
            });
            self.revision = next.0;
        }
        Ok(Revision(self.revision))
    }

    /// Makes the writes of a replica that are due.
    pub fn write(&mut self, number: usize) {
        let now = self.now;
        while let Some((key, write)) = self.engine(number).next_write(now) {
            let result = match self.mood {
                Mood::Up => self.make(write),
                Mood::Away => Err(WriteError::Unavailable("away".into())),
                Mood::Mute => {
                    let _lost = self.make(write);
                    Err(WriteError::Unavailable("mute".into()))
                }
                Mood::Hung => {
                    self.hung.push(write);
                    self.replicas[number].unanswered.push(key);
                    continue;
                }
            };
            self.engine(number).written(now, &key, &result);
            self.tell();
        }
    }

    /// What hangs was not made in time.
    pub fn time_out(&mut self) {
        let now = self.now;
        for replica in &mut self.replicas {
            for key in std::mem::take(&mut replica.unanswered) {
                let result = Err(WriteError::Unavailable("late".into()));
                replica.engine.written(now, &key, &result);
            }
        }
    }

    /// The store makes what it was asked for while it hung, and is well again.
    pub fn thaw(&mut self) {
        self.time_out();
        for write in std::mem::take(&mut self.hung) {
            let _late = self.make(write);
        }
        self.mood = Mood::Up;
        self.tell();
    }

    /// Every replica is told what it was not.
    pub fn tell(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.lives) {
            for change in &self.log[replica.told..] {
                replica.engine.apply(self.now, change);
            }
            replica.told = self.log.len();
            let events = replica.engine.take_events();
            replica.events.extend(events.iter().map(short));
        }
    }

    /// Lets seconds pass, one by one.
    pub fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now = self.now.plus(SECOND);
            let gone: Vec<Arc<str>> = self
                .replicas
                .iter()
                .filter(|replica| !replica.lives)
                .map(|replica| Arc::clone(&replica.identity))
                .collect();
            for number in 0..self.replicas.len() {
                if self.replicas[number].lives {
                    let now = self.now;
                    self.engine(number)
                        .sweep(now, |holder| gone.contains(holder));
                    self.write(number);
                }
            }
            if self.mood == Mood::Hung {
                self.time_out();
            }
            self.tell();
        }
    }

    /// Asks, and waits for the answer as long as a client would.
    pub fn ask(&mut self, replica: usize, request: Request) -> Outcome {
        let now = self.now;
        let ticket = match self.engine(replica).ask(now, request) {
            Answer::Now(outcome) => return outcome,
            Answer::Later(ticket) => ticket,
        };
        let until = self.now.mono + ANSWER_WITHIN;
        loop {
            self.write(replica);
            self.tell();
            let answers = self.engine(replica).take_answers();
            if let Some((_, outcome)) = answers.into_iter().find(|(other, _)| *other == ticket) {
                return outcome;
            }
            if self.now.mono >= until {
                let given_up = self.engine(replica).give_up(ticket);
                return given_up.unwrap_or(Err(Problem::Unavailable));
            }
            self.now = self.now.plus(SECOND / 2);
        }
    }

    pub fn create(&mut self, service: &str, leader: LeaderType) -> Outcome {
        self.ask(0, Request::Create(name(service), leader))
    }

    pub fn register(&mut self, replica: usize, service: &str, host: &str, meta: &str) -> Outcome {
        self.ask(
            replica,
            Request::Register(name(service), instance(host, meta)),
        )
    }

    pub fn unregister(&mut self, replica: usize, service: &str, host: &str) -> Outcome {
        self.ask(replica, Request::Unregister(name(service), id(host)))
    }

    /// The hosts of a service's instances, by index, as a replica shows them.
    pub fn hosts(&mut self, replica: usize, service: &str) -> Vec<String> {
        let all = self
            .engine(replica)
            .instances(&name(service))
            .unwrap_or_default();
        all.iter()
            .map(|record| record.instance.addr.trim_end_matches(":80").to_owned())
            .collect()
    }

    /// The indexes of a service's instances, by host.
    pub fn indexes(&mut self, replica: usize, service: &str) -> HashMap<String, u64> {
        let all = self
            .engine(replica)
            .instances(&name(service))
            .unwrap_or_default();
        all.iter()
            .map(|record| {
                let host = record.instance.addr.trim_end_matches(":80");
                (host.to_owned(), record.index)
            })
            .collect()
    }

    /// What a replica's subscribers were told since the last time.
    pub fn events(&mut self, replica: usize) -> Vec<String> {
        std::mem::take(&mut self.replicas[replica].events)
    }

    /// How many records of a kind are stored.
    pub fn stored(&self, kind: Kind) -> usize {
        self.records.keys().filter(|key| key.kind() == kind).count()
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }
}
