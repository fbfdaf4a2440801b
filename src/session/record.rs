//! What a store holds of a session.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lease::Lease;
use crate::session::command::Change;
use crate::session::header::Header;
use crate::session::id::SessionKey;
use crate::session::options::Options;
use crate::session::place::Place;
use crate::session::problem::Problem;
use crate::session::registration::Registration;
use crate::session::route::BackendUrl;

/// The most places (a domain and a path each) of one session.
pub const MAX_ROUTES: usize = 64;
/// The most headers of one session: as many as a filter of the Gateway API sets.
pub const MAX_HEADERS: usize = 16;
/// The most text in the routes and headers of one session, in bytes: 10,000
/// sessions of the usual size take a hundredth of what this would allow.
pub const MAX_BYTES: usize = 65_536;

/// A session: who opened it, what it routes, and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The hash of its id.
    pub key: SessionKey,
    /// What of its id may be shown: `hostname-port-unixtime`.
    pub front: Arc<str>,
    /// Who opened it.
    #[serde(flatten)]
    pub registration: Registration,
    /// When, by the wall clock of the replica that took it.
    pub registered: Timestamp,
    /// The sessions that the same instance had before: they have no connection
    /// any more, whatever they say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<SessionKey>,
    /// What it serves; at most [`MAX_ROUTES`].
    #[serde(default, skip_serializing_if = "Routes::is_empty")]
    pub routes: Routes,
    /// What is added to its responses, each name once, in the order in which
    /// they came; at most [`MAX_HEADERS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// What it asks for.
    #[serde(default)]
    pub options: Options,
    /// Whether its routes answer 503, with the page of its maintenance port.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintenance: bool,
    /// Who keeps its connection; released once that was lost for a while.
    pub lease: Lease,
    /// The replica that wrote this, whoever keeps the session: it knows its own
    /// writes by that. Empty for others than replicas.
    #[serde(default)]
    pub written_by: Arc<str>,
    /// Whether it is kept by hand, without a connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_static: bool,
}

/// Which backend serves which place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(pub BTreeMap<Place, BackendUrl>);

impl Routes {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A route as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredRoute {
    #[serde(flatten)]
    place: Place,
    backend: BackendUrl,
}

impl Serialize for Routes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(place, backend)| StoredRoute {
            place: place.clone(),
            backend: backend.clone(),
        }))
    }
}

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let routes = Vec::<StoredRoute>::deserialize(deserializer)?;
        let routes = routes.into_iter().map(|route| (route.place, route.backend));
        Ok(Self(routes.collect()))
    }
}

impl SessionRecord {
    /// The session with a change made.
    ///
    /// # Errors
    /// When it would have more than a session may have.
    pub fn with(&self, change: &Change) -> Result<Self, Problem> {
        let mut new = self.clone();
        match change {
            Change::Route(route) => {
                for place in route.places() {
                    new.routes.0.insert(place, route.backend.clone());
                }
                let invalid = |text: String| Err(Problem::InvalidRoute(text.into()));
                if new.routes.0.len() > MAX_ROUTES {
                    return invalid(format!(
                        "a session may have at most {MAX_ROUTES} domains and paths"
                    ));
                }
                if new.bytes() > MAX_BYTES {
                    return invalid(too_much());
                }
            }
            Change::Header(header) => {
                let same = |known: &&mut Header| known.name.is(&header.name);
                match new.headers.iter_mut().find(same) {
                    Some(known) => *known = header.clone(),
                    None => new.headers.push(header.clone()),
                }
                let invalid = |text: String| Err(Problem::InvalidHeader(text.into()));
                if new.headers.len() > MAX_HEADERS {
                    return invalid(format!("a session may have at most {MAX_HEADERS} headers"));
                }
                if new.bytes() > MAX_BYTES {
                    return invalid(too_much());
                }
            }
            Change::Option(setting) => new.options.set(setting),
            Change::Maintenance(on) => new.maintenance = *on,
        }
        Ok(new)
    }

    /// How much text its routes and headers are.
    fn bytes(&self) -> usize {
        let route = |(place, backend): (&Place, &BackendUrl)| {
            place.domain.as_str().len() + place.path.as_str().len() + backend.as_str().len()
        };
        let header = |header: &Header| header.name.as_str().len() + header.value.as_str().len();
        let routes: usize = self.routes.0.iter().map(route).sum();
        let headers: usize = self.headers.iter().map(header).sum();
        routes + headers
    }

    /// Whether both are the same session, whoever keeps it and wrote it.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let (lease, written_by) = (self.lease.clone(), Arc::clone(&self.written_by));
        *self
            == Self {
                lease,
                written_by,
                ..other.clone()
            }
    }

    /// Whether both are the same, but for when they were written.
    #[must_use]
    pub fn is_same_write(&self, other: &Self) -> bool {
        let mut lease = other.lease.clone();
        lease.renew_time = self.lease.renew_time;
        self.lease == lease && self.written_by == other.written_by && self.is_like(other)
    }
}

fn too_much() -> String {
    format!("the routes and headers of a session may have at most {MAX_BYTES} bytes")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::Command;
    use crate::session::id::SessionId;

    fn record() -> SessionRecord {
        let registration = Registration::parse("api", "h", "9000", "9001").unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let id = SessionId::new(&registration.instance, at, [7; 16]);
        SessionRecord {
            key: id.key(),
            front: id.to_string().into(),
            registration,
            registered: at,
            supersedes: vec![SessionKey::of("before")],
            routes: Routes::default(),
            headers: Vec::new(),
            options: Options::default(),
            maintenance: false,
            lease: Lease::held("me".into(), at, Duration::from_secs(60)),
            written_by: "me".into(),
            is_static: false,
        }
    }

    fn with(record: &SessionRecord, line: &str) -> Result<SessionRecord, Problem> {
        match Command::parse(line).unwrap() {
            Command::Change(_, change) => record.with(&change),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn a_session_is_read_as_it_was_stored() {
        let mut record = record();
        for line in [
            "ROUTE|s|a.com,*.b.com|/v2|http://h:9000",
            "ROUTE|s|a.com|/|wss://[::1]/x",
            "HEADER|s|X-A|1",
            "OPTIONS|s|timeout|60s",
            "MAINT_ENTER|s",
        ] {
            record = with(&record, line).unwrap();
        }
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<SessionRecord>(&json).unwrap(),
            record
        );
        assert!(
            !json.contains(&"07".repeat(16)),
            "the id is not in it: {json}"
        );
        let bad = json.replace("a.com", "a com");
        assert!(serde_json::from_str::<SessionRecord>(&bad).is_err());
    }

    #[test]
    fn the_same_again_replaces() {
        let once = with(&record(), "ROUTE|s|a.com,b.com|/|http://h:1").unwrap();
        let twice = with(&once, "ROUTE|s|a.com|/|http://h:2").unwrap();
        let backends: Vec<&str> = twice.routes.0.values().map(BackendUrl::as_str).collect();
        assert_eq!(backends, ["http://h:2", "http://h:1"]);
        let once = with(&twice, "HEADER|s|X-A|1").unwrap();
        let twice = with(&once, "HEADER|s|x-a|2").unwrap();
        assert_eq!(twice.headers.len(), 1);
        assert_eq!(twice.headers[0].value.as_str(), "2");
    }

    #[test]
    fn a_session_has_bounds() {
        let mut full = record();
        for number in 0..MAX_ROUTES {
            full = with(&full, &format!("ROUTE|s|a.com|/{number}|http://h")).unwrap();
        }
        assert!(with(&full, "ROUTE|s|a.com|/0|http://h:2").is_ok());
        let more = with(&full, "ROUTE|s|a.com|/x|http://h");
        assert!(matches!(more, Err(Problem::InvalidRoute(_))));

        let mut full = record();
        for number in 0..MAX_HEADERS {
            full = with(&full, &format!("HEADER|s|x-{number}|1")).unwrap();
        }
        assert!(with(&full, "HEADER|s|x-0|2").is_ok());
        let more = with(&full, "HEADER|s|x-x|1");
        assert!(matches!(more, Err(Problem::InvalidHeader(_))));

        let mut full = record();
        let value = "x".repeat(4_094);
        for name in b'a'..b'p' {
            full = with(&full, &format!("HEADER|s|{}|{value}", char::from(name))).unwrap();
        }
        let rest = MAX_BYTES - full.bytes();
        let path = "x".repeat(1_000);
        for number in 0..4 {
            full = with(&full, &format!("ROUTE|s|a.com|/{number}{path}|http://h")).unwrap();
        }
        assert!(full.bytes() <= MAX_BYTES && rest < 5_000);
        let more = with(&full, &format!("HEADER|s|z|{value}"));
        assert!(matches!(more, Err(Problem::InvalidHeader(_))));
        let more = with(&full, &format!("ROUTE|s|a.com|/5{path}|http://h"));
        assert!(matches!(more, Err(Problem::InvalidRoute(_))));
    }

    #[test]
    fn writes_are_told_apart_by_more_than_their_time() {
        let one = record();
        let mut later = one.clone();
        later.lease.renew_time = Timestamp::MAX;
        assert!(one.is_same_write(&later) && one.is_like(&later));
        let mut another = one.clone();
        another.lease.holder = Some("other".into());
        assert!(!one.is_same_write(&another) && one.is_like(&another));
        another = one.clone();
        another.written_by = "other".into();
        assert!(!one.is_same_write(&another) && one.is_like(&another));
        another.maintenance = true;
        assert!(!one.is_like(&another));
    }
}
