//! Why something was not done.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry answered no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No connection to any server came about.
    #[error("cannot connect to {servers}: {reason}")]
    Unreachable {
        /// The URLs that were tried, with commas between them.
        servers: String,
        /// Why, of the last one.
        reason: String,
    },
    /// A server did not answer in time. The request may have been carried out.
    #[error("{server} did not answer within {after:?}")]
    Late {
        /// Its URL.
        server: String,
        /// How long it had.
        after: Duration,
    },
    /// A connection was lost. A request may have been carried out.
    #[error("the connection to {server} was lost: {reason}")]
    Lost {
        /// The server's URL.
        server: String,
        /// How.
        reason: String,
    },
    /// What answers is not the registry, or not one that this client understands.
    #[error(
        "{server} answered {status} with what is not of this API ({text:?}); is it the registry's --listen address?"
    )]
    Foreign {
        /// Its URL.
        server: String,
        /// The status of the answer.
        status: StatusCode,
        /// How the answer begins, or what is wrong with it.
        text: String,
    },
    /// This is no name of a service.
    #[error("{0:?} is no name of a service: 1 to 63 lower-case letters, digits and dashes are one")]
    Name(String),
    /// This is no id of an instance.
    #[error("{0:?} is no id of an instance: 32 lower-case hexadecimal digits are one")]
    Id(String),
    /// The token cannot be read or sent.
    #[error("the token file {0}: {1}")]
    Token(PathBuf, String),
    /// The registration has been ended: nothing keeps it any more.
    #[error("the registration has been ended")]
    Ended,
}

/// The registry's no.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// What it is about, for programs.
    pub code: Code,
    /// The same for people.
    pub message: String,
    /// More about it, if there is more.
    pub detail: Option<Value>,
    /// Whether the same request may be carried out later.
    pub retry: bool,
}

/// What a refusal is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// There is no such thing.
    ObjectNotFound,
    /// There is one already.
    ObjectExists,
    /// What was asked for is out of bounds.
    ValidationError,
    /// The body is not what it should be.
    SyntaxError,
    /// Somebody else was faster.
    PreconditionFailed,
    /// There is no valid token.
    Unauthorized,
    /// Anything else.
    UnknownError,
    /// A code that this client does not know.
    #[serde(untagged)]
    Other(String),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The body of a refusal.
#[derive(Deserialize)]
struct Body {
    code: Code,
    message: String,
    detail: Option<Value>,
    #[serde(default)]
    retry: bool,
}

/// How much of an answer that is not understood is shown, in characters.
const SHOWN: usize = 100;

impl Error {
    /// What an answer other than 200 says.
    pub(crate) fn of_answer(server: &str, status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => Self::Refused(Refusal {
                status,
                code: body.code,
                message: body.message,
                detail: body.detail,
                retry: body.retry,
            }),
            Err(_) => Self::Foreign {
                server: server.to_owned(),
                status,
                text: String::from_utf8_lossy(body).chars().take(SHOWN).collect(),
            },
        }
    }

    /// An answer of 200 that is not what it should be.
    pub(crate) fn of_body(server: &str, error: &impl fmt::Display) -> Self {
        Self::Foreign {
            server: server.to_owned(),
            status: StatusCode::OK,
            text: error.to_string().chars().take(SHOWN).collect(),
        }
    }

    /// The loss of a connection, from the causes that an error has.
    pub(crate) fn lost(server: &str, error: &dyn std::error::Error) -> Self {
        Self::Lost {
            server: server.to_owned(),
            reason: causes(error),
        }
    }

    fn has(&self, code: &Code) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == *code)
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.has(&Code::ObjectNotFound)
    }

    /// Whether what was to be made is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.has(&Code::ObjectExists)
    }

    /// Whether a compare-and-swap found something else than was expected: read
    /// again, and decide again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.has(&Code::ObjectExists) || self.has(&Code::PreconditionFailed)
    }

    /// Whether the same may succeed later, or at another server.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.retry,
            Self::Unreachable { .. } | Self::Late { .. } | Self::Lost { .. } => true,
            // What stands before the registry, while that is away.
            Self::Foreign { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Name(_) | Self::Id(_) | Self::Token(..) | Self::Ended => false,
        }
    }

    /// Whether the request was certainly not carried out.
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Late { .. } | Self::Lost { .. } | Self::Foreign { .. } => false,
            // 503: the store may take it yet.
            Self::Refused(refusal) => refusal.status != StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable { .. }
            | Self::Name(_)
            | Self::Id(_)
            | Self::Token(..)
            | Self::Ended => true,
        }
    }
}

/// An error with what it came from, which the outer ones do not always name.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        next = cause.source();
    }
    text
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no server.
    #[error("name at least one server, such as http://127.0.0.1:8000")]
    NoServer,
    /// A server's URL is none, or has more than a scheme, a host and a port.
    #[error("{0:?} must be http:// or https:// with a host and perhaps a port")]
    Url(String),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The certificates or the key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The token has a character that cannot be sent.
    #[error("the token has a character that is not visible ASCII")]
    Token,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Error {
        Error::of_answer("http://s", status.try_into().unwrap(), body.as_bytes())
    }

    #[test]
    fn refusals_are_typed() {
        let error = answered(
            412,
            r#"{"code":"precondition_failed","message":"m","detail":{"a":1},"retry":false}"#,
        );
        assert!(error.is_conflict() && !error.is_exists() && !error.is_temporary());
        assert_eq!(error.to_string(), "m");
        assert!(matches!(&error, Error::Refused(refusal) if refusal.detail.is_some()));
        assert!(answered(404, r#"{"code":"object_not_found","message":"m"}"#).is_not_found());
        let busy = r#"{"code":"unknown_error","message":"m","retry":true}"#;
        assert!(answered(429, busy).is_unsent() && answered(429, busy).is_temporary());
        assert!(!answered(503, busy).is_unsent() && answered(503, busy).is_temporary());
        let new = answered(409, r#"{"code":"conflict","message":"m","retry":false}"#);
        match new {
            Error::Refused(refusal) => assert_eq!(refusal.code.to_string(), "conflict"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_registry_is_told_and_quoted_in_short() {
        let error = answered(404, &format!("<html>{}", "x".repeat(1_000)));
        assert!(!error.is_not_found() && !error.is_temporary());
        let text = error.to_string();
        assert!(text.contains("--listen") && text.len() < 300, "{text}");
        assert!(answered(502, "bad gateway").is_temporary());
    }
}
