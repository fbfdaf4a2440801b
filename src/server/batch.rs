//! Runs the calls of one HTTP/2 connection, together, in its own task.
//!
//! hyper hands each call to an executor. A task for each would cost an
//! allocation more, a wake across threads and, as h2 flushes once a poll, a
//! write to the socket for each answer. Most calls need no waiting: they are
//! read from a buffer and answered from memory. So calls are collected while
//! the connection reads what has arrived, polled once when it has read it all,
//! and their answers written together. Only those that must wait (a body that
//! is not there yet, a Register whose write is not stored yet) become tasks.
//!
//! That first poll has a waker that wakes nobody, which is sound because a task
//! is polled at least once after it is spawned, with a waker of its own, and a
//! future must only remember its last one.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The calls of one connection.
#[derive(Clone, Default)]
pub(super) struct Batch(Arc<Inner>);

#[derive(Default)]
struct Inner {
    begun: Mutex<Vec<Call>>,
    waiting: TaskTracker,
    ended: CancellationToken,
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Batch {
    fn execute(&self, call: F) {
        self.0.begun.lock().push(Box::pin(call));
    }
}

impl Batch {
    /// Polls the connection, and the calls that it began, until it has nothing
    /// more to read.
    pub(super) fn poll<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        loop {
            if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let begun = mem::take(&mut *self.0.begun.lock());
            if begun.is_empty() {
                return Poll::Pending;
            }
            for mut call in begun {
                let mut nobody = Context::from_waker(Waker::noop());
                if call.as_mut().poll(&mut nobody).is_pending() {
                    let ended = self.0.ended.clone();
                    self.0.waiting.spawn(ended.run_until_cancelled_owned(call));
                }
            }
        }
    }

    /// The connection has ended: so have its calls, when this returns.
    pub(super) async fn end(&self) {
        self.0.begun.lock().clear();
        self.0.ended.cancel();
        self.0.waiting.close();
        self.0.waiting.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::pin::pin;

    use tokio::sync::oneshot;

    use super::*;

    /// Polls a connection that has begun these calls and reads nothing more.
    async fn poll_once(batch: &Batch) {
        poll_fn(|cx| {
            assert!(batch.poll(pin!(pending::<()>()), cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_call_that_need_not_wait_becomes_no_task() {
        let batch = Batch::default();
        let (done, mut is_done) = oneshot::channel();
        batch.execute(async move { done.send(()).unwrap() });
        assert!(is_done.try_recv().is_err());
        poll_once(&batch).await;
        assert!(is_done.try_recv().is_ok());
        assert!(batch.0.waiting.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_waits_is_woken() {
        let batch = Batch::default();
        let (go, going) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        batch.execute(async move {
            going.await.unwrap();
            done.send(()).unwrap();
        });
        poll_once(&batch).await;
        assert_eq!(batch.0.waiting.len(), 1);
        // Between the first poll and the task's, with nobody to wake.
        go.send(()).unwrap();
        is_done.await.unwrap();
    }

    #[tokio::test]
    async fn calls_end_with_their_connection() {
        let batch = Batch::default();
        let (held, gone) = oneshot::channel::<()>();
        batch.execute(async move {
            let _held = held;
            pending::<()>().await;
        });
        poll_once(&batch).await;
        batch.execute(ready(()));
        batch.end().await;
        assert!(gone.await.is_err());
        assert!(batch.0.waiting.is_empty());
        assert!(batch.0.begun.lock().is_empty());
    }

    #[tokio::test]
    async fn the_connection_is_polled_again_after_its_calls() {
        // A connection that begins a call when first polled and ends when next.
        let batch = Batch::default();
        let mut polls = 0;
        let connection = poll_fn(|_| {
            polls += 1;
            if polls == 1 {
                batch.execute(ready(()));
                Poll::Pending
            } else {
                Poll::Ready("ended")
            }
        });
        let mut connection = pin!(connection);
        let output = poll_fn(|cx| batch.poll(connection.as_mut(), cx)).await;
        assert_eq!(output, "ended");
    }
}
