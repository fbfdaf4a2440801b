//! Connections of a listener, counted.

use std::marker::PhantomData;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::{Crowded, Label};

/// The connections of one listener; `C` is how they may end.
#[derive(Debug)]
pub struct Connections<C> {
    open: Gauge,
    accepted: Counter,
    refused: [Counter; Crowded::ALL.len()],
    closed: Box<[Counter]>,
    causes: PhantomData<C>,
}

impl<C: Label> Connections<C> {
    /// Metrics at zero, called by these names: of those that are open, accepted,
    /// refused and closed. `whose` is put before the help texts.
    pub(super) fn new(registry: &mut Registry, names: [&str; 4], whose: &str) -> Self {
        let [open_name, accepted_name, refused_name, closed_name] = names;
        let open = Gauge::default();
        let accepted = Counter::default();
        let refused = Family::<[(&str, &str); 1], Counter>::default();
        let closed = Family::<[(&str, &str); 1], Counter>::default();
        registry.register(open_name, format!("{whose}Open connections"), open.clone());
        registry.register(
            accepted_name,
            format!("{whose}Connections that were let in"),
            accepted.clone(),
        );
        registry.register(
            refused_name,
            format!("{whose}Connections that were closed at once, by the limit that was reached"),
            refused.clone(),
        );
        registry.register(
            closed_name,
            format!("{whose}Connections that have ended, by the cause"),
            closed.clone(),
        );
        let closed = |cause: &C| closed.get_or_create_owned(&[("cause", cause.text())]);
        Self {
            open,
            accepted,
            refused: Crowded::ALL
                .map(|why| refused.get_or_create_owned(&[("limit", why.as_str())])),
            closed: C::EVERY.iter().map(closed).collect(),
            causes: PhantomData,
        }
    }

    /// One was let in.
    pub fn opened(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    /// One that was let in has ended.
    pub fn closed(&self, why: C) {
        self.open.dec();
        if let Some(closed) = self.closed.get(why.position()) {
            closed.inc();
        }
    }

    /// One was not let in.
    pub fn refused(&self, why: Crowded) {
        self.refused[why as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::{Closed, Crowded, Metrics, SessionClosed};

    #[test]
    fn connections_are_counted_by_how_they_begin_and_end() {
        let metrics = Metrics::new();
        metrics.connections.opened();
        metrics.connections.opened();
        metrics.connections.closed(Closed::Idle);
        metrics.connections.refused(Crowded::Peer);
        metrics.sessions.connections.opened();
        metrics.sessions.connections.closed(SessionClosed::Goodbye);
        let text = metrics.encode().unwrap();
        for line in [
            "tunnel_registry_connections 1",
            "tunnel_registry_connections_accepted_total 2",
            r#"tunnel_registry_connections_closed_total{cause="idle"} 1"#,
            r#"tunnel_registry_connections_refused_total{limit="peer"} 1"#,
            "tunnel_registry_session_connections 0",
            "tunnel_registry_session_connections_accepted_total 1",
            r#"tunnel_registry_session_connections_closed_total{cause="goodbye"} 1"#,
            r#"tunnel_registry_session_connections_closed_total{cause="idle"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
