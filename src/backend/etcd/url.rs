//! Where a member of etcd is. Pure.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// The URL of a member: a scheme, a host and a port, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    is_https: bool,
    host: String,
    port: Option<u16>,
}

/// etcd's port for clients.
const PORT: u16 = 2379;

/// Why this is not where a member of etcd is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no URL of etcd; write http:// or https:// with a host and a port, such as https://etcd-0.example.com:2379"
)]
pub struct UrlError(String);

impl Url {
    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.host.strip_prefix('[');
        let host = host.and_then(|host| host.strip_suffix(']'));
        host.unwrap_or(&self.host)
    }

    /// Where to connect to: `host:port`.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(PORT))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let has_port = !authority.as_str().ends_with(':');
        let has_nothing_else = !authority.as_str().contains('@')
            && uri.path() == "/"
            && uri.query().is_none()
            && !text.ends_with('/')
            && !text.contains('#');
        let port = uri.port_u16();
        if authority.host().is_empty() || !has_port || !has_nothing_else || port == Some(0) {
            return Err(wrong());
        }
        // What follows the host and is no number.
        if port.is_none() && authority.as_str().len() != authority.host().len() {
            return Err(wrong());
        }
        Ok(Self {
            is_https,
            host: authority.host().to_owned(),
            port,
        })
    }
}

impl fmt::Display for Url {
    /// As it is given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.is_https {
            true => "https",
            false => "http",
        };
        write!(f, "{scheme}://{}", self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for (text, authority, host) in [
            ("http://etcd:2379", "etcd:2379", "etcd"),
            ("https://10.0.0.1:1", "10.0.0.1:1", "10.0.0.1"),
            ("https://[::1]:2379", "[::1]:2379", "::1"),
            ("http://etcd", "etcd:2379", "etcd"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.authority().as_str(), url.host()), (authority, host));
            assert_eq!(url.is_https(), text.starts_with("https"));
            assert_eq!(url.to_string(), text);
        }
        for text in [
            "",
            "etcd",
            "etcd:2379",
            "unix:///etcd",
            "http://",
            "http://:2379",
            "http://etcd:",
            "http://etcd:0",
            "http://etcd:65536",
            "http://etcd:2379/",
            "http://etcd/v3",
            "http://etcd?a",
            "http://etcd#a",
            "http://user:secret@etcd",
            "ftp://etcd",
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains("https://etcd-0.example.com:2379"), "{error}");
        }
    }
}
