//! Names of tunnels, nodes and connectors.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The name of a tunnel, a node or a connector: 1 to [`Name::MAX_BYTES`]
/// printable ASCII characters, without white space at either end.
///
/// gost's are UUIDs. Those are compared without case and printed in lower case
/// (RFC 9562 §4), and take 16 bytes instead of 36. Anything else is kept and
/// compared as it was given.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    Text(Arc<str>),
}

/// Length of a UUID in its canonical, hyphenated form.
const UUID_TEXT: usize = uuid::fmt::Hyphenated::LENGTH;

impl Name {
    /// The longest name, in bytes. As long as a DNS name may be (RFC 1035
    /// §2.3.4 in presentation form), since some users name tunnels by host.
    pub const MAX_BYTES: usize = 253;

    /// Parses a name.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character that is not printable ASCII.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        if text.len() == UUID_TEXT
            && let Ok(uuid) = Uuid::try_parse(text)
        {
            return Ok(Self(Repr::Uuid(uuid)));
        }
        if let Some(at) = text.bytes().position(|b| !(b' '..=b'~').contains(&b)) {
            return Err(NameError::NotPrintable(at));
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(NameError::Padded);
        }
        Ok(Self(Repr::Text(text.into())))
    }

    /// The name as text. UUIDs are written into `buffer`.
    pub fn text<'a>(&'a self, buffer: &'a mut NameBuffer) -> &'a str {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.hyphenated().encode_lower(&mut buffer.0),
            Repr::Text(text) => text,
        }
    }
}

/// Room for the text of a UUID, so that [`Name::text`] allocates nothing.
#[derive(Debug)]
pub struct NameBuffer([u8; UUID_TEXT]);

impl Default for NameBuffer {
    fn default() -> Self {
        Self([0; UUID_TEXT])
    }
}

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("is missing or empty")]
    Empty,
    /// More bytes than [`Name::MAX_BYTES`].
    #[error("is {0} bytes long; at most {max} are allowed", max = Name::MAX_BYTES)]
    TooLong(usize),
    /// A byte outside printable ASCII, at this offset.
    #[error("has a character at byte {0} that is not printable ASCII")]
    NotPrintable(usize),
    /// White space at an end.
    #[error("begins or ends with a space; remove it")]
    Padded,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text(&mut NameBuffer::default()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(&mut NameBuffer::default()), f)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut NameBuffer::default()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_compared_without_case_and_printed_in_lower_case() {
        let lower = Name::parse("c9ef8f8c-d687-4dca-be7a-1467b6565404").unwrap();
        let upper = Name::parse("C9EF8F8C-D687-4DCA-BE7A-1467B6565404").unwrap();
        assert_eq!(lower, upper);
        assert_eq!(upper.to_string(), "c9ef8f8c-d687-4dca-be7a-1467b6565404");
    }

    #[test]
    fn other_names_keep_their_case() {
        let name = Name::parse("Office Printer").unwrap();
        assert_eq!(name.to_string(), "Office Printer");
        assert_ne!(name, Name::parse("office printer").unwrap());
    }

    #[test]
    fn only_the_hyphenated_form_is_a_uuid() {
        let simple = Name::parse("C9EF8F8CD6874DCABE7A1467B6565404").unwrap();
        assert_eq!(simple.to_string(), "C9EF8F8CD6874DCABE7A1467B6565404");
    }

    #[test]
    fn bounds() {
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert!(Name::parse(&"x".repeat(253)).is_ok());
        assert_eq!(Name::parse(&"x".repeat(254)), Err(NameError::TooLong(254)));
        assert_eq!(Name::parse("a\nb"), Err(NameError::NotPrintable(1)));
        assert_eq!(Name::parse("a\u{7f}"), Err(NameError::NotPrintable(1)));
        assert_eq!(Name::parse("é"), Err(NameError::NotPrintable(0)));
        assert_eq!(Name::parse(" a"), Err(NameError::Padded));
    }

    #[test]
    fn a_name_is_small() {
        assert!(size_of::<Name>() <= 24);
    }
}
