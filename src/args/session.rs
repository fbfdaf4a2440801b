//! What `serve` is told of proxy sessions.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::args::serve::count;
use crate::args::{Store, values};
use crate::server::session::Limits;
use crate::server::tls::TlsFiles;

/// Where backends announce themselves unless they are in Kubernetes.
const USUAL: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8181);

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            _ => values::ip_port(text)
                .map(Self::At)
                .map_err(|_| "must be off, or IP:PORT such as 127.0.0.1:8181 or 0.0.0.0:81"),
        }
    }
}

/// Where maintenance is answered for unless they are in Kubernetes.
const USUAL_MAINTENANCE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8182);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// What `serve` is told of proxy sessions.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Proxy sessions")]
pub struct Session {
    /// Where backends announce themselves and their HTTP routes, or off; unset, 127.0.0.1:8181, and off with --store kubernetes
    ///
    /// Lines of fields separated by |; see docs/proxy-sessions.md. Who can reach
    /// it can take any domain, unless --session-policy-file says otherwise.
    #[arg(long, env = "TUNNEL_REGISTRY_SESSION_LISTEN", value_name = "IP:PORT")]
    session_listen: Option<Listen>,
    /// How long a session and its routes stay after its connection was lost
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_GRACE",
        value_name = "TIME",
        default_value = "60s",
        value_parser = values::time(SECOND, DAY)
    )]
    pub session_grace: Duration,
    /// The most sessions
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_MAX_SESSIONS",
        value_name = "N",
        default_value = "50000",
        value_parser = count()
    )]
    pub session_max_sessions: usize,
    /// The most connections that carry sessions
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "10000",
        value_parser = count()
    )]
    pub session_max_connections: usize,
    /// The most connections that carry sessions from one address
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value = "4096",
        value_parser = count()
    )]
    pub session_max_connections_per_address: usize,
    /// How long a line may take from its first byte to its end
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_READ_TIMEOUT",
        value_name = "TIME",
        default_value = "30s",
        value_parser = values::time(SECOND / 10, DAY)
    )]
    pub session_read_timeout: Duration,
    /// How long a connection may be without a session and without a command
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_IDLE_TIMEOUT",
        value_name = "TIME",
        default_value = "5m",
        value_parser = values::time(SECOND / 10, DAY)
    )]
    pub session_idle_timeout: Duration,
    /// Who may register which services and domains (YAML); what no rule allows is refused
    ///
    /// Read again when it changes. Without it everybody may anything.
    #[arg(long, env = "TUNNEL_REGISTRY_SESSION_POLICY_FILE", value_name = "FILE")]
    pub session_policy_file: Option<PathBuf>,
    /// Where requests to sessions in maintenance are answered 503, or off; unset, 127.0.0.1:8182, and off with --store kubernetes or --session-listen off
    ///
    /// A proxy sends it what it would have sent to those sessions. It passes the
    /// page of their maintenance port on.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAINTENANCE_LISTEN",
        value_name = "IP:PORT"
    )]
    maintenance_listen: Option<Listen>,
    /// How a proxy reaches --maintenance-listen; unset, http:// and that address
    ///
    /// To be set where the proxy is on another host.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_MAINTENANCE_URL",
        value_name = "URL",
        value_parser = values::origin
    )]
    pub maintenance_url: Option<String>,
    #[command(flatten)]
    tls: SessionTls,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
struct SessionTls {
    /// Carry sessions over TLS with the certificate chain in this file (PEM); needs --session-tls-key
    ///
    /// Read again when it changes, together with the key.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_TLS_CERT",
        value_name = "FILE",
        requires = "session_tls_key"
    )]
    session_tls_cert: Option<PathBuf>,
    /// The private key of --session-tls-cert (PEM)
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_TLS_KEY",
        value_name = "FILE",
        requires = "session_tls_cert"
    )]
    session_tls_key: Option<PathBuf>,
    /// Require of backends a certificate that one of these has signed (PEM)
    ///
    /// Whoever has none is turned away, whatever --session-policy-file says.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SESSION_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "session_tls_cert"
    )]
    session_tls_client_ca: Option<PathBuf>,
}

impl Session {
    /// Where to listen, given the store; none for nowhere.
    #[must_use]
    pub fn listen(&self, store: &Store) -> Option<SocketAddr> {
        match (self.session_listen, store) {
            (Some(Listen::At(address)), _) => Some(address),
            (Some(Listen::Off), _) | (None, Store::Kubernetes) => None,
            (None, Store::Memory | Store::File(_) | Store::Etcd(_)) => Some(USUAL),
        }
    }

    /// Where to answer for sessions in maintenance, given the store; none for
    /// nowhere.
    #[must_use]
    pub fn maintenance_listen(&self, store: &Store) -> Option<SocketAddr> {
        match (self.maintenance_listen, self.session_listen, store) {
            (Some(Listen::At(address)), ..) => Some(address),
            (Some(Listen::Off), ..) | (_, Some(Listen::Off), _) | (.., Store::Kubernetes) => None,
            (None, _, Store::Memory | Store::File(_) | Store::Etcd(_)) => Some(USUAL_MAINTENANCE),
        }
    }

    /// How many connections may be open, as far as that is known without the
    /// store: it is not that many when the listener is off.
    #[must_use]
    pub fn connections(&self) -> usize {
        match self.session_listen {
            Some(Listen::Off) => 0,
            _ => self.session_max_connections,
        }
    }

    /// The bounds of the listener.
    #[must_use]
    pub fn limits(&self, drain: Duration) -> Limits {
        Limits {
            connections: self.session_max_connections,
            connections_per_peer: self.session_max_connections_per_address,
            line: self.session_read_timeout,
            idle: self.session_idle_timeout,
            drain,
            ..Limits::default()
        }
    }

    /// The files that TLS is served with; none when it is not.
    #[must_use]
    pub fn tls(&self) -> Option<TlsFiles> {
        let tls = &self.tls;
        let (certificate, key) = tls
            .session_tls_cert
            .clone()
            .zip(tls.session_tls_key.clone())?;
        Some(TlsFiles {
            certificate,
            key,
            client_ca: tls.session_tls_client_ca.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Serve};

    fn serve(line: &str) -> Serve {
        let words = format!("tunnel-registry {line}");
        match Args::try_parse(words.split_whitespace().map(Into::into), None).unwrap() {
            Args::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_to_listen_depends_on_the_store() {
        let at = |line: &str, store: &Store| serve(line).session.listen(store);
        assert_eq!(at("", &Store::Memory), Some(USUAL));
        assert_eq!(at("", &Store::File("x".into())), Some(USUAL));
        assert_eq!(at("", &Store::Etcd(Vec::new())), Some(USUAL));
        assert_eq!(at("", &Store::Kubernetes), None);
        let open = Some("0.0.0.0:81".parse().unwrap());
        assert_eq!(at("--session-listen 0.0.0.0:81", &Store::Kubernetes), open);
        assert_eq!(at("--session-listen off", &Store::Memory), None);
        for text in ["", "on", "8181", ":8181"] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn maintenance_is_answered_for_where_sessions_are_taken() {
        let at = |line: &str, store: &Store| serve(line).session.maintenance_listen(store);
        assert_eq!(at("", &Store::Memory), Some(USUAL_MAINTENANCE));
        assert_eq!(
            at("--session-listen 0.0.0.0:81", &Store::File("x".into())),
            Some(USUAL_MAINTENANCE)
        );
        for off in ["--session-listen off", "--maintenance-listen off"] {
            assert_eq!(at(off, &Store::Memory), None);
        }
        assert_eq!(at("--session-listen 0.0.0.0:81", &Store::Kubernetes), None);
        let open = Some("0.0.0.0:82".parse().unwrap());
        let line = "--session-listen off --maintenance-listen 0.0.0.0:82";
        assert_eq!(at(line, &Store::Kubernetes), open);
    }

    #[test]
    fn what_is_not_said_is_as_the_protocol_promises() {
        let session = serve("").session;
        let limits = session.limits(Limits::default().drain);
        assert_eq!(limits, Limits::default());
        let setup = (session.session_grace, session.session_max_sessions);
        use crate::session::engine::Setup;
        assert_eq!(setup, (Setup::GRACE, Setup::SESSIONS));
        assert_eq!(session.tls(), None);
    }

    #[test]
    fn every_flag_is_in_the_guide() {
        use clap::CommandFactory as _;
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/proxy-sessions.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let command = crate::args::Cli::command();
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        let flags: Vec<_> = flags.filter(|flag| flag.starts_with("session-")).collect();
        assert_eq!(flags.len(), 11);
        for flag in flags {
            assert!(guide.contains(&format!("`--{flag}`")), "--{flag}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let words = ["tunnel-registry", "--session-tls-cert", "a"];
        let error = Args::try_parse(words.map(Into::into), None).unwrap_err();
        assert!(error.to_string().contains("--session-tls-key"), "{error}");
        let tls = serve("--session-tls-cert a --session-tls-key b --session-tls-client-ca c");
        let files = tls.session.tls().unwrap();
        assert_eq!(files.client_ca, Some("c".into()));
    }
}
