//! Tokens that callers present.

use std::ffi::OsStr;
use std::fmt;

/// A token that callers present. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The longest token, in bytes: what fits a request header with ease.
    pub const MAX_BYTES: usize = 4096;

    /// Parses a token.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character that a header would not carry.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() {
            Err(TokenError::Empty)
        } else if text.len() > Self::MAX_BYTES {
            Err(TokenError::TooLong(text.len()))
        } else if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError::NotPrintable)
        }
    }

    /// The token itself, to compare with. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a text is no token. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing was given.
    #[error("has an empty token; remove it, or unset what holds it")]
    Empty,
    /// More bytes than [`Token::MAX_BYTES`].
    #[error("has a token of {0} bytes; at most {max} are allowed", max = Token::MAX_BYTES)]
    TooLong(usize),
    /// A space, a control character, or not ASCII.
    #[error("has a token with a character that is not printable ASCII, or a space")]
    NotPrintable,
}

/// The tokens of a list that is separated by commas; white space around them
/// does not count.
pub(super) fn list(text: &OsStr) -> Result<Vec<Token>, TokenError> {
    text.to_str()
        .ok_or(TokenError::NotPrintable)?
        .split(',')
        .map(|token| Token::parse(token.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_split_at_commas() {
        let tokens = list(OsStr::new("a, b/c=\n")).unwrap();
        let tokens: Vec<_> = tokens.iter().map(Token::expose).collect();
        assert_eq!(tokens, ["a", "b/c="]);
    }

    #[test]
    fn what_a_header_does_not_carry_is_no_token() {
        for (text, error) in [
            ("", TokenError::Empty),
            ("a,,b", TokenError::Empty),
            ("a b", TokenError::NotPrintable),
            ("a\u{7f}", TokenError::NotPrintable),
            ("schlüssel", TokenError::NotPrintable),
        ] {
            assert_eq!(list(OsStr::new(text)), Err(error), "{text:?}");
        }
        let longest = "x".repeat(Token::MAX_BYTES);
        assert!(Token::parse(&longest).is_ok());
        assert_eq!(
            Token::parse(&(longest + "x")),
            Err(TokenError::TooLong(Token::MAX_BYTES + 1))
        );
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = Token::parse("secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
