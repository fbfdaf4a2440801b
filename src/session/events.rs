//! What is told of sessions in the log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::session::header::Header;
use crate::session::registration::{Instance, ServiceName};
use crate::session::route::Route;

/// At most so many events wait to be logged; more are only counted.
const MAX_WAITING: usize = 1_000;

/// Something that is logged. The texts of the first three are looked for in the
/// field, so they are part of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session was opened; the second is what of its id may be shown.
    Registered(Instance, Arc<str>),
    /// A service serves a route.
    RouteAdded(ServiceName, Route),
    /// A service adds a header.
    HeaderAdded(ServiceName, Header),
    /// The same instance opened another session.
    Superseded(Instance, Arc<str>),
    /// A session was without a connection for too long.
    Expired(Instance, Arc<str>),
    /// The connection of a session has ended; it stays for so long.
    Lost(Instance, Arc<str>, Duration),
    /// A session was taken up again, by `RECONNECT`.
    Resumed(Instance, Arc<str>),
    /// A session was ended, by `SHUTDOWN`.
    Ended(Instance, Arc<str>),
    /// A session is in maintenance from now on (true), or not any more.
    Maintenance(Instance, Arc<str>, bool),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[registry] ")?;
        match self {
            Self::Registered(instance, front) => {
                write!(f, "Service registered: {instance} (session: {front})")
            }
            Self::RouteAdded(service, route) => {
                write!(f, "Route added: {service} at [")?;
                for (position, domain) in route.domains.iter().enumerate() {
                    let space = if position == 0 { "" } else { " " };
                    write!(f, "{space}{domain}")?;
                }
                write!(f, "]{} -> {}", route.path, route.backend)
            }
            Self::HeaderAdded(service, Header { name, value }) => {
                write!(f, "Header added: {name} = {value} for {service}")
            }
            Self::Superseded(instance, front) => {
                write!(f, "Session superseded: {instance} (session: {front})")
            }
            Self::Expired(instance, front) => {
                write!(f, "Session expired: {instance} (session: {front})")
            }
            Self::Lost(instance, front, grace) => {
                write!(
                    f,
                    "Connection lost: {instance} (session: {front}), kept for {grace:?}"
                )
            }
            Self::Resumed(instance, front) => {
                write!(f, "Session reconnected: {instance} (session: {front})")
            }
            Self::Ended(instance, front) => {
                write!(f, "Session ended: {instance} (session: {front})")
            }
            Self::Maintenance(instance, front, is_on) => {
                let what = if *is_on { "entered" } else { "left" };
                write!(f, "Maintenance {what}: {instance} (session: {front})")
            }
        }
    }
}

/// Events that wait to be logged.
#[derive(Debug, Default)]
pub struct Events {
    waiting: Vec<Event>,
    /// How many were too many to be logged.
    pub unlogged: u64,
}

impl Events {
    /// Notes an event for the log.
    pub fn push(&mut self, event: Event) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(event);
        } else {
            self.unlogged += 1;
        }
    }

    /// Takes what waits.
    #[must_use]
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::registration::Registration;

    #[test]
    fn decision_17_the_lines_that_the_field_greps_for() {
        let registration = Registration::parse("api-service", "api-v2", "9000", "0").unwrap();
        let instance = registration.instance;
        let service = instance.service.clone();
        let front: Arc<str> = "api-v2-9000-1700000000".into();
        let route = |domains| Route::parse(domains, "/v2", "http://api-v2:9000").unwrap();
        let header = Header::parse("X-API-Version", "2.0").unwrap();
        for (event, line) in [
            (
                Event::Registered(instance, front),
                "[registry] Service registered: api-service at api-v2:9000 (session: api-v2-9000-1700000000)",
            ),
            (
                Event::RouteAdded(service.clone(), route("api.example.com")),
                "[registry] Route added: api-service at [api.example.com]/v2 -> http://api-v2:9000",
            ),
            (
                Event::RouteAdded(service.clone(), route("a.com,b.com")),
                "[registry] Route added: api-service at [a.com b.com]/v2 -> http://api-v2:9000",
            ),
            (
                Event::HeaderAdded(service, header),
                "[registry] Header added: X-API-Version = 2.0 for api-service",
            ),
        ] {
            assert_eq!(event.to_string(), line);
        }
    }

    #[test]
    fn what_becomes_of_a_session_is_told() {
        let registration = Registration::parse("api", "h", "9000", "0").unwrap();
        let instance = || registration.instance.clone();
        let front = || Arc::<str>::from("h-9000-1");
        let grace = Duration::from_secs(60);
        for (event, line) in [
            (
                Event::Superseded(instance(), front()),
                "Session superseded: api at h:9000 (session: h-9000-1)",
            ),
            (
                Event::Expired(instance(), front()),
                "Session expired: api at h:9000 (session: h-9000-1)",
            ),
            (
                Event::Lost(instance(), front(), grace),
                "Connection lost: api at h:9000 (session: h-9000-1), kept for 60s",
            ),
            (
                Event::Resumed(instance(), front()),
                "Session reconnected: api at h:9000 (session: h-9000-1)",
            ),
            (
                Event::Ended(instance(), front()),
                "Session ended: api at h:9000 (session: h-9000-1)",
            ),
            (
                Event::Maintenance(instance(), front(), true),
                "Maintenance entered: api at h:9000 (session: h-9000-1)",
            ),
            (
                Event::Maintenance(instance(), front(), false),
                "Maintenance left: api at h:9000 (session: h-9000-1)",
            ),
        ] {
            assert_eq!(event.to_string(), format!("[registry] {line}"));
        }
    }

    #[test]
    fn a_flood_of_events_is_counted() {
        let mut events = Events::default();
        let service = ServiceName::parse("a").unwrap();
        let header = Header::parse("a", "b").unwrap();
        for _ in 0..MAX_WAITING + 5 {
            events.push(Event::HeaderAdded(service.clone(), header.clone()));
        }
        assert_eq!(events.unlogged, 5);
        assert_eq!(events.take().len(), MAX_WAITING);
        assert!(events.take().is_empty());
    }
}
