//! What a proxy asks for: its configuration, and answers for who is away.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::metrics::labels;

labels! {
    /// What the responder of maintenance answered 503 with.
    Shown {
        /// The page of a maintenance port.
        Page = "page",
        /// Our own: the place has no page, or it could not be had.
        Plain = "plain",
        /// Our own: nobody serves what was asked for.
        Unknown = "unknown_place",
    }
}

labels! {
    /// The status of an answer at `/traefik`.
    Polled {
        /// The configuration.
        Sent = "200",
        /// It is as the proxy has it.
        Same = "304",
        /// It could not be made.
        Failed = "500",
        /// The store was not read yet.
        NotReady = "503",
    }
}

/// The answers to a proxy, counted.
#[derive(Debug)]
pub struct ProxyMetrics {
    shown: [Counter; Shown::ALL.len()],
    polled: [Counter; Polled::ALL.len()],
}

impl ProxyMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let shown = Family::<[(&str, &str); 1], Counter>::default();
        let polled = Family::<[(&str, &str); 1], Counter>::default();
        registry.register(
            "tunnel_registry_maintenance_answers",
            "Requests that were answered 503 for sessions in maintenance, by what was shown",
            shown.clone(),
        );
        registry.register(
            "tunnel_registry_traefik_answers",
            "Answers at /traefik, by their status",
            polled.clone(),
        );
        Self {
            shown: Shown::ALL.map(|kind| shown.get_or_create_owned(&[("kind", kind.as_str())])),
            polled: Polled::ALL
                .map(|status| polled.get_or_create_owned(&[("status", status.as_str())])),
        }
    }

    /// The responder of maintenance has answered.
    pub fn shown(&self, kind: Shown) {
        self.shown[kind as usize].inc();
    }

    /// `/traefik` was answered.
    pub fn polled(&self, status: Polled) {
        self.polled[status as usize].inc();
    }
}
