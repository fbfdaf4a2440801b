//! What `serve` is told of DNS.

use std::net::SocketAddr;
use std::time::Duration;

use crate::args::serve::count;
use crate::args::values;
use crate::discoverd::dns::{Domain, Zone};
use crate::server::dns::Limits;

/// The longest that an answer may be kept: instances come and go within seconds.
const HOUR: Duration = Duration::from_secs(3_600);

/// What `serve` is told of DNS.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "DNS")]
pub struct Dns {
    /// Where services are answered for over DNS (UDP and TCP), separated by commas; unset, nowhere
    ///
    /// Names are S.discoverd., _S._PROTO.discoverd., leader.S.discoverd. and
    /// ID.S._i.discoverd.; see docs/discoverd.md. Nothing is forwarded.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_DNS_LISTEN",
        value_name = "IP:PORT",
        value_delimiter = ',',
        value_parser = values::ip_port
    )]
    pub dns_listen: Vec<SocketAddr>,
    /// The domain whose names are services
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_DNS_DOMAIN",
        value_name = "DOMAIN",
        default_value = "discoverd."
    )]
    pub dns_domain: Domain,
    /// How long others may keep an answer
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_DNS_TTL",
        value_name = "TIME",
        default_value = "0s",
        value_parser = values::time(Duration::ZERO, HOUR)
    )]
    pub dns_ttl: Duration,
    /// The most connections that carry DNS, at each address
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_DNS_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "256",
        value_parser = count()
    )]
    pub dns_max_connections: usize,
    /// The most connections that carry DNS from one address
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_DNS_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value = "64",
        value_parser = count()
    )]
    pub dns_max_connections_per_address: usize,
}

impl Dns {
    /// What is served.
    #[must_use]
    pub fn zone(&self) -> Zone {
        Zone {
            domain: self.dns_domain.clone(),
            ttl: self.dns_ttl,
        }
    }

    /// The bounds of a listener.
    #[must_use]
    pub fn limits(&self, drain: Duration) -> Limits {
        Limits {
            connections: self.dns_max_connections,
            connections_per_peer: self.dns_max_connections_per_address,
            drain,
            ..Limits::default()
        }
    }

    /// How many connections may be open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.dns_listen
            .len()
            .saturating_mul(self.dns_max_connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;

    fn dns(line: &str) -> Result<Dns, String> {
        let words = format!("tunnel-registry {line}");
        match Args::try_parse(words.split_whitespace().map(Into::into), None) {
            Ok(Args::Serve(serve)) => Ok(serve.dns),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn it_is_off_unless_it_is_asked_for() {
        let unset = dns("").unwrap();
        assert!(unset.dns_listen.is_empty());
        assert_eq!(unset.connections(), 0);
        assert_eq!(unset.dns_domain.to_string(), "discoverd.");
        assert_eq!(unset.dns_ttl, Duration::ZERO);
        let limits = Limits::default();
        assert_eq!(unset.limits(limits.drain), limits);
        let both = dns("--dns-listen 127.0.0.1:5353,[::1]:5353 --dns-max-connections 5").unwrap();
        assert_eq!(both.dns_listen.len(), 2);
        assert_eq!(both.connections(), 10);
    }

    #[test]
    fn values_have_bounds() {
        for (line, mend) in [
            ("--dns-listen 5353", "IP:PORT"),
            ("--dns-domain a..b", "such as discoverd."),
            ("--dns-domain .", "such as discoverd."),
            ("--dns-ttl 2h", "from 0s to 1h"),
            ("--dns-max-connections 0", "1..="),
        ] {
            let error = dns(line).unwrap_err();
            assert!(error.contains(mend), "{line}: {error}");
        }
    }
}
