//! Signals that end the process.

use std::io;
use std::task::Poll;

use futures::{Stream, stream};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::supervisor::Signal;

/// `SIGTERM` and `SIGINT`, from now on.
pub fn signals() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(stream::poll_fn(move |context| {
        // Both are polled, so that either wakes the task.
        if terminate.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Terminate))
        } else if interrupt.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Interrupt))
        } else {
            Poll::Pending
        }
    }))
}
