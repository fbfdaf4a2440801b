//! Hosts that backends are reached at.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::session::text::checked_text;

/// A host as it was given: a DNS name (RFC 1123 §2.1, with the underscore that
/// container names have) or an IP address, IPv6 without brackets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

checked_text!(HostName);

/// A text that is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host must be a DNS name or the IP address of one host")]
pub struct HostError;

impl HostName {
    /// The longest, in bytes: that of a DNS name (RFC 1035 §2.3.4).
    pub const MAX_BYTES: usize = 253;

    /// Parses a host.
    ///
    /// # Errors
    /// When it is neither a DNS name nor an address that can be dialled.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let valid = if let Ok(ip) = text.parse::<Ipv4Addr>() {
            !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
        } else if let Ok(ip) = text.parse::<Ipv6Addr>() {
            !ip.is_unspecified() && !ip.is_multicast()
        } else {
            is_dns_name(text)
        };
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(HostError)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host before `:port`: an IPv6 address gets its brackets.
    #[must_use]
    pub fn with_port(&self, port: u16) -> String {
        if self.0.contains(':') {
            format!("[{}]:{port}", self.0)
        } else {
            format!("{}:{port}", self.0)
        }
    }
}

fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    // `10.0.0.256` is a mistyped address; the id of a container may be a number.
    let mistyped = name
        .rsplit_once('.')
        .is_some_and(|(_, last)| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= HostName::MAX_BYTES
        && !mistyped
        && name.split('.').all(|label| is_label(label, b"-_"))
}

/// Whether this is a label of a DNS name: 1 to 63 letters, digits and `others`,
/// with no hyphen at either end.
pub(super) fn is_label(label: &str, others: &[u8]) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for text in [
            "api-v2",
            "API_1.internal.",
            "localhost",
            // The id of a container.
            "123456789012",
            "10.0.0.1",
            "::1",
            "fd00::7",
        ] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "é",
            "10.0.0.256",
            "1.2",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "[::1]",
            "h:80",
            "http://h",
            &"x".repeat(64),
            &vec!["x".repeat(63); 4].join("."),
        ] {
            assert_eq!(HostName::parse(text), Err(HostError), "{text:?}");
        }
    }

    #[test]
    fn an_ipv6_address_gets_brackets() {
        assert_eq!(HostName::parse("h").unwrap().with_port(80), "h:80");
        assert_eq!(HostName::parse("::1").unwrap().with_port(80), "[::1]:80");
    }
}
