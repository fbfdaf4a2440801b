//! What DNS comes to: questions, and the connections that carry some of them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::discoverd::dns::Transport;
use crate::metrics::connections::Connections;
use crate::metrics::labels;

labels! {
    /// How a question was answered.
    Outcome {
        /// With records.
        Answered = "answered",
        /// There is such a name, and nothing of what was asked for.
        NoData = "no_data",
        /// There is no such name.
        NoName = "no_name",
        /// It is not about our domain.
        Refused = "refused",
        /// It is none that could be answered.
        Malformed = "malformed",
        /// It asks for what this server does not do.
        NotImplemented = "not_implemented",
        /// The store was not read yet.
        Failed = "failed",
        /// Nothing was said: it is no question, or has nowhere to go.
        Ignored = "ignored",
        /// The network did not take the answer.
        Unsent = "unsent",
    }
}

labels! {
    /// How a connection that carries questions ended.
    DnsClosed {
        /// The peer closed it.
        Peer = "peer",
        /// No question, or an unfinished one, for too long.
        Idle = "idle",
        /// It was there for as long as it may be.
        Old = "old",
        /// The peer did not take an answer in time.
        WriteTimeout = "write_timeout",
        /// A question was too long, or none.
        Malformed = "malformed",
        /// The registry is shutting down.
        Shutdown = "shutdown",
        /// The connection broke.
        Fault = "fault",
    }
}

const TRANSPORTS: [(Transport, &str); 2] = [(Transport::Udp, "udp"), (Transport::Tcp, "tcp")];

/// Questions and connections, counted.
#[derive(Debug)]
pub struct DnsMetrics {
    queries: [[Counter; Outcome::ALL.len()]; TRANSPORTS.len()],
    /// The connections that carry questions.
    pub connections: Connections<DnsClosed>,
}

impl DnsMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let queries = Family::<[(&str, &str); 2], Counter>::default();
        registry.register(
            "tunnel_registry_dns_queries",
            "Questions over DNS, by how they were answered",
            queries.clone(),
        );
        let connections = Connections::new(
            registry,
            [
                "tunnel_registry_dns_connections",
                "tunnel_registry_dns_connections_accepted",
                "tunnel_registry_dns_connections_refused",
                "tunnel_registry_dns_connections_closed",
            ],
            "DNS: ",
        );
        Self {
            queries: TRANSPORTS.map(|(_, transport)| {
                Outcome::ALL.map(|outcome| {
                    queries.get_or_create_owned(&[
                        ("transport", transport),
                        ("outcome", outcome.as_str()),
                    ])
                })
            }),
            connections,
        }
    }

    /// A packet was answered, or not.
    pub fn asked(&self, transport: Transport, outcome: Outcome) {
        self.queries[transport as usize][outcome as usize].inc();
    }
}
