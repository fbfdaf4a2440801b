//! Writes statuses, lazily.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{State, Work, count};
use crate::kubernetes::{CALL_TIMEOUT, Failure};
use crate::record::EndpointKey;
use crate::time::Now;

/// How often statuses are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Writes under way at once.
const WRITES_AT_ONCE: usize = 4;
/// Who wrote them, as `managedFields` tells it.
const MANAGER: &str = "tunnel-registry-controller";

/// A status to write.
struct Write {
    key: EndpointKey,
    name: String,
    patch: Value,
}

impl Work {
    /// Writes statuses until `stop`, while this controller leads.
    pub async fn write_statuses(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pods = self.pods.get();
        let mut has_failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let writes = self.take_writes();
            if !self.acts() {
                continue;
            }
            let watched = self.pods.get();
            if std::mem::replace(&mut pods, watched) != watched {
                self.look_at_all();
            }
            let writing = stream::iter(writes)
                .map(|write| self.write(write))
                .buffer_unordered(WRITES_AT_ONCE)
                .filter_map(|failure| async { failure })
                .collect::<Vec<_>>();
            let Some(failures) = stop.run_until_cancelled(writing).await else {
                return;
            };
            match failures.first() {
                None => has_failed = false,
                Some(failure) if !std::mem::replace(&mut has_failed, true) => {
                    tracing::warn!("statuses cannot be written now: {failure}");
                }
                Some(_) => {}
            }
        }
    }

    /// The statuses that are to be written now.
    fn take_writes(&self) -> Vec<Write> {
        let now = Now::read();
        let leads = self.acts();
        let pods = self.pods.get();
        let mut state = self.state.lock();
        let State {
            plan,
            objects,
            statuses,
            ..
        } = &mut *state;
        let touched = plan.take_touched(now.mono);
        if !leads {
            return Vec::new();
        }
        for key in touched {
            statuses.push(key, now.mono);
        }
        statuses.take(now.mono, |key| {
            let standing = plan.standing(key, now.mono)?;
            let (name, object) = objects.served(key)?;
            let status = object
                .said
                .becomes(object.generation, standing, pods, now.wall)?;
            let version = object.revision.to_string();
            Some(Write {
                key: key.clone(),
                name,
                patch: json!({ "metadata": { "resourceVersion": version }, "status": status }),
            })
        })
    }

    /// Writes a status; returns why it could not be.
    async fn write(&self, write: Write) -> Option<Failure> {
        let Write { key, name, patch } = write;
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let api = self.endpoints();
        let written = timeout(CALL_TIMEOUT, api.patch_status(&name, &params, &patch)).await;
        let failure = match written {
            Ok(Ok(_)) => {
                count(&self.counts.statuses);
                return None;
            }
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::late(CALL_TIMEOUT),
        };
        match failure {
            // The watch tells what there is instead, and that is looked at.
            Failure::Conflict | Failure::Absent => None,
            failure => {
                count(&self.counts.statuses_failed);
                self.state.lock().statuses.push(key, Now::read().mono);
                Some(failure)
            }
        }
    }
}
