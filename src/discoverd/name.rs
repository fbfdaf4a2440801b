//! The name of a service.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in bytes: as much as a label of a DNS name has (RFC 1035
/// §2.3.4).
pub const MAX_BYTES: usize = 63;

/// The name of a service: `[a-z0-9-]+`, at most [`MAX_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// Why a text is no name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no characters.
    #[error("the name of a service must not be empty")]
    Empty,
    /// It is longer than [`MAX_BYTES`].
    #[error("the name of a service may have at most {MAX_BYTES} characters")]
    TooLong,
    /// It has another character.
    #[error("the name of a service may have lower-case letters, digits and dashes only")]
    Character,
}

impl ServiceName {
    /// Reads a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(NameError::TooLong);
        }
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !text.bytes().all(fits) {
            return Err(NameError::Character);
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Arc::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_short() {
        for good in ["a", "-", "router-http", "0", &"a".repeat(63)] {
            assert_eq!(ServiceName::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Empty),
            ("A", NameError::Character),
            ("a_b", NameError::Character),
            ("a.b", NameError::Character),
            ("ä", NameError::Character),
            (&"a".repeat(64), NameError::TooLong),
        ] {
            assert_eq!(ServiceName::parse(bad), Err(why), "{bad}");
        }
        assert!(serde_json::from_str::<ServiceName>("\"A\"").is_err());
    }
}
