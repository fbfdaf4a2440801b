//! Bearer tokens: who may call at all.

use std::fmt;
use std::path::PathBuf;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::{Choice, ConstantTimeEq};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Reload};
use crate::server::reload::{OpenError, Watched};

/// The tokens that are valid now; several, so that one can be replaced by
/// another without a gap. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// How many tokens there may be. Each is compared at each call.
    pub const MAX: usize = 64;

    /// The longest token, in bytes.
    pub const MAX_BYTES: usize = 4_096;

    /// Reads a file's text: one token a line; blank lines and lines that begin
    /// with `#` are ignored.
    ///
    /// # Errors
    /// When there is no token, or one is out of bounds.
    pub fn from_file_text(text: &str) -> Result<Self, TokenError> {
        Self::collect(text.lines().filter(|line| !line.trim().starts_with('#')))
    }

    /// Reads an environment variable's value: tokens with commas between them.
    ///
    /// # Errors
    /// When there is no token, or one is out of bounds.
    pub fn from_environment(value: &str) -> Result<Self, TokenError> {
        Self::collect(value.split(','))
    }

    fn collect<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, TokenError> {
        let mut tokens = Vec::new();
        let texts = texts.map(str::trim).filter(|text| !text.is_empty());
        for (at, text) in texts.enumerate() {
            if text.len() > Self::MAX_BYTES {
                return Err(TokenError::TooLong(at + 1, text.len()));
            }
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokenError::NotVisible(at + 1));
            }
            if at == Self::MAX {
                return Err(TokenError::TooMany);
            }
            tokens.push(text.as_bytes().into());
        }
        if tokens.is_empty() {
            return Err(TokenError::None);
        }
        Ok(Self(tokens))
    }

    /// Whether `presented` is one of them. Takes as long whichever it is, and
    /// as long for a wrong one of the same length.
    #[must_use]
    pub fn accept(&self, presented: &[u8]) -> bool {
        self.0
            .iter()
            .fold(Choice::from(0), |found, token| {
                found | token.ct_eq(presented)
            })
            .into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// Why tokens were not taken. Says which one, never what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no token is given; write one a line, or set no token source to let everybody in")]
    None,
    /// More than [`Tokens::MAX`].
    #[error("more than {max} tokens are given; remove old ones", max = Tokens::MAX)]
    TooMany,
    /// The n-th token is longer than [`Tokens::MAX_BYTES`].
    #[error("token {0} is {1} bytes long; at most {max} are allowed", max = Tokens::MAX_BYTES)]
    TooLong(usize, usize),
    /// The n-th token has a character other than visible ASCII.
    #[error(
        "token {0} has a character that is not visible ASCII; use for example `openssl rand -hex 32`"
    )]
    NotVisible(usize),
}

/// Who may call.
#[derive(Debug)]
pub struct Access(Source);

#[derive(Debug)]
enum Source {
    Everybody,
    Fixed(Tokens),
    File(Watched<Tokens>),
}

impl Access {
    /// Everybody may.
    #[must_use]
    pub fn everybody() -> Self {
        Self(Source::Everybody)
    }

    /// Whoever has one of these tokens.
    #[must_use]
    pub fn tokens(tokens: Tokens) -> Self {
        Self(Source::Fixed(tokens))
    }

    /// Whoever has one of the tokens in a file, which is read again when it
    /// changes, as long as [`Access::watch`] runs.
    ///
    /// # Errors
    /// When the file cannot be read or has no valid tokens.
    pub fn file(path: PathBuf) -> Result<Self, OpenError> {
        Watched::open(vec![path], |contents| {
            let text = contents.first().map_or("", String::as_str);
            Tokens::from_file_text(text).map_err(|error| error.to_string())
        })
        .map(|tokens| Self(Source::File(tokens)))
    }

    /// Whether a token is asked for.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        !matches!(self.0, Source::Everybody)
    }

    /// Whether `token` lets in.
    #[must_use]
    fn accept(&self, token: &[u8]) -> bool {
        match &self.0 {
            Source::Everybody => true,
            Source::Fixed(tokens) => tokens.accept(token),
            Source::File(tokens) => tokens.current().accept(token),
        }
    }

    /// Whether an HTTP request with these headers is let in:
    /// `Authorization: Bearer <token>`.
    #[must_use]
    pub fn admit_http(&self, headers: &HeaderMap) -> bool {
        !self.is_restricted() || bearer(headers).is_some_and(|token| self.accept(token))
    }

    /// Whether a gRPC call with this metadata is let in: `token`, as gost sends
    /// it, or `authorization: Bearer <token>`.
    #[must_use]
    pub fn admit_grpc(&self, metadata: &HeaderMap) -> bool {
        self.admit_http(metadata)
            || metadata
                .get("token")
                .is_some_and(|token| self.accept(token.as_bytes()))
    }

    /// Follows the token file until cancelled. Returns at once if there is none.
    pub async fn watch(&self, metrics: &Metrics, cancelled: CancellationToken) {
        if let Source::File(tokens) = &self.0 {
            tokens
                .watch("the tokens", cancelled, |outcome| {
                    if outcome.is_err() {
                        metrics.reload_failed(Reload::Tokens);
                    }
                })
                .await;
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    // RFC 9110 §11.1: the scheme is compared without case.
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        [(http::HeaderName::from_static(name), value.parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_file_has_one_token_a_line() {
        let tokens =
            Tokens::from_file_text("# new\n  first-token \r\n\n\t# old, until June\nsecond-token")
                .unwrap();
        assert!(tokens.accept(b"first-token"));
        assert!(tokens.accept(b"second-token"));
        assert!(!tokens.accept(b"first-tokem"));
        assert!(!tokens.accept(b"first-toke"));
        assert!(!tokens.accept(b"first-token "));
        assert!(!tokens.accept(b""));
        assert!(!tokens.accept(b"# new"));
    }

    #[test]
    fn the_environment_has_commas() {
        let tokens = Tokens::from_environment("first-token, second-token,").unwrap();
        assert!(tokens.accept(b"second-token"));
        assert_eq!(tokens.0.len(), 2);
    }

    #[test]
    fn bounds() {
        let parse = Tokens::from_environment;
        assert_eq!(parse(" , "), Err(TokenError::None));
        assert_eq!(Tokens::from_file_text("# none\n"), Err(TokenError::None));
        // Whoever moves here brings the token that the gosts have.
        assert!(parse("x").is_ok());
        assert!(parse(&"x".repeat(4_096)).is_ok());
        assert_eq!(
            parse(&"x".repeat(4_097)),
            Err(TokenError::TooLong(1, 4_097))
        );
        assert_eq!(parse("with a space"), Err(TokenError::NotVisible(1)));
        assert_eq!(parse("nöt-äscii"), Err(TokenError::NotVisible(1)));
        let many = |count: usize| vec!["long-enough"; count].join(",");
        assert!(parse(&many(64)).is_ok());
        assert_eq!(parse(&many(65)), Err(TokenError::TooMany));
    }

    #[test]
    fn tokens_are_never_shown() {
        let access = Access::tokens(Tokens::from_environment("secret-token").unwrap());
        assert!(!format!("{access:?}").contains("secret"));
    }

    #[test]
    fn where_a_token_is_looked_for() {
        let access = Access::tokens(Tokens::from_environment("secret-token").unwrap());
        for (value, admitted) in [
            ("Bearer secret-token", true),
            ("bearer secret-token", true),
            ("Bearer  secret-token", true),
            ("Bearer secret-tokens", false),
            ("Basic secret-token", false),
            ("secret-token", false),
            ("Bearer", false),
        ] {
            let headers = headers("authorization", value);
            assert_eq!(access.admit_http(&headers), admitted, "{value}");
            assert_eq!(access.admit_grpc(&headers), admitted, "{value}");
        }
        let token = headers("token", "secret-token");
        assert!(access.admit_grpc(&token));
        assert!(!access.admit_http(&token));
        assert!(!access.admit_grpc(&headers("token", "wrong-token")));
        assert!(!access.admit_grpc(&HeaderMap::new()));
        assert!(Access::everybody().admit_http(&HeaderMap::new()));
        assert!(Access::everybody().admit_grpc(&HeaderMap::new()));
    }
}
