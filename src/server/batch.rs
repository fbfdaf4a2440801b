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
//!
//! The connection in turn has a waker that is shut while its calls run: each
//! answer wakes the connection, which is polled next anyway, and tokio takes a
//! task that wakes itself for a busy one and wakes another thread to help.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The calls of one connection.
#[derive(Clone)]
pub(super) struct Batch(Arc<Inner>);

struct Inner {
    begun: Mutex<Vec<Call>>,
    waiting: TaskTracker,
    ended: CancellationToken,
    gate: Arc<Gate>,
    /// Wakes through the gate.
    waker: Waker,
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Passes wakes on unless it is shut.
#[derive(Default)]
struct Gate {
    task: AtomicWaker,
    shut: AtomicBool,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Reading by a write orders this with opening: either the gate is seen
        // open, or what this wake is about is seen by the poll after opening.
        if !self.shut.fetch_or(false, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

impl Gate {
    /// Only while the connection is sure to be polled after opening.
    fn shut(&self) {
        self.shut.swap(true, Ordering::AcqRel);
    }

    fn open(&self) {
        self.shut.swap(false, Ordering::AcqRel);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Batch {
    fn execute(&self, call: F) {
        self.0.begun.lock().push(Box::pin(call));
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        let gate = Arc::new(Gate::default());
        Self(Arc::new(Inner {
            begun: Mutex::default(),
            waiting: TaskTracker::new(),
            ended: CancellationToken::new(),
            waker: Arc::clone(&gate).into(),
            gate,
        }))
    }

    /// Polls the connection, and the calls that it began, until it has nothing
    /// more to read.
    pub(super) fn poll<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        self.0.gate.task.register(cx.waker());
        let mut gated = Context::from_waker(&self.0.waker);
        loop {
            if let Poll::Ready(output) = connection.as_mut().poll(&mut gated) {
                return Poll::Ready(output);
            }
            let begun = mem::take(&mut *self.0.begun.lock());
            if begun.is_empty() {
                return Poll::Pending;
            }
            self.0.gate.shut();
            for call in begun {
                self.run(call);
            }
            self.0.gate.open();
        }
    }

    fn run(&self, mut call: Call) {
        let mut nobody = Context::from_waker(Waker::noop());
        if call.as_mut().poll(&mut nobody).is_pending() {
            let ended = self.0.ended.clone();
            self.0.waiting.spawn(ended.run_until_cancelled_owned(call));
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
    use std::sync::atomic::AtomicUsize;

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
        let batch = Batch::new();
        let (done, mut is_done) = oneshot::channel();
        batch.execute(async move { done.send(()).unwrap() });
        assert!(is_done.try_recv().is_err());
        poll_once(&batch).await;
        assert!(is_done.try_recv().is_ok());
        assert!(batch.0.waiting.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_waits_is_woken() {
        let batch = Batch::new();
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
        let batch = Batch::new();
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

    #[test]
    fn the_connection_is_woken_by_anything_but_its_calls() {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let batch = Batch::new();
        let stored = Arc::new(Mutex::new(None::<Waker>));
        let mut polls = 0;
        let mut connection = pin!(poll_fn(|cx: &mut Context<'_>| {
            polls += 1;
            *stored.lock() = Some(cx.waker().clone());
            if polls == 1 {
                let stored = Arc::clone(&stored);
                batch.execute(async move { stored.lock().take().unwrap().wake() });
            }
            Poll::<()>::Pending
        }));
        let mut cx = Context::from_waker(&waker);
        assert!(batch.poll(connection.as_mut(), &mut cx).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        stored.lock().take().unwrap().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn the_connection_is_polled_again_after_its_calls() {
        // A connection that begins a call when first polled and ends when next.
        let batch = Batch::new();
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
