//! How a client is set up.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::token::{self, Token};
use crate::transport::{Setup, Transport};
use crate::{BuildError, Client, tls};

/// How a client is set up; [`Client::builder`] begins one.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    servers: Vec<String>,
    token: Given,
    ca_file: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    timeout: Duration,
    patience: Duration,
    silence: Duration,
}

/// Where the token comes from, as it was said.
#[derive(Clone)]
enum Given {
    None,
    Text(String),
    File(PathBuf),
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Text(_) => "Text",
            Self::File(_) => "File",
        })
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            token: Given::None,
            ca_file: None,
            identity: None,
            timeout: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            silence: Duration::from_secs(45),
        }
    }
}

impl Builder {
    /// One more server, or several with commas between them: `http://` or
    /// `https://`, a host and perhaps a port. The first one is asked first; when one
    /// does not answer the next one is asked, and stays in use.
    pub fn server(mut self, urls: &str) -> Self {
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        self.servers.extend(urls.map(Into::into));
        self
    }

    /// The token that requests carry.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Given::Text(token.into());
        self
    }

    /// A file whose first token requests carry: one a line, lines that begin with
    /// `#` are comments. It is read for every request, so that it may be replaced.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Given::File(path.into());
        self
    }

    /// The authorities whose certificates are trusted, as PEM; the system's unless
    /// this is said.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The certificate chain and the key with which to be known, as PEM.
    pub fn client_certificate(
        mut self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// How long one server may take for one answer; 5 s unless this is said. The
    /// registry itself answers within 4 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For how long a call is begun anew while no server answers; 10 s unless this
    /// is said. So a call takes at most this, and a [`Builder::timeout`] for each
    /// server. With zero each server is asked once. Registrations and watches go on
    /// for ever.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a stream of events may be silent before it counts as lost; 45 s
    /// unless this is said. The registry says something every 30 s.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The client. Nothing is connected yet.
    ///
    /// # Errors
    /// When a URL, a file or the token cannot be used.
    pub fn build(self) -> Result<Client, BuildError> {
        if self.servers.is_empty() {
            return Err(BuildError::NoServer);
        }
        let servers: Vec<String> = self
            .servers
            .iter()
            .map(|url| origin(url).ok_or_else(|| BuildError::Url(url.clone())))
            .collect::<Result<_, _>>()?;
        let token = match self.token {
            Given::None => Token::None,
            Given::Text(text) => Token::Fixed(token::header(&text).ok_or(BuildError::Token)?),
            Given::File(path) => Token::File(path),
        };
        let tls = if servers.iter().any(|server| server.starts_with("https:")) {
            let authorities = self.ca_file.as_deref().map(tls::read).transpose()?;
            let identity = match &self.identity {
                None => None,
                Some((chain, key)) => Some((tls::read(chain)?, tls::read(key)?)),
            };
            let identity = identity.as_ref().map(|(chain, key)| (&chain[..], &key[..]));
            tls::config(authorities.as_deref(), identity)?
        } else {
            tls::none()?
        };
        Ok(Client::of(Transport::new(Setup {
            servers,
            token,
            tls,
            timeout: self.timeout,
            patience: self.patience,
            silence: self.silence,
        })))
    }
}

/// A URL without a path.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| ["http", "https"].contains(scheme))?;
    let authority = uri.authority()?;
    let host = authority.host();
    let port = match authority.port_u16() {
        None => authority.as_str().len() == host.len(),
        Some(port) => port != 0,
    };
    let plain = uri.path() == "/" && uri.query().is_none() && !url.contains(['@', '#']);
    (plain && port && !host.is_empty()).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_without_a_path() {
        for (url, expected) in [
            ("http://h", "http://h"),
            ("http://h:1/", "http://h:1"),
            ("https://[::1]:8000", "https://[::1]:8000"),
        ] {
            assert_eq!(origin(url).as_deref(), Some(expected));
        }
        for url in [
            "",
            "h",
            "h:1",
            "ws://h",
            "http://",
            "http://h/a",
            "http://h?a",
            "http://a@h",
            "http://h:0",
            "http://h:x",
            "http://h#a",
        ] {
            assert_eq!(origin(url), None, "{url}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        let built = |builder: Builder| {
            builder
                .build()
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let server = || Builder::default().server("https://h");
        let none = built(Builder::default().server(" , ")).unwrap_err();
        assert!(none.contains("at least one server"), "{none}");
        let url = built(Builder::default().server("http://a,b")).unwrap_err();
        assert!(url.starts_with("\"b\" must be http://"), "{url}");
        let token = built(server().token("a b")).unwrap_err();
        assert!(token.contains("visible ASCII"), "{token}");
        let file = built(server().ca_file("/nowhere/ca.pem")).unwrap_err();
        assert!(file.starts_with("/nowhere/ca.pem: "), "{file}");
        let empty = built(server().ca_file("/dev/null")).unwrap_err();
        assert_eq!(empty, "TLS: the CA file has no certificate");
        // Where no TLS is spoken the files do not matter.
        let plain = Builder::default()
            .server("http://a, http://b")
            .ca_file("/nowhere");
        assert_eq!(built(plain.token("t")), Ok(()));
    }

    #[test]
    fn the_token_is_not_shown() {
        let shown = format!("{:?}", Builder::default().token("secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
