//! Signals that end the process.

use std::fmt;
use std::io;
use std::task::Poll;

use futures::{Stream, stream};
use tokio::signal::unix::{SignalKind, signal};

/// A request of the system that the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`, as from Ctrl-C.
    Interrupt,
    /// `SIGTERM`.
    Terminate,
    /// `SIGHUP`, as when the terminal closes.
    Hangup,
}

impl Signal {
    /// The exit code of a process that this signal ended: 128 + its number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Hangup => 129,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        })
    }
}

/// `SIGTERM`, `SIGINT` and `SIGHUP`, from now on. The last ends the process in
/// order as the others do: what could be read anew is, without being asked.
///
/// # Errors
/// When the system does not tell of them.
pub fn signals() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(stream::poll_fn(move |context| {
        // All are polled, so that each wakes the task.
        if terminate.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Terminate))
        } else if interrupt.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Interrupt))
        } else if hangup.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Hangup))
        } else {
            Poll::Pending
        }
    }))
}
