//! What is answered to a command that is not carried out.

use std::borrow::Cow;

/// Why a command was refused: the text behind `ERROR|`. Nothing was changed, and
/// the connection stays open.
///
/// What a text adds to the words of the protocol is printable ASCII without `|`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No session has this id, or not any more.
    #[error("Invalid session")]
    InvalidSession,
    /// Not as many fields as the command has, or one that is no text, or no name.
    #[error("Invalid format")]
    InvalidFormat,
    /// There is no such command. They are in upper case.
    #[error("Unknown command")]
    UnknownCommand,
    /// The connection holds a session.
    #[error("Already registered")]
    AlreadyRegistered,
    /// Not a number from 1 to 65535 (or 0, where that means none).
    #[error("Invalid port")]
    InvalidPort,
    /// What is wrong with the route.
    #[error("Invalid route: {0}")]
    InvalidRoute(Cow<'static, str>),
    /// What is wrong with the option.
    #[error("Invalid option: {0}")]
    InvalidOption(Cow<'static, str>),
    /// What is wrong with the header.
    #[error("Invalid header: {0}")]
    InvalidHeader(Cow<'static, str>),
    /// Which domain and path another service has.
    #[error("Route conflict: {0}")]
    RouteConflict(String),
    /// What the policy does not allow to this client. The text begins with words
    /// of the protocol, so that clients take it for what they know.
    #[error("{0}")]
    NotAllowed(String),
    /// More bytes than a command may have.
    #[error("Line too long")]
    LineTooLong,
    /// A line was begun and not ended in time.
    #[error("Read timeout")]
    ReadTimeout,
    /// The store did not take it in time, or as many sessions as may be are. The
    /// client may send it again.
    #[error("Unavailable")]
    Unavailable,
}
