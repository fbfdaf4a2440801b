//! Routes: which domains and paths are served by which backend.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::session::host::HostName;
use crate::session::place::{Domain, Path, Place, has_path_characters};
use crate::session::problem::Problem;
use crate::session::registration;
use crate::session::text::checked_text;

/// How a proxy speaks to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
    /// `ws`: websockets over HTTP.
    Ws,
    /// `wss`: websockets over HTTPS.
    Wss,
}

impl Scheme {
    /// Whether it goes over TLS.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Wss)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "https" => Self::Https,
            "ws" => Self::Ws,
            "wss" => Self::Wss,
            _ => return None,
        })
    }
}

/// Where a backend is: `http`, `https`, `ws` or `wss`, a host, perhaps a port and
/// a path. It is shown and stored as it was given.
#[derive(Clone)]
pub struct BackendUrl {
    text: Arc<str>,
    scheme: Scheme,
    host: HostName,
    port: u16,
    path: Arc<str>,
}

checked_text!(BackendUrl);

impl PartialEq for BackendUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for BackendUrl {}

/// Why a text is no URL of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// More than [`BackendUrl::MAX_BYTES`].
    #[error("a backend must have at most {max} bytes", max = BackendUrl::MAX_BYTES)]
    TooLong,
    /// Not of the form of a URL, or another scheme.
    #[error("a backend must be http://, https://, ws:// or wss:// and a host")]
    NoUrl,
    /// The host is none.
    #[error("a backend's host must be a DNS name or the IP address of one host")]
    Host,
    /// The port is none.
    #[error("a backend's port must be from 1 to 65535")]
    Port,
    /// What would not reach the backend.
    #[error("a backend must be without user, query and fragment")]
    Excess,
}

impl BackendUrl {
    /// The longest, in bytes: room for the longest host and a path.
    pub const MAX_BYTES: usize = 1_024;

    /// Parses the URL of a backend.
    ///
    /// # Errors
    /// When it is none, or has what a proxy would leave out.
    pub fn parse(text: &str) -> Result<Self, BackendError> {
        if text.len() > Self::MAX_BYTES {
            return Err(BackendError::TooLong);
        }
        if text.contains(['#', '?', '@']) {
            return Err(BackendError::Excess);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BackendError::NoUrl)?;
        let scheme = Scheme::parse(scheme).ok_or(BackendError::NoUrl)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !has_path_characters(path) {
            return Err(BackendError::NoUrl);
        }
        let (host, port) = split(authority)?;
        let port = match port {
            Some(port) => registration::port(port).ok_or(BackendError::Port)?,
            None if scheme.is_secure() => 443,
            None => 80,
        };
        Ok(Self {
            text: text.into(),
            scheme,
            host: HostName::parse(host).map_err(|_| BackendError::Host)?,
            port,
            path: path.into(),
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How the proxy speaks to it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The port; the scheme's own, 80 or 443, if none was given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, `/` if none was given. Not every proxy can put one before what
    /// it asks for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`.
fn split(authority: &str) -> Result<(&str, Option<&str>), BackendError> {
    if authority.is_empty() {
        return Err(BackendError::NoUrl);
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(BackendError::Host)?;
        let is_ipv6 = host.contains(':');
        return match (rest, rest.strip_prefix(':')) {
            ("", _) if is_ipv6 => Ok((host, None)),
            (_, Some(port)) if is_ipv6 => Ok((host, Some(port))),
            _ => Err(BackendError::Host),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// What `ROUTE` announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The domains, each once, in the order in which they were given; at least
    /// one and at most [`Route::MAX_DOMAINS`].
    pub domains: Vec<Domain>,
    /// The front of the paths.
    pub path: Path,
    /// Who serves them.
    pub backend: BackendUrl,
}

impl Route {
    /// The most domains of one route.
    pub const MAX_DOMAINS: usize = 32;

    /// Parses the fields of `ROUTE`; domains are separated by commas.
    ///
    /// # Errors
    /// [`Problem::InvalidRoute`].
    pub fn parse(domains: &str, path: &str, backend: &str) -> Result<Self, Problem> {
        let invalid =
            |error: &dyn std::fmt::Display| Problem::InvalidRoute(error.to_string().into());
        let mut seen = BTreeSet::new();
        let mut unique = Vec::new();
        for domain in domains.split(',') {
            let domain = Domain::parse(domain).map_err(|error| invalid(&error))?;
            if seen.insert(domain.clone()) {
                unique.push(domain);
            }
            if unique.len() > Self::MAX_DOMAINS {
                let most = format!("a route may have at most {} domains", Self::MAX_DOMAINS);
                return Err(invalid(&most));
            }
        }
        Ok(Self {
            domains: unique,
            path: Path::parse(path).map_err(|error| invalid(&error))?,
            backend: BackendUrl::parse(backend).map_err(|error| invalid(&error))?,
        })
    }

    /// The places that it is at.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.domains.iter().map(|domain| Place {
            domain: domain.clone(),
            path: self.path.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_urls_with_a_host() {
        for (text, host, port, path) in [
            ("http://api-v2:9000", "api-v2", 9000, "/"),
            ("HTTPS://h", "h", 443, "/"),
            ("ws://10.0.0.1/a/b", "10.0.0.1", 80, "/a/b"),
            ("wss://[fd00::1]:8443/", "fd00::1", 8443, "/"),
            ("http://[::1]", "::1", 80, "/"),
        ] {
            let url = BackendUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), text);
            assert_eq!(
                (url.host().as_str(), url.port(), url.path()),
                (host, port, path)
            );
        }
        use BackendError::*;
        for (text, error) in [
            ("", NoUrl),
            ("api:9000", NoUrl),
            ("ftp://h", NoUrl),
            ("http:/h", NoUrl),
            ("http://", NoUrl),
            ("http:///a", NoUrl),
            ("http://h/a b", NoUrl),
            ("http://a b", Host),
            ("http://[10.0.0.1]:80", Host),
            ("http://[::1", Host),
            ("http://[::1]x", Host),
            ("http://::1:80", Port),
            ("http://h:", Port),
            ("http://h:0", Port),
            ("http://h:65536", Port),
            ("http://h:+1", Port),
            ("http://user@h", Excess),
            ("http://h?a", Excess),
            ("http://h/#a", Excess),
        ] {
            assert_eq!(BackendUrl::parse(text), Err(error), "{text:?}");
        }
        let longest = format!("http://h/{}", "x".repeat(BackendUrl::MAX_BYTES - 9));
        assert!(BackendUrl::parse(&longest).is_ok());
        assert_eq!(BackendUrl::parse(&(longest + "x")), Err(TooLong));
    }

    #[test]
    fn a_route_has_each_domain_once() {
        let route = Route::parse("B.com, a.com,b.com", "/v2", "http://h").unwrap();
        assert_eq!(format!("{:?}", route.domains), r#"["b.com", "a.com"]"#);
        let places: Vec<String> = route.places().map(|place| place.to_string()).collect();
        assert_eq!(places, ["b.com/v2", "a.com/v2"]);
    }

    #[test]
    fn a_route_says_what_is_wrong_with_it() {
        for (domains, path, backend, text) in [
            (
                "a,",
                "/",
                "http://h",
                "Invalid route: a domain must be a DNS name such as api.example.com or *.example.com",
            ),
            (
                "a",
                "v2",
                "http://h",
                "Invalid route: a path must start with /",
            ),
            (
                "a",
                "/",
                "h",
                "Invalid route: a backend must be http://, https://, ws:// or wss:// and a host",
            ),
        ] {
            let problem = Route::parse(domains, path, backend).unwrap_err();
            assert_eq!(problem.to_string(), text);
        }
        let domains = |count: usize| {
            let domains: Vec<String> = (0..count).map(|n| format!("d{n}")).collect();
            Route::parse(&domains.join(","), "/", "http://h")
        };
        assert!(domains(Route::MAX_DOMAINS).is_ok());
        assert!(domains(Route::MAX_DOMAINS + 1).is_err());
    }
}
