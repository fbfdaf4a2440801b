//! The task that deletes what the plan says.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Revision, Write, WriteError};
use crate::controller::plan::{Census, Due, Plan};
use crate::record::{EndpointKey, Key, Name};
use crate::registry::Registry;
use crate::time::Now;

/// How often the store is asked for a sign of life, and what is due deleted.
const TICK: Duration = Duration::from_secs(1);
/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Deletes under way at once.
const DELETES_AT_ONCE: usize = 256;

/// Collects until `stop`. Whoever watches the store tells the plan its changes.
pub async fn run(
    plan: Arc<Mutex<Plan>>,
    backend: Arc<dyn Backend>,
    census: Arc<impl Census>,
    stop: CancellationToken,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => collect(&plan, &*backend, &*census).await,
            () = stop.cancelled() => return,
        }
    }
}

async fn collect(plan: &Mutex<Plan>, backend: &dyn Backend, census: &impl Census) {
    match timeout(REQUEST_TIMEOUT, backend.ping()).await {
        Ok(Ok(())) => {}
        // Nothing is collected on hearsay; the writer reports the outage.
        Ok(Err(_)) | Err(_) => return,
    }
    let due = {
        let mut plan = plan.lock();
        let now = Now::read().mono;
        plan.contact(now);
        let was_braked = plan.braked_for().is_some();
        let due = plan.take_due(now, census);
        tell_brake(was_braked, plan.braked_for().is_some());
        due
    };
    let mut deletes = stream::iter(due)
        .map(|due| delete(backend, due))
        .buffer_unordered(DELETES_AT_ONCE);
    while let Some((key, result)) = deletes.next().await {
        match result {
            Ok(_) => tracing::debug!(endpoint = %key, "collected"),
            // Maintained again: the watch tells.
            Err(WriteError::Conflict(_)) => {}
            Err(error @ (WriteError::Unavailable(_) | WriteError::Refused(_))) => {
                tracing::warn!(endpoint = %key, "not collected, tried again: {error}");
                plan.lock().again(&key);
            }
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

async fn delete(backend: &dyn Backend, due: Due) -> (EndpointKey, Result<Revision, WriteError>) {
    let Due { key, revision, .. } = due;
    let write = Write::Delete(Key::Endpoint(key.clone()), revision);
    let result = timeout(REQUEST_TIMEOUT, backend.write(write)).await;
    let late = || WriteError::Unavailable(format!("no answer within {REQUEST_TIMEOUT:?}"));
    (key, result.unwrap_or_else(|_| Err(late())))
}

impl Census for Registry {
    fn nodes(&self) -> usize {
        Self::nodes(self)
    }

    fn endpoints_of(&self, node: &Name) -> usize {
        Self::endpoints_of(self, node)
    }
}
