//! Who opens a session: an instance of a service.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::session::host::HostName;
use crate::session::problem::Problem;
use crate::session::text::{checked_text, is_printable};

/// The name of a service: printable ASCII, without a space at either end.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

checked_text!(ServiceName);

/// A text that is no name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a service must be 1 to {max} printable ASCII characters without |, and no space at either end",
    max = ServiceName::MAX_BYTES
)]
pub struct ServiceError;

impl ServiceName {
    /// The longest, in bytes: that of a DNS name, which it often is.
    pub const MAX_BYTES: usize = 253;

    /// Parses the name of a service.
    ///
    /// # Errors
    /// When it is empty, too long or cannot be printed.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && is_printable(text) && !text.contains('|') && text.trim() == text {
            Ok(Self(text.into()))
        } else {
            Err(ServiceError)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One process of a service. It has one session at a time: a later one
/// supersedes the former.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// Of which service.
    pub service: ServiceName,
    /// The host that it runs on, by its own word.
    pub host: HostName,
    /// The port that it serves at.
    pub port: NonZeroU16,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.host.with_port(self.port.get());
        write!(f, "{} at {at}", self.service)
    }
}

/// What `REGISTER` announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Who.
    pub instance: Instance,
    /// The port of its host with the page for maintenance, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_port: Option<NonZeroU16>,
}

impl Registration {
    /// Parses the fields of `REGISTER`.
    ///
    /// # Errors
    /// [`Problem::InvalidFormat`] for a name, [`Problem::InvalidPort`] for a port.
    pub fn parse(
        service: &str,
        host: &str,
        port: &str,
        maintenance_port: &str,
    ) -> Result<Self, Problem> {
        let instance = Instance {
            service: ServiceName::parse(service).map_err(|_| Problem::InvalidFormat)?,
            host: HostName::parse(host).map_err(|_| Problem::InvalidFormat)?,
            port: number(port)
                .and_then(NonZeroU16::new)
                .ok_or(Problem::InvalidPort)?,
        };
        let maintenance_port = number(maintenance_port).ok_or(Problem::InvalidPort)?;
        Ok(Self {
            instance,
            maintenance_port: NonZeroU16::new(maintenance_port),
        })
    }
}

/// A port: digits, from 1 to 65535.
pub(super) fn port(text: &str) -> Option<u16> {
    number(text).filter(|port| *port != 0)
}

/// Digits, from 0 to 65535.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_shown_as_people_write_it() {
        let registration = Registration::parse("api-service", "api-v2", "9000", "9001").unwrap();
        assert_eq!(
            registration.instance.to_string(),
            "api-service at api-v2:9000"
        );
        assert_eq!(registration.maintenance_port, NonZeroU16::new(9001));
        let registration = Registration::parse("a", "::1", "1", "0").unwrap();
        assert_eq!(registration.instance.to_string(), "a at [::1]:1");
        assert_eq!(registration.maintenance_port, None);
    }

    #[test]
    fn names_and_ports_have_bounds() {
        let parse = |service: &str, host: &str, port: &str, maintenance: &str| {
            Registration::parse(service, host, port, maintenance).map(|_| ())
        };
        assert_eq!(parse(&"x".repeat(253), "h", "65535", "65535"), Ok(()));
        for service in ["", " a", "a ", "é", "a\tb", &"x".repeat(254)] {
            let problem = parse(service, "h", "1", "0");
            assert_eq!(problem, Err(Problem::InvalidFormat), "{service:?}");
        }
        assert_eq!(parse("a", "h:1", "1", "0"), Err(Problem::InvalidFormat));
        for port in ["", "0", "-1", "+1", "65536", "80 ", "http"] {
            assert_eq!(
                parse("a", "h", port, "0"),
                Err(Problem::InvalidPort),
                "{port:?}"
            );
            if port != "0" {
                assert_eq!(
                    parse("a", "h", "1", port),
                    Err(Problem::InvalidPort),
                    "{port:?}"
                );
            }
        }
    }
}
