//! What Prometheus is told. Labels come from closed sets only.
//!
//! Handles are looked up once, here, and indexed by enum from then on: a call
//! costs an addition and a short lock.

pub mod connections;
pub mod controller;
pub mod dns;
pub mod gateway;
mod process;
pub mod proxy;
pub mod registry;
pub mod services;
pub mod sessions;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use connections::Connections;
use dns::DnsMetrics;
use proxy::ProxyMetrics;
use services::ServiceMetrics;
use sessions::SessionMetrics;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Latency buckets, in seconds: from what memory takes to the longest that a
/// request may take.
const BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// A label's value, of a closed set.
pub trait Label: Copy + 'static {
    /// All of the set.
    const EVERY: &'static [Self];

    /// Where it stands among [`Label::EVERY`].
    fn position(self) -> usize;

    /// What is printed.
    fn text(self) -> &'static str;
}

/// A closed set of label values.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// The label's value.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl $crate::metrics::Label for $name {
            const EVERY: &'static [Self] = &Self::ALL;

            fn position(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    };
}
pub(crate) use labels;

labels! {
    /// A call of a way in.
    Method {
        /// A connector was announced.
        Register = "register",
        /// A connector lives.
        Renew = "renew",
        /// A connector was withdrawn.
        Deregister = "deregister",
        /// Who holds a tunnel?
        Get = "get",
        /// Anything else that was refused before it was understood.
        Other = "other",
    }
}

labels! {
    /// The protocol of a call.
    Protocol {
        /// gost's HTTP plugin.
        Http = "http",
        /// gost's gRPC plugin.
        Grpc = "grpc",
    }
}

labels! {
    /// How a call ended.
    Outcome {
        /// Done, and stored where something was to be stored.
        Ok = "ok",
        /// Accepted; the store takes it later.
        Pending = "pending",
        /// The request was malformed.
        Invalid = "invalid",
        /// No valid token.
        Unauthenticated = "unauthenticated",
        /// A limit is reached.
        Exhausted = "exhausted",
        /// The registry is not ready to answer.
        Unavailable = "unavailable",
        /// The request did not arrive in time.
        TimedOut = "timed_out",
    }
}

labels! {
    /// Why a connection was not let in.
    Crowded {
        /// There are as many connections as there may be.
        Total = "total",
        /// The peer has as many as it may have.
        Peer = "peer",
    }
}

labels! {
    /// How a connection ended.
    Closed {
        /// The peer closed it, or asked to.
        Peer = "peer",
        /// No call for too long.
        Idle = "idle",
        /// No first request in time.
        NoRequest = "no_request",
        /// No TLS handshake, or not in time.
        Tls = "tls",
        /// The registry is shutting down.
        Shutdown = "shutdown",
        /// The peer broke the protocol, or did not answer a ping.
        Fault = "fault",
    }
}

labels! {
    /// How a connection of the session listener ended.
    SessionClosed {
        /// The peer closed it, or sends no more.
        Peer = "peer",
        /// A session was ended over it, as asked.
        Goodbye = "goodbye",
        /// No session and no command for too long.
        Idle = "idle",
        /// A line was not ended in time.
        ReadTimeout = "read_timeout",
        /// The peer did not take an answer in time.
        WriteTimeout = "write_timeout",
        /// No TLS handshake, or not in time.
        Tls = "tls",
        /// The registry is shutting down.
        Shutdown = "shutdown",
        /// The connection broke, or the peer's host has vanished.
        Fault = "fault",
    }
}

labels! {
    /// What is read again when its files change.
    Reload {
        /// Certificate, key and client CA.
        Tls = "tls",
        /// The tokens.
        Tokens = "tokens",
        /// Certificate, key and client CA of the session listener.
        SessionTls = "session_tls",
        /// Who may register what.
        SessionPolicy = "session_policy",
    }
}

/// The one place that counts.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: [[[Counter; Outcome::ALL.len()]; Protocol::ALL.len()]; Method::ALL.len()],
    latency: [[Histogram; Protocol::ALL.len()]; Method::ALL.len()],
    /// The connections that carry calls.
    pub connections: Connections<Closed>,
    /// The session listener.
    pub sessions: SessionMetrics,
    /// Requests about services.
    pub services: ServiceMetrics,
    /// Services by DNS.
    pub dns: DnsMetrics,
    /// What a proxy asks for.
    pub proxy: ProxyMetrics,
    reload_failures: [Counter; Reload::ALL.len()],
    expiry: Family<[(&'static str, &'static str); 0], Gauge>,
    session_expiry: Family<[(&'static str, &'static str); 0], Gauge>,
}

impl Metrics {
    /// All of this program's own metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<[(&str, &str); 3], Counter>::default();
        let latency = Family::<[(&str, &str); 2], Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS)
        });
        let reload_failures = Family::<[(&str, &str); 1], Counter>::default();
        let (expiry, session_expiry) = (Family::default(), Family::default());

        registry.register(
            "tunnel_registry_requests",
            "Calls of the ways in, by how they ended",
            requests.clone(),
        );
        registry.register(
            "tunnel_registry_request_duration_seconds",
            "Time from a call's head to its answer",
            latency.clone(),
        );
        let connections = Connections::new(
            &mut registry,
            [
                "tunnel_registry_connections",
                "tunnel_registry_connections_accepted",
                "tunnel_registry_connections_refused",
                "tunnel_registry_connections_closed",
            ],
            "",
        );
        let sessions = SessionMetrics::new(&mut registry);
        let services = ServiceMetrics::new(&mut registry);
        let dns = DnsMetrics::new(&mut registry);
        let proxy = ProxyMetrics::new(&mut registry);
        registry.register(
            "tunnel_registry_reload_failures",
            "Changed files that could not be used; the old contents stay in use",
            reload_failures.clone(),
        );
        registry.register(
            "tunnel_registry_certificate_expiry_timestamp_seconds",
            "When the certificate in use expires; absent without TLS",
            Family::clone(&expiry),
        );
        registry.register(
            "tunnel_registry_session_certificate_expiry_timestamp_seconds",
            "When the session listener's certificate expires; absent without TLS",
            Family::clone(&session_expiry),
        );
        registry.register(
            "tunnel_registry_build",
            "What this program was built from",
            Info::new([
                ("version", env!("CARGO_PKG_VERSION")),
                ("commit", env!("BUILD_COMMIT")),
                ("compiler", env!("BUILD_COMPILER")),
                ("target", env!("BUILD_TARGET")),
                ("profile", env!("BUILD_PROFILE")),
            ]),
        );
        registry.register_collector(Box::new(process::Process));

        Self {
            requests: Method::ALL.map(|method| {
                Protocol::ALL.map(|protocol| {
                    Outcome::ALL.map(|outcome| {
                        requests.get_or_create_owned(&[
                            ("method", method.as_str()),
                            ("protocol", protocol.as_str()),
                            ("outcome", outcome.as_str()),
                        ])
                    })
                })
            }),
            latency: Method::ALL.map(|method| {
                Protocol::ALL.map(|protocol| {
                    latency.get_or_create_owned(&[
                        ("method", method.as_str()),
                        ("protocol", protocol.as_str()),
                    ])
                })
            }),
            connections,
            sessions,
            services,
            dns,
            proxy,
            reload_failures: Reload::ALL
                .map(|what| reload_failures.get_or_create_owned(&[("what", what.as_str())])),
            expiry,
            session_expiry,
            registry: Mutex::new(registry),
        }
    }

    /// Adds what another part counts; it is asked at each scrape.
    pub fn register(&self, collector: Box<dyn Collector>) {
        self.registry.lock().register_collector(collector);
    }

    /// A call has been answered.
    pub fn call(&self, method: Method, protocol: Protocol, outcome: Outcome, took: Duration) {
        self.requests[method as usize][protocol as usize][outcome as usize].inc();
        self.latency[method as usize][protocol as usize].observe(took.as_secs_f64());
    }

    /// Changed files could not be used.
    pub fn reload_failed(&self, what: Reload) {
        self.reload_failures[what as usize].inc();
    }

    /// The certificate in use is valid until then.
    pub fn certificate_expires(&self, at: Timestamp) {
        self.expiry.get_or_create(&[]).set(at.as_second());
    }

    /// The session listener's certificate in use is valid until then.
    pub fn session_certificate_expires(&self, at: Timestamp) {
        self.session_expiry.get_or_create(&[]).set(at.as_second());
    }

    /// Everything, as OpenMetrics text ([`CONTENT_TYPE`]).
    ///
    /// # Errors
    /// When a collector fails.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(32 * 1024);
        text::encode(&mut out, &self.registry.lock())?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
    use prometheus_client::metrics::gauge::ConstGauge;

    use super::*;

    #[test]
    fn calls_are_counted_by_method_protocol_and_outcome() {
        let metrics = Metrics::new();
        let took = Duration::from_micros(60);
        metrics.call(Method::Get, Protocol::Grpc, Outcome::Ok, took);
        metrics.call(Method::Get, Protocol::Grpc, Outcome::Ok, took);
        metrics.call(Method::Register, Protocol::Http, Outcome::Pending, took);
        let text = metrics.encode().unwrap();
        for line in [
            r#"tunnel_registry_requests_total{method="get",protocol="grpc",outcome="ok"} 2"#,
            r#"tunnel_registry_requests_total{method="register",protocol="http",outcome="pending"} 1"#,
            r#"tunnel_registry_requests_total{method="get",protocol="http",outcome="ok"} 0"#,
            r#"tunnel_registry_request_duration_seconds_bucket{le="0.0001",method="get",protocol="grpc"} 2"#,
            r#"tunnel_registry_request_duration_seconds_bucket{le="0.00005",method="get",protocol="grpc"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_certificate_is_told_of_only_when_there_is_one() {
        let name = "tunnel_registry_certificate_expiry_timestamp_seconds{} ";
        let metrics = Metrics::new();
        assert!(!metrics.encode().unwrap().contains(&format!("\n{name}")));
        metrics.certificate_expires(Timestamp::from_second(1_900_000_000).unwrap());
        let text = metrics.encode().unwrap();
        assert!(text.contains(&format!("\n{name}1900000000")), "{text}");
    }

    #[test]
    fn the_build_and_others_collectors_are_in() {
        #[derive(Debug)]
        struct Answer;
        impl Collector for Answer {
            fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
                let gauge = ConstGauge::new(42i64);
                gauge.encode(encoder.encode_descriptor(
                    "answer",
                    "It",
                    None,
                    gauge.metric_type(),
                )?)
            }
        }
        let metrics = Metrics::new();
        metrics.register(Box::new(Answer));
        let text = metrics.encode().unwrap();
        assert!(text.contains("\nanswer 42\n"), "{text}");
        assert!(
            text.contains("tunnel_registry_build_info{version=\""),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
