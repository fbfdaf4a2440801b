//! Headers that are added to the responses of a session's routes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::session::problem::Problem;
use crate::session::text::{checked_text, is_printable};

/// The name of a header: a token (RFC 9110 §5.6.2) that a proxy may set.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderName(Arc<str>);

checked_text!(HeaderName);

/// The value of a header: printable ASCII, without a space at either end.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderValue(Arc<str>);

checked_text!(HeaderValue);

/// Why a text is no name or value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a token of 1 to [`HeaderName::MAX_BYTES`].
    #[error("a name must be 1 to {max} letters, digits and !#$%&'*+-.^_`~", max = HeaderName::MAX_BYTES)]
    Name,
    /// Another value would break the response.
    #[error("this one is the proxy's own to set")]
    Reserved,
    /// Not printable, or not 1 to [`HeaderValue::MAX_BYTES`].
    #[error("a value must be 1 to {max} printable ASCII characters", max = HeaderValue::MAX_BYTES)]
    Value,
}

/// How a message is delimited and a connection kept (RFC 9110 §7.6.1, RFC 9112
/// §6): not for a session to tell.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HeaderName {
    /// The longest, in bytes: that of the Gateway API.
    pub const MAX_BYTES: usize = 256;

    /// Parses the name of a header.
    ///
    /// # Errors
    /// When it is no token, or one that a session may not set.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`~".contains(&byte);
        if !(1..=Self::MAX_BYTES).contains(&text.len()) || !text.bytes().all(token) {
            return Err(HeaderError::Name);
        }
        if RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(HeaderError::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The text, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the same header: names are compared without case.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl HeaderValue {
    /// The longest, in bytes: that of the Gateway API.
    pub const MAX_BYTES: usize = 4_096;

    /// Parses the value of a header, without the spaces around it.
    ///
    /// # Errors
    /// When nothing is left, or not everything can be printed.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let text = text.trim_matches(' ');
        if (1..=Self::MAX_BYTES).contains(&text.len()) && is_printable(text) {
            Ok(Self(text.into()))
        } else {
            Err(HeaderError::Value)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What `HEADER` announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderValue,
}

impl Header {
    /// Parses the fields of `HEADER`.
    ///
    /// # Errors
    /// [`Problem::InvalidHeader`].
    pub fn parse(name: &str, value: &str) -> Result<Self, Problem> {
        let invalid = |error: HeaderError| Problem::InvalidHeader(error.to_string().into());
        Ok(Self {
            name: HeaderName::parse(name).map_err(invalid)?,
            value: HeaderValue::parse(value).map_err(invalid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_tokens_with_printable_values() {
        let header = Header::parse("X-API-Version", " 2.0; a=\"b\" ").unwrap();
        assert_eq!(header.name.as_str(), "X-API-Version");
        assert_eq!(header.value.as_str(), "2.0; a=\"b\"");
        assert!(header.name.is(&HeaderName::parse("x-api-version").unwrap()));
        for (name, value, error) in [
            ("", "v", HeaderError::Name),
            ("a b", "v", HeaderError::Name),
            ("a:", "v", HeaderError::Name),
            ("é", "v", HeaderError::Name),
            (&"x".repeat(257), "v", HeaderError::Name),
            ("Content-Length", "0", HeaderError::Reserved),
            ("transfer-encoding", "chunked", HeaderError::Reserved),
            ("a", "", HeaderError::Value),
            ("a", "  ", HeaderError::Value),
            ("a", "x\ty", HeaderError::Value),
            ("a", "é", HeaderError::Value),
            ("a", "\u{7f}", HeaderError::Value),
            ("a", &"x".repeat(4_097), HeaderError::Value),
        ] {
            let problem = Problem::InvalidHeader(error.to_string().into());
            assert_eq!(
                Header::parse(name, value),
                Err(problem),
                "{name:?} {value:?}"
            );
        }
        assert!(Header::parse(&"x".repeat(256), &"x".repeat(4_096)).is_ok());
    }
}
