//! Writes and deletes objects until they are as they should be.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::made::{Stage, Step};
use super::{MANAGER, Sessions, State, count};
use crate::causes::Causes;
use crate::controller::plan::routes::words::Api as GatewayApi;
use crate::controller::plan::routes::{Id, Kind, Plan};
use crate::kubernetes::watch::is_unknown;
use crate::kubernetes::{CALL_TIMEOUT, Failure};
use crate::time::Now;

/// How often it is looked whether something is to be done, when nothing changed.
const TICK: Duration = Duration::from_secs(1);
/// How long a change waits for more of the kind: a session announces several
/// routes one after the other.
const SETTLE: Duration = Duration::from_millis(100);
/// So many times as long as it took to make a plan nothing is planned again: with
/// very many sessions that is most of the work.
const REST: u32 = 4;
/// Writes and deletes in all, a second,
const PER_SECOND: f64 = 50.0;
/// and so many at once after a rest.
const BURST: f64 = 200.0;
/// Writes under way at once.
const WRITES_AT_ONCE: usize = 8;

impl Sessions {
    /// Keeps objects until `stop`, while this controller leads.
    pub async fn apply(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut causes = Causes::new();
        let mut settle = SETTLE;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.changed.notified() => {
                    if stop.run_until_cancelled(sleep(settle)).await.is_none() {
                        return;
                    }
                }
            }
            if !self.state.lock().is_listed {
                continue;
            }
            let begun = Now::read().mono;
            let plan = self.plan(begun);
            settle = SETTLE.max((Now::read().mono - begun) * REST);
            if self.acts() {
                let round = self.round(&plan, &mut causes);
                if stop.run_until_cancelled(round).await.is_none() {
                    return;
                }
            }
        }
    }

    /// Goes through all stages, as far as the rate lets it.
    async fn round(&self, plan: &Plan, causes: &mut Causes) {
        for stage in Stage::ALL {
            let (steps, is_all) = self.take(stage, plan);
            let mut running = stream::iter(steps)
                .map(|step| async move {
                    let done = self.step(&step, plan).await;
                    (step, done)
                })
                .buffer_unordered(WRITES_AT_ONCE);
            while let Some((step, done)) = running.next().await {
                if let Err(failure) = done {
                    self.failed(step.id(), &failure, causes);
                }
            }
            if !is_all {
                // The next round goes on here: nothing later may come first.
                self.changed.notify_one();
                return;
            }
        }
    }

    /// The steps of a stage that may be done now, and whether they are all.
    fn take(&self, stage: Stage, plan: &Plan) -> (Vec<Step>, bool) {
        let now = Now::read().mono;
        let mut state = self.state.lock();
        let State {
            made,
            writes,
            routes,
            ..
        } = &mut *state;
        if stage == Stage::Routes && *routes != GatewayApi::Ready {
            return (Vec::new(), true);
        }
        writes.refill_up_to(BURST, PER_SECOND, now);
        let mut steps = made.steps(stage, &plan.wanted, now);
        let all = steps.len();
        let mut allowed = 0;
        while allowed < all && writes.take() {
            allowed += 1;
        }
        steps.truncate(allowed);
        (steps, allowed == all)
    }

    async fn step(&self, step: &Step, plan: &Plan) -> Result<(), kube::Error> {
        // The leader may have changed while others were written.
        if !self.acts() {
            return Ok(());
        }
        let api = self.objects(step.id().kind);
        let name = &step.id().name;
        match step {
            Step::Apply(id) => {
                let Some(wanted) = plan.wanted.get(id) else {
                    return Ok(());
                };
                let params = PatchParams::apply(MANAGER).force();
                let patch = Patch::Apply(&wanted.body);
                let object = in_time(api.patch(name, &params, &patch)).await?;
                count(&self.counts.applied);
                tracing::debug!(object = name, kind = id.kind.as_str(), "written");
                let mut state = self.state.lock();
                state.made.applied(id.kind, object, wanted);
                if state.forbidden == Some(id.kind) {
                    state.forbidden = None;
                    state.is_said = true;
                }
            }
            Step::Delete(id, uid) => {
                let params = DeleteParams::default().preconditions(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                });
                let deleted = in_time(api.delete(name, &params)).await;
                match deleted {
                    Ok(_) => {
                        count(&self.counts.deleted);
                        tracing::debug!(object = name, kind = id.kind.as_str(), "deleted");
                    }
                    // Collected already, or made anew: the watch tells.
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                    Err(error) => return Err(error),
                }
                self.state.lock().made.gone(id.kind, name, Some(uid));
            }
        }
        Ok(())
    }

    fn failed(&self, id: &Id, error: &kube::Error, causes: &mut Causes) {
        count(&self.counts.failed);
        let now = Now::read().mono;
        let mut state = self.state.lock();
        state.made.failed(id, now);
        let before = (state.routes, state.forbidden);
        match error {
            kube::Error::Api(status) if status.code == 403 && is_right(status) => {
                state.forbidden = Some(id.kind);
            }
            kube::Error::Api(status) if id.kind == Kind::Route && is_unknown(status) => {
                state.routes = GatewayApi::Missing;
            }
            _ => {}
        }
        state.is_said |= (state.routes, state.forbidden) != before;
        drop(state);
        let why = match error {
            kube::Error::Api(status) => format!(
                "the API server answered {}: {}",
                status.code, status.message
            ),
            error => Failure::of(error).to_string(),
        };
        let kind = id.kind.as_str();
        if causes.is_news(&format!("{kind}: {why}"), now) {
            tracing::warn!(
                object = id.name,
                kind,
                "not written or deleted, tried again: {why}"
            );
        }
    }
}

/// Whether it is a right that lacks, rather than a quota or a policy.
fn is_right(status: &Status) -> bool {
    status.message.contains(" cannot ") && status.message.contains(" resource ")
}

async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(late) => Err(kube::Error::Service(late.into())),
    }
}
