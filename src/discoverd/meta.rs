//! The meta data of a service: any JSON, kept as it was given.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The longest meta data of a service, in bytes without the space in it.
pub const MAX_BYTES: usize = 65_536;

/// A JSON text on one line, without space between its parts. Numbers stay as they
/// were written. In a record it is a text.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

/// The meta data is longer than [`MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`data` has more than {MAX_BYTES} bytes")]
pub struct TooLong;

impl Json {
    /// Takes a JSON text.
    ///
    /// # Errors
    /// When it is longer than it may be.
    pub fn new(raw: &RawValue) -> Result<Self, TooLong> {
        let text = on_one_line(raw.get());
        if text.len() > MAX_BYTES {
            return Err(TooLong);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Leaves out the space between the parts of a JSON text (RFC 8259 §2): an event
/// is one line.
fn on_one_line(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    text.chars()
        .filter(|character| {
            if in_string {
                match character {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => in_string = false,
                    _ => {}
                }
                return true;
            }
            in_string = *character == '"';
            !matches!(character, ' ' | '\t' | '\n' | '\r')
        })
        .collect()
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let raw = RawValue::from_string(text).map_err(serde::de::Error::custom)?;
        Self::new(&raw).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::new(&RawValue::from_string(text.into()).unwrap()).unwrap()
    }

    #[test]
    fn it_is_kept_as_it_was_given_on_one_line() {
        for (given, kept) in [
            (
                "{ \"b\" : 1.0,\r\n\t\"a\": [ 1 , 2 ] }",
                "{\"b\":1.0,\"a\":[1,2]}",
            ),
            (r#"" a \" b \\" "#, r#"" a \" b \\""#),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("null", "null"),
        ] {
            assert_eq!(json(given).as_str(), kept);
        }
    }

    #[test]
    fn it_is_bounded_and_checked_when_it_is_read() {
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert_eq!(json(&text(MAX_BYTES)).as_str().len(), MAX_BYTES);
        let long = RawValue::from_string(text(MAX_BYTES + 1)).unwrap();
        assert_eq!(Json::new(&long), Err(TooLong));
        let stored = serde_json::to_string(&json("{\"a\": 1}")).unwrap();
        assert_eq!(stored, r#""{\"a\":1}""#);
        assert_eq!(
            serde_json::from_str::<Json>(&stored).unwrap(),
            json("{\"a\":1}")
        );
        assert!(serde_json::from_str::<Json>("\"{\"").is_err());
    }
}
