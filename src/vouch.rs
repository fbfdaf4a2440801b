//! The one task that writes this replica's own lease. It waits for nothing else:
//! a queue of other writes must not make a replica that lives look dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Revision, Write, WriteError};
use crate::causes::Causes;
use crate::registry::Registry;
use crate::time::Now;

/// A write that takes longer has failed, and is tried again: shorter than the
/// time in which the lease would run out.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for giving it up, which is tried at most [`TRIES`] times.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// Once, and once more should somebody have written it meanwhile.
const TRIES: u32 = 2;
/// How long giving the lease up takes at most.
pub const LEAVING: Duration = LAST_TIMEOUT.saturating_mul(TRIES);
/// Looks whether a write is due at least this often.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Renews the lease until `stop`, then gives it up so that others may take over
/// what this replica holds.
pub async fn run(registry: Arc<Registry>, backend: Arc<dyn Backend>, stop: CancellationToken) {
    let mut causes = Causes::new();
    loop {
        let rest = Instant::now() + LONGEST_REST;
        let due = registry.vouch_due().map_or(rest, Instant::from_std);
        tokio::select! {
            () = sleep_until(due) => {
                if let Some(write) = registry.vouch(false) {
                    let made = make(&*backend, write, WRITE_TIMEOUT);
                    let Some(result) = stop.run_until_cancelled(made).await else {
                        break;
                    };
                    report(&result, &mut causes);
                    registry.vouched(&result);
                }
            }
            () = registry.vouch_wanted() => {}
            () = stop.cancelled() => break,
        }
    }
    for _ in 0..TRIES {
        let Some(write) = registry.vouch(true) else {
            return;
        };
        let result = make(&*backend, write, LAST_TIMEOUT).await;
        registry.vouched(&result);
        match result {
            Ok(_) => return,
            Err(WriteError::Conflict(_)) => {}
            Err(error) => {
                tracing::warn!(
                    "the lease was not given up, others wait until it has run out: {error}"
                );
                return;
            }
        }
    }
}

async fn make(
    backend: &dyn Backend,
    write: Write,
    limit: Duration,
) -> Result<Revision, WriteError> {
    let late = || WriteError::Unavailable(format!("no answer within {limit:?}"));
    let result = timeout(limit, backend.write(write)).await;
    result.unwrap_or_else(|_| Err(late()))
}

fn report(result: &Result<Revision, WriteError>, causes: &mut Causes) {
    match result {
        Ok(_) => causes.mended(),
        Err(WriteError::Conflict(None)) => {
            tracing::info!("this replica's lease was gone from the store and is made anew");
        }
        Err(WriteError::Conflict(Some(_))) => {
            tracing::info!(
                "this replica's lease had been written by somebody else and is written again; if this repeats, another process runs with the same identity"
            );
        }
        Err(error) if causes.is_news(&error.to_string(), Now::read().mono) => {
            tracing::warn!(
                "this replica's lease was not renewed, so others doubt what it holds: {error}"
            );
        }
        Err(_) => {}
    }
}
