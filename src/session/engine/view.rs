//! What is served, and how the sessions are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::map::Set;
use crate::session::engine::Engine;
use crate::session::id::SessionKey;
use crate::session::place::Place;
use crate::session::problem::Problem;
use crate::session::record::SessionRecord;
use crate::session::registration::ServiceName;
pub use crate::session::served::Offer;
use crate::session::served::{self, age};
use crate::time::Now;

/// What keeps a session alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// A connection to this replica.
    Connected,
    /// Another replica, by its word.
    Elsewhere,
    /// Nothing: it has its grace.
    Silent,
    /// Nothing, and its instance has another session.
    Superseded,
    /// It is kept by hand.
    Static,
}

impl State {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::Connected,
        Self::Elsewhere,
        Self::Silent,
        Self::Superseded,
        Self::Static,
    ];

    /// The word for it, as people and metrics are told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Elsewhere => "elsewhere",
            Self::Silent => "silent",
            Self::Superseded => "superseded",
            Self::Static => "static",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == text)
            .ok_or("must be connected, elsewhere, silent, superseded or static")
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A session as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it is.
    pub record: Arc<SessionRecord>,
    /// How it lives.
    pub state: State,
}

/// A session as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub record: Arc<SessionRecord>,
    /// How it lives.
    pub state: State,
    /// How long nothing has kept it alive; none while something does. Time in
    /// which this process did not run is not counted.
    pub silent: Option<Duration>,
}

impl Engine {
    /// All sessions, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = Session> + '_ {
        self.entries.values().filter_map(|entry| {
            let record = entry.record.clone()?;
            let state = if record.is_static {
                State::Static
            } else if entry.superseded {
                State::Superseded
            } else if entry.connection.is_some() {
                State::Connected
            } else if entry.silent.is_some()
                || record.lease.holder.as_ref() == Some(&self.setup.identity)
            {
                State::Silent
            } else {
                State::Elsewhere
            };
            Some(Session { record, state })
        })
    }

    /// All sessions, in no order, with how long they have been silent.
    #[must_use]
    pub fn list(&mut self, now: Now) -> Vec<Listed> {
        let at = self.patience.counted(now.mono);
        let listed = |Session { record, state }| {
            let entry = self.entries.get(&record.key);
            let silent = entry.and_then(|entry| entry.silent);
            Listed {
                silent: silent.map(|since| at.saturating_duration_since(since)),
                record,
                state,
            }
        };
        self.sessions().map(listed).collect()
    }

    /// Who serves which place, the oldest session first. A session that was
    /// superseded serves what its successor does not; of several services that
    /// took a place at once, at different replicas, the oldest has it.
    #[must_use]
    pub fn served(&self) -> BTreeMap<Place, Vec<Offer>> {
        let entries = self.entries.values();
        served::served(entries.filter_map(|entry| {
            let record = entry.record.as_ref()?;
            Some((record, entry.superseded))
        }))
    }

    /// Another service that has a place of this session.
    pub(super) fn conflict(&self, record: &SessionRecord) -> Option<Problem> {
        let service = &record.registration.instance.service;
        record.routes.0.keys().find_map(|place| {
            let winner = self
                .table
                .at(place)
                .iter()
                .filter_map(|key| self.entries.get(key)?.record.as_ref())
                .filter(|other| other.routes.0.contains_key(place))
                .min_by_key(|other| age(other))?;
            let other = &winner.registration.instance.service;
            (other != service)
                .then(|| Problem::RouteConflict(format!("{place} is served by {other}")))
        })
    }

    /// Takes the places of all that may become of a session.
    pub(super) fn claim(&mut self, key: SessionKey) {
        let Some(entry) = self.entries.get(&key) else {
            self.table.remove(key);
            return;
        };
        let next = entry.next.iter().flatten();
        let doubts = entry.doubts.iter().flatten();
        let records: Vec<_> = entry.record.iter().chain(next).chain(doubts).collect();
        let Some(first) = records.first() else {
            self.table.remove(key);
            return;
        };
        let places = records.iter().flat_map(|record| record.routes.0.keys());
        let places = places.cloned().collect();
        self.table.set(key, &first.registration.instance, places);
    }

    /// Changes whenever what [`Engine::sessions`] and [`Engine::served`] tell may
    /// have changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The service of a session that is known.
    #[must_use]
    pub fn service(&self, key: SessionKey) -> Option<&ServiceName> {
        let record = self.entries.get(&key)?.record.as_ref()?;
        Some(&record.registration.instance.service)
    }

    /// Which other replicas keep sessions, by their word.
    #[must_use]
    pub fn holders(&self) -> Set<Arc<str>> {
        let records = self.entries.values().filter_map(|e| e.record.as_ref());
        let holders = records.filter_map(|record| record.lease.holder.as_ref());
        holders
            .filter(|holder| **holder != self.setup.identity)
            .cloned()
            .collect()
    }

    /// How many commands the store did not take in time.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How many events were too many to be logged.
    #[must_use]
    pub fn unlogged(&self) -> u64 {
        self.events.unlogged
    }

    /// How many writes wait or are under way.
    #[must_use]
    pub fn waiting_writes(&self) -> usize {
        self.queue.len()
    }

    /// When the next write is due if nothing else happens.
    #[must_use]
    pub fn next_write_due(&self) -> Option<std::time::Instant> {
        self.queue.next_due()
    }
}
