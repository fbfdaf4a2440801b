//! What is asked: each command comes to a reply, or to a ticket.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::lease::Lease;
use crate::registry::ConnectionId;
use crate::session::command::Command;
use crate::session::engine::turns::Wish;
use crate::session::engine::{Answer, Engine, Entry, Ticket, later};
use crate::session::events::Event;
use crate::session::id::{RANDOM_BYTES, SessionId, SessionKey, front};
use crate::session::options::Options;
use crate::session::problem::Problem;
use crate::session::record::{Routes, SessionRecord};
use crate::session::registration::Registration;
use crate::session::reply::Reply;
use crate::time::Now;

impl Engine {
    /// A command came in on an open connection. `random` is for the id of a
    /// session, and must be unpredictable.
    pub fn ask(
        &mut self,
        now: Now,
        connection: ConnectionId,
        command: Command,
        random: [u8; RANDOM_BYTES],
    ) -> Answer {
        // Before the store was read nobody knows which sessions there are.
        if !self.is_ready {
            return Answer::Now(Problem::Unavailable.into());
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        match command {
            Command::Register(registration) => {
                let asked = self.register(now, ticket, connection, registration, random);
                self.answer(ticket, asked)
            }
            command if self.expect(now, ticket, connection, &command) => Answer::Later(ticket),
            command => self.carry_out(now, ticket, connection, command),
        }
    }

    /// Carries a command out that is for a session.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        ticket: Ticket,
        connection: ConnectionId,
        command: Command,
    ) -> Answer {
        let at = self.patience.counted(now.mono);
        let asked = match command {
            Command::Change(key, change) => self.enter(now, ticket, key, Wish::Change(change)),
            Command::Shutdown(key) => self.enter(now, ticket, key, Wish::Shutdown),
            Command::Validate(key) => match self.validate(key) {
                Ok(()) => return Answer::Now(Reply::Ok),
                Err(problem) => Err(problem),
            },
            Command::Reconnect(key) => return Answer::Now(self.reconnect(at, connection, key)),
            Command::Register(_) => Err(Problem::Unavailable),
        };
        self.answer(ticket, asked)
    }

    /// What a command comes to that has, or has not, entered the queue.
    fn answer(&mut self, ticket: Ticket, asked: Result<(), Problem>) -> Answer {
        match asked {
            Err(problem) => Answer::Now(problem.into()),
            Ok(()) => match self.answers.remove(&ticket) {
                Some(reply) => Answer::Now(reply),
                None => Answer::Later(ticket),
            },
        }
    }

    fn register(
        &mut self,
        now: Now,
        ticket: Ticket,
        connection: ConnectionId,
        registration: Registration,
        random: [u8; RANDOM_BYTES],
    ) -> Result<(), Problem> {
        let open = self
            .connections
            .get(&connection)
            .ok_or(Problem::Unavailable)?;
        if !open.sessions.is_empty() && !open.may_register {
            return Err(Problem::AlreadyRegistered);
        }
        let instance = &registration.instance;
        let id = SessionId::new(instance, now.wall, random);
        let key = id.key();
        let is_new = !self.entries.contains_key(&key);
        if self.entries.len() >= self.setup.sessions || !is_new {
            return Err(Problem::Unavailable);
        }
        let before = self.table.of(instance).iter().copied();
        let supersedes = before
            .clone()
            .filter(|key| self.live(*key).is_some_and(|record| !record.is_static))
            .collect();
        // Later than what it supersedes, whatever the clocks say.
        let registered = before
            .filter_map(|key| self.entries.get(&key)?.record.as_ref())
            .map(|record| later(record.registered))
            .fold(now.wall, Timestamp::max);
        let identity = Arc::clone(&self.setup.identity);
        let record = SessionRecord {
            key,
            front: front(instance, now.wall).into(),
            registered,
            supersedes,
            routes: Routes::default(),
            headers: Vec::new(),
            options: Options::default(),
            maintenance: false,
            written_by: Arc::clone(&identity),
            lease: Lease::held(identity, now.wall, self.setup.grace),
            is_static: false,
            registration,
        };
        self.entries.insert(key, Entry::default());
        let wish = Wish::Register(id, connection, Arc::new(record));
        self.enqueue(now, ticket, key, wish);
        Ok(())
    }

    /// Answers from memory: that the session is kept here is written later.
    fn reconnect(&mut self, at: Instant, connection: ConnectionId, key: SessionKey) -> Reply {
        let Some(open) = self.connections.get_mut(&connection) else {
            return Problem::Unavailable.into();
        };
        open.may_register = false;
        if self.live(key).is_some_and(|record| !record.is_static) {
            self.bind(at, key, connection);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.hold_due = self.setup.shared;
                if let Some(record) = &entry.record {
                    let instance = record.registration.instance.clone();
                    let event = Event::Resumed(instance, Arc::clone(&record.front));
                    self.events.push(event);
                }
            }
            Reply::Ok
        } else {
            if let Some(open) = self.connections.get_mut(&connection) {
                open.may_register = true;
            }
            Reply::Reregister
        }
    }

    fn validate(&self, key: SessionKey) -> Result<(), Problem> {
        let record = self.live(key).ok_or(Problem::InvalidSession)?;
        if record.routes.is_empty() {
            return Err(Problem::InvalidRoute("the session has none".into()));
        }
        record.options.check()?;
        match self.conflict(record) {
            Some(conflict) => Err(conflict),
            None => Ok(()),
        }
    }
}
