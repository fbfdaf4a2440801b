//! Why a request was not done: one list for both protocols, so that both say
//! the same.

use std::time::Duration;

use http::StatusCode;
use tonic::Code;

use crate::gost::MAX_BODY_BYTES;
use crate::metrics::Outcome;
use crate::record::{AddressError, NameError, endpoint::NetworkError};
use crate::registry::Refusal;

/// Why a request was not done. The text says what is wrong and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A name of a connector, tunnel or node.
    #[error("`{0}` {1}")]
    Name(&'static str, NameError),
    /// The network.
    #[error("`network` {0}")]
    Network(NetworkError),
    /// The address.
    #[error("`address` {0}")]
    Address(AddressError),
    /// The request could not be read.
    #[error("{0}")]
    Malformed(String),
    /// More than [`MAX_BODY_BYTES`].
    #[error("the request is larger than {MAX_BODY_BYTES} bytes; send one service a request")]
    TooLarge,
    /// The body did not arrive in time.
    #[error("the request did not arrive within {0:?}; send it faster")]
    Slow(Duration),
    /// The body broke off.
    #[error("the request's body broke off")]
    Broken,
    /// No valid token.
    #[error(
        "no valid token was sent; set `token` in gost's plugin to one of the registry's (HTTP: `Authorization: Bearer …`, gRPC: metadata `token`)"
    )]
    Unauthenticated,
    /// A gRPC message with a compression that is not understood.
    #[error("the message is compressed; send it as it is (grpc-encoding: identity)")]
    Compressed,
    /// No such gRPC method.
    #[error(
        "there is no method {0}; the service is proto.SD with Register, Renew, Deregister and Get"
    )]
    NoMethod(String),
    /// No such path.
    #[error("there is nothing at this path; the registry is at /sd, as in http://host:port/sd")]
    NoPath,
    /// No such method at this path.
    #[error("{0} is not understood here; use POST, PUT, DELETE or GET with ?name=")]
    NoVerb(String),
    /// The registry refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Denial {
    /// How it is counted.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Unauthenticated => Outcome::Unauthenticated,
            Self::Slow(_) => Outcome::TimedOut,
            Self::Refused(Refusal::NotReady) => Outcome::Unavailable,
            Self::Refused(_) => Outcome::Exhausted,
            _ => Outcome::Invalid,
        }
    }

    /// How it is told over HTTP.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NoPath | Self::NoMethod(_) => StatusCode::NOT_FOUND,
            Self::NoVerb(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(Refusal::NotReady) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Name(..)
            | Self::Network(_)
            | Self::Address(_)
            | Self::Malformed(_)
            | Self::Broken
            | Self::Compressed => StatusCode::BAD_REQUEST,
        }
    }

    /// How it is told over gRPC.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::NoPath | Self::NoMethod(_) | Self::NoVerb(_) | Self::Compressed => {
                Code::Unimplemented
            }
            Self::Slow(_) => Code::DeadlineExceeded,
            Self::Refused(Refusal::NotReady) => Code::Unavailable,
            Self::TooLarge | Self::Refused(_) => Code::ResourceExhausted,
            Self::Name(..)
            | Self::Network(_)
            | Self::Address(_)
            | Self::Malformed(_)
            | Self::Broken => Code::InvalidArgument,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_tell_the_same_in_their_way() {
        for (denial, status, code, outcome) in [
            (
                Denial::Name("id", NameError::Empty),
                400,
                Code::InvalidArgument,
                Outcome::Invalid,
            ),
            (
                Denial::Network(NetworkError),
                400,
                Code::InvalidArgument,
                Outcome::Invalid,
            ),
            (
                Denial::Unauthenticated,
                401,
                Code::Unauthenticated,
                Outcome::Unauthenticated,
            ),
            (
                Denial::Slow(Duration::ZERO),
                408,
                Code::DeadlineExceeded,
                Outcome::TimedOut,
            ),
            (
                Denial::TooLarge,
                413,
                Code::ResourceExhausted,
                Outcome::Invalid,
            ),
            (
                Refusal::TunnelFull(1).into(),
                429,
                Code::ResourceExhausted,
                Outcome::Exhausted,
            ),
            (
                Refusal::NodeFull(1).into(),
                429,
                Code::ResourceExhausted,
                Outcome::Exhausted,
            ),
            (
                Refusal::Full(1).into(),
                429,
                Code::ResourceExhausted,
                Outcome::Exhausted,
            ),
            (
                Refusal::QueueFull(1).into(),
                429,
                Code::ResourceExhausted,
                Outcome::Exhausted,
            ),
            (
                Refusal::NotReady.into(),
                503,
                Code::Unavailable,
                Outcome::Unavailable,
            ),
        ] {
            assert_eq!(denial.status().as_u16(), status, "{denial}");
            assert_eq!(denial.code(), code, "{denial}");
            assert_eq!(denial.outcome(), outcome, "{denial}");
        }
    }

    #[test]
    fn the_field_is_named() {
        let text = Denial::Name("node", NameError::Empty).to_string();
        assert_eq!(text, "`node` is missing or empty");
        let text = Denial::Address(AddressError::Empty).to_string();
        assert!(
            text.starts_with("`address` is empty; set `entrypoint`"),
            "{text}"
        );
    }
}
