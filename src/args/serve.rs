//! What `serve` is told.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;

use crate::args::{Dns, Etcd, Kubernetes, Replica, Services, Session, Store, values};
use crate::lease::Timing;
use crate::registry;
use crate::server;
use crate::server::auth::Tokens;
use crate::server::tls::TlsFiles;
use crate::telemetry::{Format, LogFilter};

/// What `serve` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Serve {
    /// Where it listens.
    #[command(flatten)]
    pub listening: Listening,
    /// Where registrations are kept: file:PATH, memory, kubernetes or etcd:URL[,URL…]; unset, a file in the platform's data folder
    ///
    /// The path of that file is
    /// logged at start. The memory store forgets everything when the process
    /// ends, and gost never registers twice. Of etcd name all members, such as
    /// etcd:https://etcd-0:2379,https://etcd-1:2379.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_STORE",
        value_name = "STORE",
        help_heading = "Store"
    )]
    pub store: Option<Store>,
    /// Which replica this is.
    #[command(flatten)]
    pub replica: Replica,
    /// Where its records are in Kubernetes.
    #[command(flatten)]
    pub kubernetes: Kubernetes,
    /// How it speaks to etcd.
    #[command(flatten)]
    pub etcd: Etcd,
    /// Who may call.
    #[command(flatten)]
    pub access: Access,
    /// How it takes proxy sessions.
    #[command(flatten)]
    pub session: Session,
    /// Whether it serves discoverd's services.
    #[command(flatten)]
    pub services: Services,
    /// How it answers over DNS.
    #[command(flatten)]
    pub dns: Dns,
    /// How much it takes.
    #[command(flatten)]
    pub limits: Limits,
    /// How long it waits.
    #[command(flatten)]
    pub times: Times,
    /// What it writes about itself.
    #[command(flatten)]
    pub logs: Logs,
}

/// Where the registry listens.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Listening")]
pub struct Listening {
    /// Where gost calls, over HTTP and gRPC
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8000",
        value_parser = values::ip_port
    )]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /metrics and /endpoints are
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ADMIN_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8090",
        value_parser = values::ip_port
    )]
    pub admin_listen: SocketAddr,
    /// The addresses of the pod that this runs in, separated by commas
    ///
    /// In Kubernetes, `status.podIPs` of the downward API. Callers on loopback
    /// are then in this pod, and endpoints that they announce without a host
    /// get its first address.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_POD_IP",
        value_name = "IP",
        value_delimiter = ',',
        value_parser = values::pod_ip
    )]
    pub pod_ip: Vec<IpAddr>,
}

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// A file of tokens, one a line; callers must present one of them
    ///
    /// Read again when it changes.
    #[arg(long, env = "TUNNEL_REGISTRY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The tokens in [`TOKEN_VARIABLE`](super::TOKEN_VARIABLE), in place of a file.
    #[arg(skip)]
    pub tokens: Option<Tokens>,
    #[command(flatten)]
    tls: TlsFlags,
}

impl Access {
    /// The files that TLS is served with; none when it is not.
    #[must_use]
    pub fn tls(&self) -> Option<TlsFiles> {
        let (certificate, key) = self.tls.tls_cert.clone().zip(self.tls.tls_key.clone())?;
        Some(TlsFiles {
            certificate,
            key,
            client_ca: self.tls.tls_client_ca.clone(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
struct TlsFlags {
    /// Serve TLS with the certificate chain in this file (PEM); needs --tls-key
    ///
    /// Read again when it changes, together with the key.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM)
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Ask callers for a certificate that one of these has signed (PEM)
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_client_ca: Option<PathBuf>,
}

/// The highest count that any limit may be set to; more is a slip of the hand.
pub const MOST: u64 = 10_000_000;

pub(super) fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MOST)
}

/// How much the registry takes.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// The most endpoints in all
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAX_ENDPOINTS",
        value_name = "N",
        default_value = "500000",
        value_parser = count()
    )]
    pub max_endpoints: usize,
    /// The most endpoints of one tunnel
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAX_ENDPOINTS_PER_TUNNEL",
        value_name = "N",
        default_value = "1024",
        value_parser = count()
    )]
    pub max_endpoints_per_tunnel: usize,
    /// The most endpoints at one node
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAX_ENDPOINTS_PER_NODE",
        value_name = "N",
        default_value = "65536",
        value_parser = count()
    )]
    pub max_endpoints_per_node: usize,
    /// The most writes that may wait for the store
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAX_QUEUE",
        value_name = "N",
        default_value = "100000",
        value_parser = count()
    )]
    pub max_queue: usize,
    /// The most connections in all
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "10000",
        value_parser = count()
    )]
    pub max_connections: usize,
    /// The most connections from one address
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value = "4096",
        value_parser = count()
    )]
    pub max_connections_per_address: usize,
}

impl Limits {
    /// How much the registry keeps.
    #[must_use]
    pub fn registry(&self) -> registry::Limits {
        registry::Limits {
            endpoints: self.max_endpoints,
            per_tunnel: self.max_endpoints_per_tunnel,
            per_node: self.max_endpoints_per_node,
            queue: self.max_queue,
        }
    }
}

impl Serve {
    /// The bounds of the listener.
    #[must_use]
    pub fn server_limits(&self) -> server::Limits {
        server::Limits {
            connections: self.limits.max_connections,
            connections_per_peer: self.limits.max_connections_per_address,
            first_request: self.times.first_request_timeout,
            request: self.times.request_timeout,
            idle: self.times.idle_timeout,
            drain: self.times.drain,
            ..server::Limits::default()
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How long the registry waits.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Times")]
pub struct Times {
    /// How long a Register waits for the store before it is answered anyway
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_REGISTER_WAIT",
        value_name = "TIME",
        default_value = "2s",
        value_parser = values::time(Duration::ZERO, SECOND * 60)
    )]
    pub register_wait: Duration,
    /// The least silence after which an endpoint is released
    ///
    /// Longer for a node that renews less often: four times its longest
    /// interval.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_BASE_TIME",
        value_name = "TIME",
        default_value = "60s",
        value_parser = values::time(SECOND, DAY)
    )]
    pub base_time: Duration,
    /// How long a released endpoint stays before it is removed
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_RELEASED_FOR",
        value_name = "TIME",
        default_value = "60s",
        value_parser = values::time(SECOND, DAY)
    )]
    pub released_for: Duration,
    /// After a start nothing is released for this long
    ///
    /// gost's gRPC client waits up to 120 s before it connects again.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_START_GRACE",
        value_name = "TIME",
        default_value = "150s",
        value_parser = values::time(Duration::ZERO, DAY)
    )]
    pub start_grace: Duration,
    /// How long a new connection may take until its first request is complete
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_FIRST_REQUEST_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        value_parser = values::time(SECOND / 10, HOUR)
    )]
    pub first_request_timeout: Duration,
    /// How long a request may take until it is answered
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_REQUEST_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        value_parser = values::time(SECOND / 10, HOUR)
    )]
    pub request_timeout: Duration,
    /// How long a connection may be without a request before it is closed
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_IDLE_TIMEOUT",
        value_name = "TIME",
        default_value = "10m",
        value_parser = values::time(SECOND, DAY)
    )]
    pub idle_timeout: Duration,
    /// How long a stop waits for requests in flight
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_DRAIN",
        value_name = "TIME",
        default_value = "5s",
        value_parser = values::time(Duration::ZERO, HOUR)
    )]
    pub drain: Duration,
    /// How long a stop then waits for writes that the store has yet to take
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_FLUSH",
        value_name = "TIME",
        default_value = "5s",
        value_parser = values::time(Duration::ZERO, HOUR)
    )]
    pub flush: Duration,
}

impl Times {
    /// The times that decide when something silent goes.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            base: self.base_time,
            released_for: self.released_for,
            start_grace: self.start_grace,
            ..Timing::default()
        }
    }
}

/// What the registry writes about itself.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct Logs {
    /// The least level to log: off, error, warn, info, debug or trace
    ///
    /// Or directives for parts of the program, as in
    /// `info,tunnel_registry::registry=debug`.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: LogFilter,
    /// How to log; auto is text on a terminal and JSON otherwise
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto",
        value_enum
    )]
    pub log_format: Format,
}
