//! Addresses that other servers dial, and whose host they are on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP address; IPv4-mapped IPv6 addresses are unmapped.
    Ip(IpAddr),
    /// A DNS name, as it was given.
    Name(Arc<str>),
}

impl Host {
    /// Whether a connection to this host stays on the machine that dials it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(name) => is_localhost(name),
        }
    }

    /// Whether this is the host with address `ip`; all loopback addresses are
    /// one host. A DNS name is never resolved, so it is nobody's.
    #[must_use]
    pub fn is(&self, ip: IpAddr) -> bool {
        match self {
            Self::Ip(own) => *own == ip || (own.is_loopback() && ip.is_loopback()),
            Self::Name(name) => ip.is_loopback() && is_localhost(name),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // RFC 6761 §6.3: `localhost` and every name below it.
    name.eq_ignore_ascii_case("localhost")
        || name
            .len()
            .checked_sub(".localhost".len())
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
}

/// A `host:port` that can be dialled: it has a host, and that is not the
/// unspecified one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: Host,
    port: u16,
}

impl Address {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a gost server that calls from `peer` means by `text`.
    ///
    /// gost sends its `entrypoint` setting as it stands, so the host is often
    /// missing or unspecified; it is then the caller's: the peer's IP, or the
    /// pod's own (`pod_ips`, of which the first is the preferred one) when the
    /// peer is on loopback in a pod.
    ///
    /// # Errors
    /// When `text` is no `host:port`, or names a place that other servers
    /// cannot reach; the error says how to mend it.
    pub fn announced(text: &str, peer: IpAddr, pod_ips: &[IpAddr]) -> Result<Self, AddressError> {
        let (host, port) = split(text)?;
        let peer = peer.to_canonical();
        let caller = |wanted: fn(&IpAddr) -> bool| {
            if peer.is_loopback() && !pod_ips.is_empty() {
                pod_ips.iter().copied().find(wanted)
            } else {
                Some(peer).filter(wanted)
            }
        };
        let host = match host {
            None | Some(Host::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED))) => {
                Host::Ip(caller(|_| true).unwrap_or(peer))
            }
            Some(Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))) => match caller(IpAddr::is_ipv4) {
                Some(ip) => Host::Ip(ip),
                // The same machine by its other name.
                None if peer.is_loopback() && pod_ips.is_empty() => {
                    Host::Ip(Ipv4Addr::LOCALHOST.into())
                }
                None => return Err(AddressError::NoIpv4),
            },
            Some(host) => {
                if host.is_loopback() && (!pod_ips.is_empty() || !peer.is_loopback()) {
                    return Err(AddressError::Loopback);
                }
                host
            }
        };
        Ok(Self { host, port })
    }
}

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error(
        "is empty; set `entrypoint` in the metadata of gost's tunnel handler (`entrypoints` alone announces nothing)"
    )]
    Empty,
    /// Not of the form `host:port`.
    #[error("is not host:port; write for example 10.42.0.100:80, gost.example.com:80 or :80")]
    NotHostPort,
    /// An IPv6 address without brackets.
    #[error("has an IPv6 host without brackets; write [address]:port")]
    Unbracketed,
    /// Neither an IP address nor a DNS name.
    #[error("has a host that is neither the IP address of one host nor a DNS name")]
    BadHost,
    /// A port outside 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    BadPort,
    /// A loopback host that other servers would take for themselves.
    #[error(
        "has a loopback host, where another server would reach itself; set `entrypoint` to :port or to an address that other servers can dial"
    )]
    Loopback,
    /// `0.0.0.0` from a caller that has only IPv6.
    #[error(
        "listens on IPv4 only (0.0.0.0), but the caller has no IPv4 address; set `entrypoint` to :port or to a full address"
    )]
    NoIpv4,
}

/// Splits `host:port`; an empty host is none.
fn split(text: &str) -> Result<(Option<Host>, u16), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::NotHostPort)?;
    let host = if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(AddressError::BadHost)?;
        let ip: Ipv6Addr = inner.parse().map_err(|_| AddressError::BadHost)?;
        Some(Host::Ip(IpAddr::V6(ip).to_canonical()))
    } else if host.is_empty() {
        None
    } else if let Ok(ip) = host.parse::<Ipv4Addr>() {
        Some(Host::Ip(ip.into()))
    } else if host.contains(':') {
        // Also a URL such as http://host:port.
        return Err(
            if host.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() {
                AddressError::Unbracketed
            } else {
                AddressError::NotHostPort
            },
        );
    } else if is_dns_name(host) {
        Some(Host::Name(host.into()))
    } else {
        return Err(AddressError::BadHost);
    };
    // Nobody can dial a group of hosts.
    if let Some(Host::Ip(ip)) = &host
        && (ip.is_multicast() || *ip == IpAddr::V4(Ipv4Addr::BROADCAST))
    {
        return Err(AddressError::BadHost);
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if port != 0 && digits => Ok((host, port)),
        _ => Err(AddressError::BadPort),
    }
}

/// RFC 1123 §2.1, with the underscore that names in the field have; a name
/// whose last label is a number would be a mistyped IPv4 address.
fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Parses an address that is already complete, as stores keep it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match split(text)? {
            (Some(Host::Ip(ip)), _) if ip.is_unspecified() => Err(AddressError::BadHost),
            (Some(host), port) => Ok(Self { host, port }),
            (None, _) => Err(AddressError::BadHost),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(text: &str, peer: &str, pod_ips: &[&str]) -> Result<String, AddressError> {
        let pod_ips: Vec<IpAddr> = pod_ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Address::announced(text, peer.parse().unwrap(), &pod_ips).map(|a| a.to_string())
    }

    #[test]
    fn a_missing_host_is_the_callers() {
        for (text, peer, pod, expected) in [
            (":80", "10.0.0.7", &[][..], "10.0.0.7:80"),
            (":80", "::ffff:10.0.0.7", &[], "10.0.0.7:80"),
            ("[::]:80", "fd00::7", &[], "[fd00::7]:80"),
            ("0.0.0.0:80", "10.0.0.7", &[], "10.0.0.7:80"),
            (":80", "127.0.0.1", &[], "127.0.0.1:80"),
            ("0.0.0.0:80", "::1", &[], "127.0.0.1:80"),
            (":80", "127.0.0.1", &["10.42.0.9"], "10.42.0.9:80"),
            (":80", "::1", &["fd00::9", "10.42.0.9"], "[fd00::9]:80"),
            (
                "0.0.0.0:80",
                "::1",
                &["fd00::9", "10.42.0.9"],
                "10.42.0.9:80",
            ),
            // Another pod calls: its own address, not ours.
            (":80", "10.42.0.8", &["10.42.0.9"], "10.42.0.8:80"),
        ] {
            assert_eq!(
                announced(text, peer, pod).as_deref(),
                Ok(expected),
                "{text} from {peer}"
            );
        }
        assert_eq!(
            announced("0.0.0.0:80", "fd00::7", &[]),
            Err(AddressError::NoIpv4)
        );
        assert_eq!(
            announced("0.0.0.0:80", "::1", &["fd00::9"]),
            Err(AddressError::NoIpv4)
        );
    }

    #[test]
    fn a_given_host_is_kept() {
        for (text, expected) in [
            ("10.42.0.100:80", "10.42.0.100:80"),
            ("[fd00::1]:8080", "[fd00::1]:8080"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("gost-0.gost.default.svc:80", "gost-0.gost.default.svc:80"),
            ("my_host:1", "my_host:1"),
            ("host.:65535", "host.:65535"),
        ] {
            assert_eq!(
                announced(text, "10.0.0.7", &[]).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn loopback_is_for_one_machine_only() {
        for host in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "[::1]:80",
            "localhost:80",
            "a.LocalHost.:80",
        ] {
            assert!(announced(host, "127.0.0.1", &[]).is_ok(), "{host}");
            assert_eq!(
                announced(host, "10.0.0.7", &[]),
                Err(AddressError::Loopback),
                "{host}"
            );
            assert_eq!(
                announced(host, "127.0.0.1", &["10.42.0.9"]),
                Err(AddressError::Loopback),
                "{host}"
            );
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        use AddressError::*;
        for (text, error) in [
            ("", Empty),
            ("80", NotHostPort),
            ("http://10.0.0.1:80", NotHostPort),
            ("fd00::1", Unbracketed),
            ("fd00::1:80", Unbracketed),
            ("[fd00::1:80", BadHost),
            ("[10.0.0.1]:80", BadHost),
            ("[fe80::1%eth0]:80", BadHost),
            ("10.0.0.256:80", BadHost),
            ("224.0.0.1:80", BadHost),
            ("255.255.255.255:80", BadHost),
            ("[ff02::1]:80", BadHost),
            ("a b:80", BadHost),
            ("-a:80", BadHost),
            ("a..b:80", BadHost),
            ("h:", BadPort),
            ("h:0", BadPort),
            ("h:65536", BadPort),
            ("h:+80", BadPort),
            ("h:http", BadPort),
        ] {
            assert_eq!(announced(text, "10.0.0.7", &[]), Err(error), "{text}");
        }
        let long = format!("{}.com:80", "a".repeat(64));
        assert_eq!(announced(&long, "10.0.0.7", &[]), Err(BadHost));
    }

    #[test]
    fn all_loopback_addresses_are_one_host() {
        let host = |text: &str| text.parse::<Address>().unwrap().host().clone();
        assert!(host("127.0.0.11:80").is("127.0.0.12".parse().unwrap()));
        assert!(host("localhost:80").is("::1".parse().unwrap()));
        assert!(host("10.0.0.1:80").is("10.0.0.1".parse().unwrap()));
        assert!(!host("10.0.0.1:80").is("10.0.0.2".parse().unwrap()));
        assert!(!host("gost.example.com:80").is("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn what_is_stored_is_complete() {
        assert!(":80".parse::<Address>().is_err());
        assert!("0.0.0.0:80".parse::<Address>().is_err());
        assert!("[::]:80".parse::<Address>().is_err());
        assert_eq!("h:80".parse::<Address>().unwrap().to_string(), "h:80");
    }
}
