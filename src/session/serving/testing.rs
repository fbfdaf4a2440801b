//! Sessions that are served without an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::lease::Lease;
use crate::session::command::Command;
use crate::session::engine::view::Offer;
use crate::session::id::{SessionId, SessionKey};
use crate::session::options::Options;
use crate::session::place::Place;
use crate::session::record::{Routes, SessionRecord};
use crate::session::registration::Registration;
use crate::session::serving::Serving;

/// A session of `service` that was the `age`-th to be opened, after some
/// commands. Its host is `127.0.0.1`, its port 9000 and its maintenance port
/// what `maintenance` says.
pub fn session_with_page(
    service: &str,
    age: u8,
    maintenance: u16,
    lines: &[&str],
) -> Arc<SessionRecord> {
    let maintenance = maintenance.to_string();
    let registration = Registration::parse(service, "127.0.0.1", "9000", &maintenance).unwrap();
    let at = Timestamp::from_second(i64::from(age)).unwrap();
    let id = SessionId::new(&registration.instance, at, [age; 16]);
    let mut record = SessionRecord {
        key: SessionKey::of(id.secret()),
        front: id.to_string().into(),
        registration,
        registered: at,
        supersedes: Vec::new(),
        routes: Routes::default(),
        headers: Vec::new(),
        options: Options::default(),
        maintenance: false,
        lease: Lease::held("me".into(), at, Duration::from_secs(60)),
        written_by: "me".into(),
        is_static: false,
    };
    for line in lines {
        match Command::parse(line).unwrap() {
            Command::Change(_, change) => record = record.with(&change).unwrap(),
            command => panic!("{command:?}"),
        }
    }
    Arc::new(record)
}

/// The same, without a page for maintenance.
pub fn session(service: &str, age: u8, lines: &[&str]) -> Arc<SessionRecord> {
    session_with_page(service, age, 0, lines)
}

/// What sessions serve, of which the oldest is the first.
pub fn served(sessions: &[Arc<SessionRecord>]) -> BTreeMap<Place, Vec<Offer>> {
    let mut served: BTreeMap<Place, Vec<Offer>> = BTreeMap::new();
    for session in sessions {
        for (place, backend) in &session.routes.0 {
            served.entry(place.clone()).or_default().push(Offer {
                session: Arc::clone(session),
                backend: backend.clone(),
            });
        }
    }
    served
}

/// What a test says.
#[derive(Debug, Default)]
pub struct Fixed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sessions: Option<Vec<Arc<SessionRecord>>>,
    version: u64,
    asked: usize,
}

impl Fixed {
    /// The store was read, or something has changed.
    pub fn set(&self, sessions: Vec<Arc<SessionRecord>>) {
        let mut state = self.0.lock();
        state.sessions = Some(sessions);
        state.version += 1;
    }

    /// How often it was asked what is served.
    pub fn asked(&self) -> usize {
        self.0.lock().asked
    }
}

impl Serving for Fixed {
    fn served(&self) -> Option<BTreeMap<Place, Vec<Offer>>> {
        let mut state = self.0.lock();
        state.asked += 1;
        state.sessions.as_ref().map(|sessions| served(sessions))
    }

    fn version(&self) -> u64 {
        self.0.lock().version
    }
}
