//! The task of a process that serves which deletes what its plan says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Revision, Stored, Write, WriteError};
use crate::controller::plan::own::{Asks, Own};
use crate::controller::plan::{Census, Due};
use crate::record::{Key, Kind, Name, Record};
use crate::registry::Registry;
use crate::time::Now;

/// How often what is due is deleted, and a store of its own asked for a sign of
/// life.
const TICK: Duration = Duration::from_secs(1);
/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Deletes under way at once.
const DELETES_AT_ONCE: usize = 256;

/// Collects until `stop`. Whoever watches the store tells the plan its changes.
pub async fn run(
    plan: Arc<Mutex<Own>>,
    backend: Arc<dyn Backend>,
    census: Arc<impl Census>,
    stop: CancellationToken,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collector = Collector {
        plan,
        backend,
        census,
        answered: None,
    };
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        if stop
            .run_until_cancelled(collector.collect())
            .await
            .is_none()
        {
            return;
        }
    }
}

struct Collector<C> {
    plan: Arc<Mutex<Own>>,
    backend: Arc<dyn Backend>,
    census: Arc<C>,
    /// When that was asked which the store answered last; none when it did not
    /// answer since.
    answered: Option<Instant>,
}

impl<C: Census> Collector<C> {
    async fn collect(&mut self) {
        // Nothing is collected on hearsay; the writer reports the outage.
        if self.ask().await.is_err() {
            self.answered = None;
            return;
        }
        let due = {
            let mut plan = self.plan.lock();
            let was_braked = plan.braked_for().is_some();
            let due = plan.take_due(Now::read().mono, &*self.census);
            tell_brake(was_braked, plan.braked_for().is_some());
            due
        };
        let mut deletes = stream::iter(due)
            .map(|due| async {
                let key = Key::Endpoint(due.key.clone());
                (delete(&*self.backend, key, due.revision).await, due)
            })
            .buffer_unordered(DELETES_AT_ONCE);
        while let Some((result, Due { key, reason, .. })) = deletes.next().await {
            match result {
                Ok(_) => {
                    tracing::debug!(endpoint = %key, reason = reason.as_str(), "collected");
                }
                // Maintained again: the watch tells.
                Err(WriteError::Conflict(_)) => {}
                Err(error @ (WriteError::Unavailable(_) | WriteError::Refused(_))) => {
                    tracing::warn!(endpoint = %key, "not collected, tried again: {error}");
                    self.plan.lock().again(&key);
                }
            }
        }
    }

    /// Asks the store for what makes time count, unless it has just been.
    async fn ask(&mut self) -> Result<(), WriteError> {
        let asks = self.plan.lock().asks();
        let asked = Now::read().mono;
        match asks {
            Asks::Sign => {
                within(self.backend.ping()).await?;
                self.plan.lock().contact(Now::read().mono, &[]);
            }
            Asks::Replicas(every) => {
                let ago = |at| asked.saturating_duration_since(at);
                if self.answered.is_some_and(|at| ago(at) < every) {
                    return Ok(());
                }
                let stored = within(self.backend.list(Kind::Replica)).await?;
                let replicas = stored.iter().filter_map(|stored| match &stored.record {
                    Record::Replica(record) => Some(Arc::clone(record)),
                    _ => None,
                });
                let replicas: Vec<_> = replicas.collect();
                let left_behind = {
                    let mut plan = self.plan.lock();
                    // What is told is as old as the question at most.
                    plan.contact(asked, &replicas);
                    plan.left_behind()
                };
                self.answered = Some(asked);
                self.clean_up(&stored, &left_behind).await;
            }
        }
        Ok(())
    }

    /// Deletes the lease of one replica that nobody needs any more: nobody is in
    /// a hurry.
    async fn clean_up(&self, stored: &[Stored], left_behind: &[Arc<str>]) {
        let left = stored.iter().find_map(|stored| match stored.record.key() {
            Key::Replica(identity) if left_behind.contains(&identity) => {
                Some((identity, stored.revision))
            }
            _ => None,
        });
        let Some((identity, revision)) = left else {
            return;
        };
        let key = Key::Replica(Arc::clone(&identity));
        match delete(&*self.backend, key, revision).await {
            Ok(_) => tracing::info!(%identity, "removed: this replica has been gone for long"),
            // It lives again.
            Err(WriteError::Conflict(_)) => {}
            Err(error) => tracing::warn!(%identity, "the lease was not removed: {error}"),
        }
    }
}

fn tell_brake(was: bool, is: bool) {
    match (was, is) {
        (false, true) => tracing::warn!(
            "many nodes fell silent together: their endpoints are kept for up to 10 minutes; look at the network between them and the registry"
        ),
        (true, false) => tracing::info!("the nodes that had fallen silent are back or gone"),
        _ => {}
    }
}

async fn delete(
    backend: &dyn Backend,
    key: Key,
    revision: Revision,
) -> Result<Revision, WriteError> {
    within(backend.write(Write::Delete(key, revision))).await
}

async fn within<T>(request: impl Future<Output = Result<T, WriteError>>) -> Result<T, WriteError> {
    let late = || WriteError::Unavailable(format!("no answer within {REQUEST_TIMEOUT:?}"));
    let result = timeout(REQUEST_TIMEOUT, request).await;
    result.unwrap_or_else(|_| Err(late()))
}

impl Census for Registry {
    fn nodes(&self) -> usize {
        Self::nodes(self)
    }

    fn endpoints_of(&self, node: &Name) -> usize {
        Self::endpoints_of(self, node)
    }
}
