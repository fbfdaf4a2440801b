//! Signals that end the process.

use std::io;
use std::task::Poll;

use futures::{Stream, stream};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::supervisor::Signal;

/// `SIGTERM`, `SIGINT` and `SIGHUP`, from now on. The last ends the process in
/// order as the others do: what could be read anew is, without being asked.
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
