//! The one task that writes to the store what the registry wants there.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Revision, WriteError};
use crate::causes::Causes;
use crate::registry::Registry;
use crate::registry::sync::Made;
use crate::time::Now;

/// A write that takes longer counts as not made, and is tried again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Looks for due writes at least this often.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Writes until `stop`, then until nothing is left or `flush` has passed.
/// Returns how many writes were left.
pub async fn run(
    registry: Arc<Registry>,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
    flush: Duration,
) -> usize {
    let at_once = backend.writes_at_once();
    let mut under_way = FuturesUnordered::new();
    let mut deadline = None;
    let mut causes = Causes::new();
    loop {
        for (made, write) in registry.take_writes(at_once - under_way.len()) {
            let write = backend.write(write);
            under_way.push(async move {
                let late =
                    || WriteError::Unavailable(format!("no answer within {WRITE_TIMEOUT:?}"));
                let result = timeout(WRITE_TIMEOUT, write).await;
                (made, result.unwrap_or_else(|_| Err(late())))
            });
        }
        if stop.is_cancelled() {
            let left = registry.waiting_writes();
            let until = *deadline.get_or_insert_with(|| Instant::now() + flush);
            if left == 0 || Instant::now() >= until {
                return left;
            }
        }
        let rest = Instant::now() + LONGEST_REST;
        let wake = registry.next_write_due().map_or(rest, Instant::from_std);
        tokio::select! {
            Some(first) = under_way.next() => {
                let mut ended = vec![first];
                while let Some(Some(next)) = futures::FutureExt::now_or_never(under_way.next()) {
                    ended.push(next);
                }
                report(&ended, &mut causes);
                registry.written(&ended);
            }
            () = registry.write_wanted() => {}
            // Due already but not handed out means: as many as may be are under way.
            () = sleep_until(wake), if under_way.len() < at_once => {}
            () = stop.cancelled(), if deadline.is_none() => {}
            () = sleep_until(deadline.unwrap_or(rest)), if deadline.is_some() => {}
        }
    }
}

fn report(ended: &[(Made, Result<Revision, WriteError>)], causes: &mut Causes) {
    let now = Now::read().mono;
    // One line for those that failed together.
    let unavailable = ended
        .iter()
        .filter_map(|(_, result)| match result {
            Err(WriteError::Unavailable(why)) => Some(why),
            _ => None,
        })
        .collect::<Vec<_>>();
    if let Some(why) = unavailable.first()
        && causes.is_news(why, now)
    {
        tracing::warn!(
            writes = unavailable.len(),
            "the store takes no writes, they are kept and tried again: {why}"
        );
    }
    for (made, result) in ended {
        if let Err(WriteError::Refused(why)) = result
            && causes.is_news(&format!("{}: {why}", made.key), now)
        {
            tracing::warn!(endpoint = %made.key, "the store refused the record, it is tried again: {why}");
        }
    }
}
