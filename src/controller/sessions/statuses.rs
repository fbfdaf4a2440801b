//! Writes the statuses of sessions, lazily.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{MANAGER, Sessions, State, count};
use crate::causes::Causes;
use crate::controller::notices::{About, Notice};
use crate::controller::plan::routes::Kind;
use crate::controller::plan::routes::words::{READY, conditions, verdict, words};
use crate::kubernetes::{CALL_TIMEOUT, Failure};
use crate::time::Now;

/// How often statuses are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long a change waits: much is undone in that time.
const LAZY: Duration = Duration::from_secs(2);
/// Writes of statuses in all, a second.
const PER_SECOND: f64 = 20.0;
/// Writes under way at once.
const WRITES_AT_ONCE: usize = 4;

/// The reasons that are told as events, too, when a session becomes unready.
const TOLD: [&str; 9] = [
    "BackendPathDiffers",
    "BackendUnreachable",
    "BackendUnresolved",
    "Forbidden",
    "GatewayApiMissing",
    "NoGateway",
    "NoMaintenanceService",
    "RouteConflict",
    "TooManyBackends",
];

/// A status to write.
struct Write {
    name: String,
    uid: String,
    generation: i64,
    conditions: Vec<Condition>,
    /// Whether the session is unready for another reason than before.
    is_news: bool,
}

impl Sessions {
    /// Writes statuses until `stop`, while this controller leads.
    pub async fn write_statuses(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut causes = Causes::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if !self.acts() {
                continue;
            }
            let writing = stream::iter(self.take_statuses())
                .map(|write| self.write_status(write))
                .buffer_unordered(WRITES_AT_ONCE)
                .filter_map(|failure| async { failure })
                .collect::<Vec<_>>();
            let Some(failures) = stop.run_until_cancelled(writing).await else {
                return;
            };
            for failure in failures {
                if causes.is_news(&failure.to_string(), Now::read().mono) {
                    tracing::warn!("statuses of sessions cannot be written now: {failure}");
                }
            }
        }
    }

    /// The statuses that are to be written now.
    fn take_statuses(&self) -> Vec<Write> {
        let now = Now::read();
        let mut state = self.state.lock();
        let api = self.gateway_api(&state);
        let State {
            objects,
            made,
            plan,
            is_said,
            statuses,
            ..
        } = &mut *state;
        statuses.refill(PER_SECOND, now.mono);
        if !std::mem::take(is_said) {
            return Vec::new();
        }
        let gateways = &self.setup.settings.gateways;
        let namespace = &self.setup.namespace;
        let mut writes = Vec::new();
        for (name, object) in objects.iter_mut() {
            let Some(standing) = plan.standings.get(&object.session.record.key) else {
                *is_said = true;
                continue;
            };
            let routes = standing.routes.iter().map(|name| {
                let seen = made.get(Kind::Route, name);
                let generation = seen.map_or(0, |seen| seen.generation);
                (
                    &**name,
                    generation,
                    seen.and_then(|seen| seen.status.as_ref()),
                )
            });
            let verdict = verdict(gateways, namespace, routes);
            let words = words(standing, &verdict, api);
            let wanted = conditions(&words, &object.conditions, object.generation, now.wall);
            let Some(wanted) = wanted else {
                object.differs = None;
                continue;
            };
            *is_said = true;
            let since = *object.differs.get_or_insert(now.mono);
            if !is_due(since, now.mono) || !statuses.take() {
                continue;
            }
            let reason = |all: &[Condition]| {
                let ready = all.iter().find(|one| one.type_ == READY);
                ready.map(|one| one.reason.clone())
            };
            object.differs = None;
            writes.push(Write {
                name: name.clone(),
                uid: object.session.uid.clone(),
                generation: object.generation,
                is_news: reason(&wanted) != reason(&object.conditions),
                conditions: wanted,
            });
        }
        writes
    }

    /// Writes a status; returns why it could not be.
    async fn write_status(&self, write: Write) -> Option<Failure> {
        let Write {
            name,
            uid,
            generation,
            conditions,
            is_news,
        } = write;
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let status = json!({ "observedGeneration": generation, "conditions": conditions });
        // With its uid, so that no other object gets it.
        let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
        let api = self.sessions();
        let written = timeout(CALL_TIMEOUT, api.patch_status(&name, &params, &patch)).await;
        let failure = match written {
            Ok(Ok(_)) => {
                count(&self.counts.statuses);
                if is_news {
                    self.tell_unready(&name, &uid, &conditions);
                }
                let mut state = self.state.lock();
                if let Some(object) = state.objects.get_mut(&name)
                    && object.session.uid == uid
                {
                    object.conditions = conditions;
                }
                return None;
            }
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::late(CALL_TIMEOUT),
        };
        match failure {
            // The watch tells what there is instead.
            Failure::Conflict | Failure::Absent => None,
            failure => {
                count(&self.counts.statuses_failed);
                Some(failure)
            }
        }
    }

    fn tell_unready(&self, name: &str, uid: &str, conditions: &[Condition]) {
        let ready = conditions.iter().find(|one| one.type_ == READY);
        let Some(ready) = ready.filter(|one| one.status == "False") else {
            return;
        };
        let told = TOLD.into_iter().find(|reason| *reason == ready.reason);
        if let Some(reason) = told {
            self.tell(Notice {
                about: About::Session(name.into(), uid.parse().ok()),
                reason,
                action: "Serve",
                is_warning: true,
                note: ready.message.clone(),
            });
        }
    }
}

/// Whether a status that has differed since then is written.
fn is_due(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= LAZY
}
