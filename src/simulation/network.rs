//! Requests on their way to the API server and back, and what watches tell.

use std::time::Duration;

use crate::backend::{Change, Revision, Write, WriteError};
use crate::record::{Kind, Record};
use crate::simulation::agenda::{Answer, Ask, ClientId, Event, Purpose, Request, Time};
use crate::simulation::client::{Fault, Process};
use crate::simulation::mutation::{self, Mutation};
use crate::simulation::promises::By;
use crate::simulation::world::World;

/// A request on an idle network takes at most so many milliseconds, each way.
const USUAL: u64 = 20;
/// And when the network is slow.
const SLOW: u64 = 9_000;
/// A watch tells within so many milliseconds.
const TOLD_WITHIN: u64 = 100;
/// A record that was refused is tried again after 60 s and a quarter at most.
const REFUSED_FOR: Duration = Duration::from_secs(76);
/// A watch that broke is opened again after at most so many milliseconds.
const REOPENED_WITHIN: u64 = 10_000;

impl World {
    /// A client asks the API server for something, and waits so long.
    pub fn ask(&mut self, client: ClientId, ask: Ask, purpose: Purpose, limit: Duration) {
        self.serial += 1;
        let id = self.serial;
        let request = Request {
            client,
            life: self.clients[client].life,
            ask,
            purpose,
            sent: self.now,
            awaited: true,
            travels: true,
        };
        self.requests.insert(id, request);
        self.agenda.put(self.now + limit, Event::Late(id));
        let arrives = self.travel(client);
        self.agenda.put(arrives, Event::Arrive(id));
    }

    fn travel(&mut self, client: ClientId) -> Time {
        match self.clients[client].has(Fault::Slow) {
            true => self.soon(SLOW),
            false => self.soon(USUAL),
        }
    }

    /// A request reaches the API server, if it does.
    pub fn arrive(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id).cloned() else {
            return;
        };
        let client = request.client;
        if self.clients[client].has(Fault::Cut) {
            self.counts.add("request that met a partition", 1);
            // Refused at once, or never heard of again.
            match self.one_in(2) {
                true => self.fails(id, client, &request.ask),
                false => self.lost(id),
            }
            return;
        }
        if self.api.hangs > 0 {
            self.api.hung.push(id);
            return;
        }
        if self.clients[client].has(Fault::Busy) && !self.one_in(4) {
            self.counts.add("request that was turned away", 1);
            self.fails(id, client, &request.ask);
            return;
        }
        if !request.awaited {
            self.counts
                .add("request made after its client had given up", 1);
        }
        match request.ask {
            Ask::List => {
                let listed = Some(self.api.replicas());
                self.answer(id, client, Answer::Listed(listed));
            }
            Ask::Write(write) => {
                let refused = self.clients[client].has(Fault::Rejects) && self.one_in(3);
                if refused {
                    self.counts.add("record that was refused", 1);
                    let state = &mut self.clients[client];
                    state.troubled = state.troubled.max(self.now + REFUSED_FOR);
                    let error = WriteError::Refused("by the simulation".into());
                    self.answer(id, client, Answer::Written(Err(error)));
                } else {
                    self.make(id, client, write);
                }
            }
        }
    }

    fn make(&mut self, id: u64, client: ClientId, write: Write) {
        let write = match self.mutation {
            Some(Mutation::BlindWrites) if self.is_replica(client) => {
                mutation::blind(write, &self.api)
            }
            _ => write,
        };
        let told = match &write {
            Write::Delete(_, revision) => Some(Revision(revision.0 + 1)),
            _ => None,
        };
        match self.api.write(write) {
            Ok(edit) => {
                let revision = match &edit {
                    Some(edit) => edit.after.as_ref().map(|stored| stored.revision),
                    None => None,
                };
                if let Some(edit) = edit {
                    self.made(By::Client(client), edit);
                }
                let revision = revision.or(told).unwrap_or_default();
                self.answer(id, client, Answer::Written(Ok(revision)));
            }
            Err(_) => {
                self.counts.add("write that met a conflict", 1);
                let reads = self.travel(client) + Duration::from_millis(1);
                self.agenda.put(reads, Event::Read(id));
            }
        }
    }

    /// A request that met a conflict reads what is there instead, with a request
    /// of its own.
    pub fn read_instead(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id).cloned() else {
            return;
        };
        let client = request.client;
        let Ask::Write(write) = request.ask.clone() else {
            return;
        };
        if self.clients[client].has(Fault::Cut) || self.api.hangs > 0 {
            self.fails(id, client, &request.ask);
            return;
        }
        let current = self.api.get(&write.key()).cloned();
        let result = match (current, write) {
            (None, Write::Delete(_, revision)) => Ok(Revision(revision.0 + 1)),
            (current, _) => Err(WriteError::Conflict(current.map(Box::new))),
        };
        self.answer(id, client, Answer::Written(result));
    }

    fn fails(&mut self, id: u64, client: ClientId, ask: &Ask) {
        let answer = match ask {
            Ask::List => Answer::Listed(None),
            Ask::Write(_) => {
                let error = WriteError::Unavailable("cut off by the simulation".into());
                Answer::Written(Err(error))
            }
        };
        self.travels_no_more(id);
        let at = self.travel(client);
        self.agenda.put(at, Event::Answer(id, answer));
    }

    fn travels_no_more(&mut self, id: u64) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.travels = false;
        }
    }

    /// Nobody will hear of a request again.
    fn lost(&mut self, id: u64) {
        self.travels_no_more(id);
        if self
            .requests
            .get(&id)
            .is_some_and(|request| !request.awaited)
        {
            self.requests.remove(&id);
        }
    }

    fn answer(&mut self, id: u64, client: ClientId, answer: Answer) {
        if self.clients[client].has(Fault::LosesAnswers) && !self.one_in(3) {
            self.counts.add("answer that was lost", 1);
            self.lost(id);
            return;
        }
        self.travels_no_more(id);
        let at = self.travel(client);
        self.agenda.put(at, Event::Answer(id, answer));
    }

    /// An answer reaches who asked, if that one still waits.
    pub fn answered(&mut self, id: u64, answer: Answer) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        if request.awaited && self.lives(request.client, request.life) {
            if !matches!(request.ask, Ask::List) {
                self.note(|world| {
                    let name = world.name_of(request.client);
                    format!("{name} hears {}: {}", short(&request), told(&answer))
                });
            }
            self.heard_back(request.client, request.purpose, answer);
        }
    }

    /// Whoever asked has waited long enough.
    pub fn late(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let (client, life, purpose) = (request.client, request.life, request.purpose.clone());
        if !std::mem::replace(&mut request.awaited, false) {
            return;
        }
        let answer = match request.ask {
            Ask::List => Answer::Listed(None),
            Ask::Write(_) => Answer::Written(Err(WriteError::Unavailable("no answer".into()))),
        };
        if !request.travels {
            self.requests.remove(&id);
        }
        if self.lives(client, life) {
            self.counts.add("request that nobody answered in time", 1);
            self.note(|world| format!("{} gives up on {purpose:?}", world.name_of(client)));
            self.heard_back(client, purpose, answer);
        }
    }

    fn heard_back(&mut self, client: ClientId, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Endpoint(made), Answer::Written(result)) => {
                self.written(client, &made, &result);
            }
            (Purpose::Vouch, Answer::Written(result)) => self.vouched(client, &result),
            (Purpose::GiveUp(left), Answer::Written(result)) => {
                self.gave_up(client, left, &result);
            }
            (Purpose::List, Answer::Listed(listed)) => self.listed(client, listed),
            (Purpose::Collect(key), Answer::Written(result)) => {
                self.collected(client, &key, &result);
            }
            (_, Answer::Written(_) | Answer::Listed(_)) => {}
        }
    }

    /// The API server goes on: what it was asked for meanwhile it does now, in
    /// any order.
    pub fn unhang(&mut self) {
        self.api.hangs = self.api.hangs.saturating_sub(1);
        if self.api.hangs > 0 {
            return;
        }
        self.note(|world| format!("the API server goes on with {:?}", world.api.hung));
        let mut hung = std::mem::take(&mut self.api.hung);
        self.random.shuffle(&mut hung);
        for id in hung {
            let at = self.soon(3_000);
            self.agenda.put(at, Event::Arrive(id));
        }
        self.trouble_all();
        for kind in Kind::ALL {
            self.announce(kind);
        }
        for client in 0..self.clients.len() {
            self.pods_want_telling(client);
        }
    }

    /// A watch will tell what there is to tell.
    pub fn wants_telling(&mut self, client: ClientId, kind: Kind) {
        let length = self.api.length(kind);
        let behind = &self.clients[client];
        let watch = behind.watches[kind as usize];
        let wants = watch.open
            && !watch.telling
            && behind.process != Process::Down
            && (watch.list.is_some() || watch.position < length);
        if wants && !behind.is_deaf(kind) && self.api.hangs == 0 {
            self.clients[client].watches[kind as usize].telling = true;
            let life = self.clients[client].life;
            let at = self.soon(TOLD_WITHIN);
            self.agenda.put(at, Event::Tell(client, life, kind));
        }
    }

    /// A watch tells a part of what there is to tell.
    pub fn tell(&mut self, client: ClientId, kind: Kind) {
        let watch = &mut self.clients[client].watches[kind as usize];
        watch.telling = false;
        if !watch.open || self.clients[client].is_deaf(kind) || self.api.hangs > 0 {
            return;
        }
        let watch = &mut self.clients[client].watches[kind as usize];
        let changes = match watch.list.take() {
            Some(position) => {
                watch.position = position;
                watch.listed = true;
                vec![self.api.list(kind, position)]
            }
            None => {
                let changes = self.api.changes(kind, watch.position);
                let count = self
                    .random
                    .usize(1..=changes.len().max(1))
                    .min(changes.len());
                watch.position += count;
                changes[..count].to_vec()
            }
        };
        for change in changes {
            self.told(client, change);
        }
        self.wants_telling(client, kind);
    }

    fn told(&mut self, client: ClientId, change: Change) {
        self.note(|world| {
            let name = world.name_of(client);
            match &change {
                Change::Reset(kind, all, at) => {
                    format!("{name} is told of {} {kind:?}s at {at}", all.len())
                }
                Change::Put(stored) => {
                    let record = told_record(&stored.record);
                    format!("{name} is told of {record} at {}", stored.revision)
                }
                Change::Delete(key, at) => format!("{name} is told that {key} went at {at}"),
            }
        });
        if self.is_replica(client) {
            self.replica_told(client, change);
        } else {
            self.controller_told(client, change);
        }
    }

    /// A watch breaks.
    pub fn break_watch(&mut self, client: ClientId, kind: Kind) {
        let life = self.clients[client].life;
        self.clients[client].watches[kind as usize].open = false;
        self.trouble(client);
        let at = self.soon(REOPENED_WITHIN);
        self.agenda.put(at, Event::Reopen(client, life, kind));
    }

    /// A watch is opened again: it goes on where it was; or, when that is too
    /// long ago, everything is listed, as it is or as it was a moment ago.
    pub fn reopen(&mut self, client: ClientId, kind: Kind) {
        if self.clients[client].is_deaf(kind) || self.api.hangs > 0 {
            self.break_watch(client, kind);
            return;
        }
        let length = self.api.length(kind);
        let told = self.clients[client].watches[kind as usize].position;
        let listed = self.clients[client].watches[kind as usize].listed;
        let list = match self.random.u8(0..4) {
            0 if listed => None,
            1 => Some(self.random.usize(told.saturating_sub(3)..=length)),
            _ => Some(length),
        };
        let watch = &mut self.clients[client].watches[kind as usize];
        watch.open = true;
        watch.list = list.or(watch.list);
        if list.is_some() {
            self.counts.add("relist", 1);
        }
        self.wants_telling(client, kind);
    }
}

fn short(request: &Request) -> String {
    match &request.ask {
        Ask::List => "the list of replicas".into(),
        Ask::Write(write) => told_write(write),
    }
}

/// A write, for people.
pub fn told_write(write: &Write) -> String {
    match write {
        Write::Create(record) => format!("create {}", told_record(record)),
        Write::Put(record, at) => format!("put at {at} {}", told_record(record)),
        Write::Delete(key, at) => format!("delete at {at} {key}"),
    }
}

/// A record, for people.
pub fn told_record(record: &Record) -> String {
    let key = record.key();
    match record {
        Record::Endpoint(record) => {
            let lease = &record.lease;
            let holder = lease.holder.as_deref().unwrap_or("nobody");
            let (seconds, every) = (lease.duration_seconds, lease.interval_seconds);
            format!("{key} held by {holder} for {seconds} s, every {every:?}")
        }
        Record::Replica(record) if record.stopped => format!("{key}, given up"),
        Record::Replica(record) => format!("{key}, suspects {:?}", record.suspects),
        Record::Session(_) | Record::Service(_) | Record::Instance(_) => key.to_string(),
    }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Written(Ok(revision)) => format!("made at {revision}"),
        Answer::Written(Err(WriteError::Conflict(Some(stored)))) => {
            let (record, at) = (told_record(&stored.record), stored.revision);
            format!("there is {record} at {at}")
        }
        Answer::Written(Err(WriteError::Conflict(None))) => "there is nothing".into(),
        Answer::Written(Err(error)) => error.to_string(),
        Answer::Listed(listed) => format!("{listed:?}"),
    }
}
