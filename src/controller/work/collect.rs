//! Deletes what the plan says, and tells why.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{State, Work, count};
use crate::controller::notices::{About, Notice};
use crate::controller::objects::Object;
use crate::controller::plan::{Due, Reason};
use crate::kubernetes::{CALL_TIMEOUT, Failure};
use crate::map::Map;
use crate::record::EndpointKey;
use crate::time::Now;

/// How often what is due is asked for.
const TICK: Duration = Duration::from_secs(1);
/// Deletes under way at once.
const DELETES_AT_ONCE: usize = 32;

impl Work {
    /// Collects until `stop`, while this controller leads.
    pub async fn collect(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What a dry run has told, with why.
        let mut told = Map::default();
        let mut braked = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
            }
            if self.setup.dry_run {
                self.tell_due(&mut told);
            } else if self.acts() {
                if stop.run_until_cancelled(self.collect_due()).await.is_none() {
                    return;
                }
                braked = self.tell_brake(braked);
            }
        }
    }

    async fn collect_due(&self) {
        let due = self.take_due();
        let mut deletes = stream::iter(due)
            .map(|(due, name, object)| async move {
                let result = self.delete(&due, &name, &object).await;
                (due, name, object, result)
            })
            .buffer_unordered(DELETES_AT_ONCE);
        while let Some((due, name, object, result)) = deletes.next().await {
            match result {
                Ok(()) => self.collected(&due, name, &object),
                // It is maintained again, or somebody was faster: the watch tells.
                Err(Failure::Conflict | Failure::Absent | Failure::Expired) => {}
                Err(failure) => {
                    count(&self.counts.deletes_failed);
                    tracing::warn!(endpoint = %due.key, "not collected, tried again: {failure}");
                    self.state.lock().plan.again(&due.key);
                }
            }
        }
    }

    /// What goes now, with the object that holds it.
    fn take_due(&self) -> Vec<(Due, String, Object)> {
        let now = Now::read().mono;
        let mut state = self.state.lock();
        let State { plan, objects, .. } = &mut *state;
        let due = plan.take_due(now).into_iter();
        due.filter_map(|due| {
            let (name, object) = objects.served(&due.key)?;
            let object = object.clone();
            Some((due, name, object))
        })
        .collect()
    }

    async fn delete(&self, due: &Due, name: &str, object: &Object) -> Result<(), Failure> {
        // The leader may have changed while others were deleted.
        if !self.acts() {
            return Err(Failure::Conflict);
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: Some(due.revision.to_string()),
            uid: object.uid.map(|uid| uid.to_string()),
        });
        match timeout(CALL_TIMEOUT, self.endpoints().delete(name, &params)).await {
            Ok(answer) => answer.map(drop).map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::late(CALL_TIMEOUT)),
        }
    }

    fn collected(&self, due: &Due, name: String, object: &Object) {
        count(&self.counts.deleted[due.reason as usize]);
        tracing::info!(endpoint = %due.key, object = name, reason = due.reason.as_str(), "collected");
        self.tell(Notice {
            about: About::Endpoint(name, object.uid),
            reason: due.reason.word(),
            action: "Collect",
            is_warning: false,
            note: note(due.reason, &due.key),
        });
    }

    /// A dry run tells of each endpoint once, until it does not wait any more.
    fn tell_due(&self, told: &mut Map<EndpointKey, Reason>) {
        let due = self.take_due();
        let state = self.state.lock();
        told.retain(|key, _| state.plan.waits(key));
        drop(state);
        for (due, name, _) in due {
            if told.insert(due.key.clone(), due.reason) != Some(due.reason) {
                tracing::info!(
                    endpoint = %due.key,
                    object = name,
                    reason = due.reason.as_str(),
                    "would be collected (dry run): {}",
                    note(due.reason, &due.key)
                );
            }
        }
    }

    /// Returns whether the brake is on now.
    fn tell_brake(&self, was: bool) -> bool {
        let is = self.state.lock().plan.braked_for().is_some();
        if was == is {
            return is;
        }
        let (reason, note) = if is {
            let note = "Many nodes fell silent together: their endpoints are kept for up to 10 minutes. Look at the network between them and the registry";
            tracing::warn!("{note}");
            ("Braked", note)
        } else {
            let note = "The nodes that had fallen silent together are back or gone";
            tracing::info!("{note}");
            ("BrakeReleased", note)
        };
        self.tell(Notice {
            about: About::Controller,
            reason,
            action: "Collect",
            is_warning: is,
            note: note.into(),
        });
        is
    }
}

/// Why an endpoint was collected, for a person.
fn note(reason: Reason, key: &EndpointKey) -> String {
    let why = match reason {
        Reason::Silent => "nothing was heard of it, and nobody took it over",
        Reason::ConnectionClosed => {
            "its node closed the connection, was not heard again, and nobody took it over"
        }
        Reason::HolderLost => "the replica that held it is gone, and nobody took it over",
        Reason::PodGone => "the pod that it ran in is gone",
    };
    format!(
        "Collected connector {} of tunnel {} at node {}: {why}",
        key.connector, key.tunnel, key.node
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::key;

    #[test]
    fn a_note_names_the_endpoint_and_the_reason() {
        let notes = Reason::ALL.map(|reason| note(reason, &key("t", "n", "c")));
        for (at, text) in notes.iter().enumerate() {
            let begins = text.starts_with("Collected connector c of tunnel t at node n: ");
            assert!(begins && !notes[..at].contains(text), "{text}");
        }
    }
}
