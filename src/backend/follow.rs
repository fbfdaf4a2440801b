//! A watch that never ends: opened again, with growing waits, when it breaks.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::sleep;

use crate::backend::{Backend, Change, WatchError};
use crate::causes::Causes;
use crate::time::Now;

/// At most so many changes come together.
const BATCH: usize = 256;
/// The first and the longest wait before a broken watch is opened again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait before a store is tried again to which nobody could connect:
/// an attempt costs it nothing, and it is to be noticed soon when it is back.
pub(crate) const LONGEST_UNREACHED: Duration = Duration::from_secs(3);
/// The longest wait after the first answer of a store that was not reached
/// before: one that starts cannot answer everything at once.
const RETURNING: Duration = Duration::from_secs(1);

/// Growing pauses between attempts to watch.
#[derive(Debug)]
pub(crate) struct Pauses {
    wait: Duration,
    /// Whether nobody could connect at the last attempt.
    unreached: bool,
    random: fastrand::Rng,
}

impl Pauses {
    /// The first pause comes next.
    pub fn new() -> Self {
        Self {
            wait: FIRST_WAIT,
            unreached: false,
            random: fastrand::Rng::new(),
        }
    }

    /// An attempt went well.
    pub fn reset(&mut self) {
        self.wait = FIRST_WAIT;
    }

    /// How long to wait after an attempt that did not. Between three quarters
    /// and five quarters of the wait, so that many who lost the store together do
    /// not come back together.
    pub fn next(&mut self) -> Duration {
        if std::mem::take(&mut self.unreached) {
            self.wait = self.wait.min(RETURNING);
        }
        self.grow(LONGEST_WAIT)
    }

    /// The same after an attempt at which nobody could connect.
    pub fn next_unreached(&mut self) -> Duration {
        self.unreached = true;
        self.grow(LONGEST_UNREACHED)
    }

    fn grow(&mut self, longest: Duration) -> Duration {
        let wait = self.wait.min(longest);
        self.wait = (wait * 2).min(longest);
        wait.mul_f64(0.75 + self.random.f64() / 2.0)
    }
}

/// Everything that `backend` holds and every change, in order, for ever. After
/// each break it begins anew with a [`Change::Reset`].
#[must_use]
pub fn follow(backend: Arc<dyn Backend>) -> BoxStream<'static, Vec<Change>> {
    let follower = Follower {
        backend,
        watch: None,
        pauses: Pauses::new(),
        causes: Causes::new(),
    };
    stream::unfold(follower, |mut follower| async move {
        Some((follower.next().await, follower))
    })
    .boxed()
}

type Batches = stream::ReadyChunks<BoxStream<'static, Result<Change, WatchError>>>;

struct Follower {
    backend: Arc<dyn Backend>,
    watch: Option<Batches>,
    pauses: Pauses,
    causes: Causes,
}

impl Follower {
    async fn next(&mut self) -> Vec<Change> {
        loop {
            let backend = &self.backend;
            let watch = self
                .watch
                .get_or_insert_with(|| backend.watch().ready_chunks(BATCH));
            let batch: Result<Vec<Change>, WatchError> = match watch.next().await {
                Some(batch) => batch.into_iter().collect(),
                None => Err(WatchError("the store ended it".into())),
            };
            match batch {
                Ok(changes) => {
                    self.pauses.reset();
                    return changes;
                }
                Err(error) => {
                    let pause = self.pauses.next();
                    if self.causes.is_news(&error.0, Now::read().mono) {
                        tracing::warn!(again_in = ?pause, "{error}");
                    }
                    self.watch = None;
                    sleep(pause).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;
    use crate::backend::{Revision, Write, WriteError};
    use crate::record::Kind;

    /// A store whose every watch breaks after its first change.
    #[derive(Debug, Default)]
    struct Breaking(AtomicUsize);

    impl Backend for Breaking {
        fn write(&self, _: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
            async { Ok(Revision(0)) }.boxed()
        }
        fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            stream::iter([
                Ok(Change::Reset(Kind::Endpoint, Vec::new(), Revision(1))),
                Err(WatchError("broken".into())),
            ])
            .boxed()
        }
        fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
            async { Ok(()) }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_watch_is_opened_again_ever_more_slowly() {
        let backend = Arc::new(Breaking::default());
        let mut changes = follow(backend.clone());
        // A batch with an error in it is dropped whole: what follows repeats it.
        let waited = tokio::time::timeout(Duration::from_secs(60), changes.next()).await;
        assert!(waited.is_err());
        let opened = backend.0.load(Ordering::Relaxed);
        assert!(
            (9..20).contains(&opened),
            "opened {opened} times in a minute"
        );
    }
}
