//! What went wrong, what to do about it, and the exit code.

use std::io;
use std::process::ExitCode;

use tunnel_registry_client::{BuildError, Code, Error};

/// The exit code of a command that failed.
const FAILED: u8 = 1;
/// The exit code when what was asked for is not there. (2 is wrong usage.)
const NOT_FOUND: u8 = 3;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The registry was not asked, or answered no.
    #[error(transparent)]
    Call(#[from] Error),
    /// The registry cannot be asked.
    #[error(transparent)]
    Setup(#[from] BuildError),
    /// What was asked for is not there.
    #[error("{0}")]
    NotThere(String),
    /// The result cannot be printed.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// Whoever read the results has gone, which is no failure: `| head`.
    #[error("nobody reads")]
    NobodyReads,
    /// The system does not tell of signals.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// The program was not started.
    #[error("{0}: {1}")]
    Start(String, io::Error),
}

impl Problem {
    /// What to say; nothing when nobody has to know.
    pub fn text(&self) -> Option<String> {
        let what_next = match self {
            Self::NobodyReads => return None,
            Self::Call(error) => advice(error),
            _ => None,
        };
        Some(match what_next {
            Some(what_next) => format!("{self}; {what_next}"),
            None => self.to_string(),
        })
    }

    /// How the process ends. Programs that cannot be started have the codes that
    /// shells give them.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NobodyReads => ExitCode::SUCCESS,
            Self::NotThere(_) => NOT_FOUND.into(),
            Self::Call(error) if error.is_not_found() => NOT_FOUND.into(),
            Self::Start(_, error) if error.kind() == io::ErrorKind::NotFound => 127.into(),
            Self::Start(..) => 126.into(),
            _ => FAILED.into(),
        }
    }
}

/// What to do next.
fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Unreachable { .. } => Some(
            "is the registry running? --server or TUNNEL_REGISTRY_SERVER says where, --ca-file whom to trust with https",
        ),
        Error::Late { .. } => Some("--timeout gives it more time"),
        Error::Refused(refusal) => match refusal.code {
            Code::ObjectNotFound if refusal.message.starts_with("service \"") => Some(
                "`tunnel-registry get` shows the services that there are, `tunnel-registry service create` makes one",
            ),
            Code::Unauthorized => Some("--token-file or TUNNEL_REGISTRY_TOKEN names a token"),
            Code::PreconditionFailed | Code::ObjectExists if refusal.message.contains("index") => {
                Some("`tunnel-registry service meta` shows it")
            }
            _ => None,
        },
        _ => None,
    }
}
