//! Where a route is: a domain and a path.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::session::host::is_label;
use crate::session::text::checked_text;

/// A domain that a proxy serves, in lower case: an RFC 1123 name, or `*.` and one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

checked_text!(Domain);

/// A text that is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a domain must be a DNS name such as api.example.com or *.example.com")]
pub struct DomainError;

impl Domain {
    /// The longest, in bytes: that of a DNS name (RFC 1035 §2.3.4).
    pub const MAX_BYTES: usize = 253;

    /// Parses a domain, without the spaces around it.
    ///
    /// # Errors
    /// When it is no DNS name.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let text = text.trim_matches([' ', '\t']);
        let name = text.strip_prefix("*.").unwrap_or(text);
        let valid =
            text.len() <= Self::MAX_BYTES && name.split('.').all(|label| is_label(label, b"-"));
        if valid {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(DomainError)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The front of the paths that a route serves: `/` or `/a/b`, without a slash at
/// its end, because proxies take `/a` and `/a/` for one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Arc<str>);

checked_text!(Path);

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Something else comes first.
    #[error("a path must start with /")]
    NoSlash,
    /// More than [`Path::MAX_BYTES`].
    #[error("a path must have at most {max} bytes", max = Path::MAX_BYTES)]
    TooLong,
    /// What RFC 3986 §3.3 does not have in a path.
    #[error("a path must have letters, digits, -._~!$&'()*+,;=:@/ and %XX only")]
    Character,
    /// A proxy would see another path than a backend.
    #[error("a path must be without //, /./, /../ and %2F")]
    Ambiguous,
}

impl Path {
    /// The longest, in bytes: that of a path in the Gateway API.
    pub const MAX_BYTES: usize = 1_024;

    /// Parses a path.
    ///
    /// # Errors
    /// When it is not one, or not the same to everybody.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if !text.starts_with('/') {
            return Err(PathError::NoSlash);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(PathError::TooLong);
        }
        if !has_path_characters(text) {
            return Err(PathError::Character);
        }
        let dots = text.split('/').any(|part| part == "." || part == "..");
        let slash = text.to_ascii_lowercase().contains("%2f");
        if dots || slash || text.contains("//") {
            return Err(PathError::Ambiguous);
        }
        Ok(Self(match text.strip_suffix('/') {
            None => text.into(),
            Some("") => "/".into(),
            Some(text) => text.into(),
        }))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a path may consist of this (RFC 3986 §3.3).
pub(super) fn has_path_characters(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..]
                if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte) =>
            {
                rest
            }
            _ => return false,
        }
    }
}

/// What one service has at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The domain.
    pub domain: Domain,
    /// The front of the paths.
    pub path: Path,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.domain, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_trimmed_and_in_lower_case() {
        for (text, domain) in [
            (" API.Example.com ", "api.example.com"),
            ("*.example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(Domain::parse(text).unwrap().as_str(), domain);
        }
        for text in [
            "",
            "*",
            "*.",
            "a.*.b",
            "**.a",
            "a..b",
            "a.",
            "a_b.c",
            "-a.b",
            "a.com:80",
            "a/b",
            "a b",
            "é.com",
            &"x".repeat(64),
            &vec!["x".repeat(63); 4].join("."),
        ] {
            assert_eq!(Domain::parse(text), Err(DomainError), "{text:?}");
        }
    }

    #[test]
    fn paths_mean_the_same_to_everybody() {
        for (text, path) in [
            ("/", "/"),
            ("/v2", "/v2"),
            ("/v2/", "/v2"),
            ("/a.b/..c/%20", "/a.b/..c/%20"),
        ] {
            assert_eq!(Path::parse(text).unwrap().as_str(), path);
        }
        for (text, error) in [
            ("", PathError::NoSlash),
            ("v2", PathError::NoSlash),
            ("/a b", PathError::Character),
            ("/a?b", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a`b", PathError::Character),
            ("/a%2", PathError::Character),
            ("/a%zz", PathError::Character),
            ("/é", PathError::Character),
            ("//", PathError::Ambiguous),
            ("/a//b", PathError::Ambiguous),
            ("/a/../b", PathError::Ambiguous),
            ("/.", PathError::Ambiguous),
            ("/a%2Fb", PathError::Ambiguous),
        ] {
            assert_eq!(Path::parse(text), Err(error), "{text:?}");
        }
        let longest = format!("/{}", "x".repeat(Path::MAX_BYTES - 1));
        assert!(Path::parse(&longest).is_ok());
        assert_eq!(Path::parse(&(longest + "x")), Err(PathError::TooLong));
    }
}
