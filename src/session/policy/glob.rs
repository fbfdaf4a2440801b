//! Patterns in which `*` stands for any text.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

/// A pattern: every `*` stands for any text, also for none; all else for itself.
///
/// So `*.example.com` is every name under example.com, whatever its depth, and
/// the domain `*.example.com` itself, but not `example.com`. No pattern covers a
/// wildcard domain without covering what that stands for: a `*` in a name can
/// only be covered by one in the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Arc<str>);

impl Glob {
    /// The longest pattern, in bytes.
    pub const MAX_BYTES: usize = 1_024;

    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty or too long; the text says so.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => Err("a pattern is empty; write * for anything".into()),
            1..=Self::MAX_BYTES => Ok(Self(text.into())),
            _ => Err(format!("a pattern has more than {} bytes", Self::MAX_BYTES)),
        }
    }

    /// Whether a domain can be of this pattern, as far as its characters and dots
    /// tell.
    ///
    /// # Errors
    /// When none can; the text says why.
    pub fn check_domain(&self) -> Result<(), String> {
        let text = &*self.0;
        let is_in_domains =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.*".contains(&byte);
        let why = if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            "domains are in lower case"
        } else if !text.bytes().all(is_in_domains) {
            "domains have letters, digits, hyphens and dots only"
        } else if text.starts_with('.') || text.ends_with('.') || text.contains("..") {
            "domains have no dot at either end, nor two in a row"
        } else {
            return Ok(());
        };
        Err(format!("{text:?} can never match: {why}"))
    }

    /// Whether a text is of this pattern. Takes at most as many steps as the
    /// product of both lengths.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last star was, and how much of the text it stands for.
        let mut star = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((at, from)) = star else {
                        return false;
                    };
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a"),
            ("a", "a"),
            ("a*", "a"),
            ("a*c", "abc"),
            ("a*c", "acbc"),
            ("*.example.com", "a.example.com"),
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", "*.example.com"),
            ("*.com", "*.example.com"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", ""),
            ("a", "ab"),
            ("a*c", "ab"),
            ("*.example.com", "example.com"),
            ("*.example.com", "*.com"),
            ("a*.example.com", "*.example.com"),
            ("*.example.com", "a.example.com."),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(Glob::parse("").is_err() && Glob::parse(&"x".repeat(1_025)).is_err());
    }

    #[test]
    fn what_no_domain_can_be_is_told() {
        for pattern in ["*", "a.com", "*.a-1.com", "a*.com", "*.*.com", "**"] {
            assert_eq!(Glob::parse(pattern).unwrap().check_domain(), Ok(()));
        }
        for (pattern, says) in [
            ("A.com", "lower case"),
            ("a_b.com", "letters, digits"),
            ("a.com:80", "letters, digits"),
            ("a.com/x", "letters, digits"),
            ("é.com", "letters, digits"),
            (" a.com", "letters, digits"),
            (".a.com", "no dot"),
            ("a.com.", "no dot"),
            ("a..com", "no dot"),
        ] {
            let error = Glob::parse(pattern).unwrap().check_domain().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    /// The definition, in the plainest way.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| defined(rest, &text[at..])),
            ([byte, rest @ ..], [first, text @ ..]) => byte == first && defined(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn as_it_is_defined(pattern in "[ab.*]{1,8}", text in "[ab.*]{0,10}") {
            let expected = defined(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }
}
