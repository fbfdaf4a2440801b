//! What a controller hears: of endpoints, of the pods that they run in, and of
//! the replicas that hold them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{State, Work, count};
use crate::causes::Causes;
use crate::controller::notices::{About, Notice};
use crate::controller::objects::{News, Problem};
use crate::controller::plan::cluster::read_every;
use crate::kubernetes::watch::{Told, watch};
use crate::kubernetes::{CALL_TIMEOUT, Failure};
use crate::pods::PodChange;
use crate::record::ReplicaRecord;
use crate::resources::{TunnelEndpoint, replica_lease};
use crate::time::Now;

/// How many leases a page of a list has.
const PAGE: u32 = 500;

impl Work {
    /// Hears of endpoints, until `stop`.
    pub async fn hear_endpoints(self: Arc<Self>, stop: CancellationToken) {
        let resource = ApiResource::erase::<TunnelEndpoint>(&());
        let namespace = &self.setup.namespace;
        let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let mut told = watch::<DynamicObject>(api);
        let mut causes = Causes::new();
        while let Some(Some(told)) = stop.run_until_cancelled(told.next()).await {
            match told {
                Ok(told) => {
                    causes.mended();
                    self.heard(told);
                }
                Err(broken) => {
                    if causes.is_news(&broken.to_string(), Now::read().mono) {
                        tracing::warn!(again_in = ?broken.again_in, "the watch of TunnelEndpoints broke: {broken}");
                    }
                    if let Some(unread) = &mut self.state.lock().unread {
                        *unread = format!("the TunnelEndpoints cannot be listed: {broken}");
                    }
                }
            }
        }
        stop.cancelled().await;
    }

    fn heard(&self, told: Told<DynamicObject>) {
        let now = Now::read().mono;
        let leads = self.leads(now);
        let mut state = self.state.lock();
        let State {
            plan,
            objects,
            statuses,
            heard,
            unread,
            ..
        } = &mut *state;
        *heard = Some(now);
        let news = match told {
            Told::Begin => {
                objects.begin();
                News::default()
            }
            Told::Put(object) => objects.put(&object),
            Told::Gone(object) => objects.gone(&object),
            Told::Listed => {
                *unread = None;
                objects.listed()
            }
            Told::Sign => News::default(),
        };
        plan.apply(&news.changes);
        if leads {
            for key in news.touched {
                statuses.push(key, now);
            }
        }
        drop(state);
        for problem in news.problems {
            let Problem { name, text, .. } = &problem;
            tracing::warn!(object = name, "a TunnelEndpoint is not served: {text}");
            self.tell_problem(problem);
        }
    }

    pub(super) fn tell_problem(&self, problem: Problem) {
        let Problem {
            name,
            uid,
            is_duplicate,
            text,
        } = problem;
        self.tell(Notice {
            about: About::Endpoint(name, uid),
            reason: match is_duplicate {
                true => "Duplicate",
                false => "Malformed",
            },
            action: "Serve",
            is_warning: true,
            note: text,
        });
    }

    /// Hears of pods, until `stop`.
    pub async fn hear_pods(
        self: Arc<Self>,
        mut changes: impl Stream<Item = PodChange> + Unpin,
        stop: CancellationToken,
    ) {
        while let Some(Some(change)) = stop.run_until_cancelled(changes.next()).await {
            self.state.lock().plan.pods(change, Now::read().mono);
            self.wake.notify_one();
        }
        stop.cancelled().await;
    }

    /// Reads the replicas' leases from time to time, until `stop`: between two
    /// such lists time counts. Deletes those that nobody needs any more.
    pub async fn read_replicas(self: Arc<Self>, stop: CancellationToken) {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.setup.namespace);
        let mut ticks = interval(read_every(self.setup.orphan_for));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Leases that cannot be read, with why: told once.
        let mut malformed = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // What is told is as old as the question at most.
            let asked = Now::read().mono;
            let listed = stop.run_until_cancelled(list(&api)).await;
            match listed {
                None => return,
                Some(Ok(leases)) => {
                    self.replicas_read(&api, asked, leases, &mut malformed)
                        .await;
                }
                Some(Err(failure)) => {
                    let mut state = self.state.lock();
                    if state.leases_unread.is_none() {
                        tracing::warn!(
                            "the leases of replicas cannot be read, so no time counts: {failure}"
                        );
                    }
                    let why = format!("the leases of replicas cannot be listed: {failure}");
                    state.leases_unread = Some(why);
                }
            }
        }
    }

    async fn replicas_read(
        &self,
        api: &Api<Lease>,
        asked: Instant,
        leases: Vec<Lease>,
        malformed: &mut BTreeMap<String, String>,
    ) {
        let mut replicas = Vec::with_capacity(leases.len());
        let mut wrong = BTreeMap::new();
        for lease in &leases {
            match replica_lease::to_record(lease) {
                Ok(record) => replicas.push(Arc::<ReplicaRecord>::new(record)),
                Err(why) => {
                    let name = lease.metadata.name.clone().unwrap_or_default();
                    let why = why.to_string();
                    if malformed.get(&name) != Some(&why) {
                        self.tell_malformed(lease, &name, &why);
                    }
                    wrong.insert(name, why);
                }
            }
        }
        *malformed = wrong;
        let left_behind = {
            let mut state = self.state.lock();
            state.leases_unread = None;
            state.plan.contact(asked, &replicas);
            state.plan.left_behind()
        };
        if !self.acts() {
            return;
        }
        // One for each list: nobody is in a hurry.
        let left = leases.iter().find(|lease| {
            let identity = replica_lease::identity(lease);
            identity.is_some_and(|identity| left_behind.iter().any(|left| **left == *identity))
        });
        if let Some(lease) = left {
            self.delete_lease(api, lease).await;
        }
    }

    fn tell_malformed(&self, lease: &Lease, name: &str, why: &str) {
        tracing::warn!(lease = name, "the lease of a replica cannot be read: {why}");
        let uid = lease.metadata.uid.as_deref();
        self.tell(Notice {
            about: About::Replica(name.into(), uid.and_then(|uid| uid.parse().ok())),
            reason: "Malformed",
            action: "Read",
            is_warning: true,
            note: why.into(),
        });
    }

    async fn delete_lease(&self, api: &Api<Lease>, lease: &Lease) {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: lease.metadata.resource_version.clone(),
            uid: lease.metadata.uid.clone(),
        });
        let deleted = timeout(CALL_TIMEOUT, api.delete(name, &params)).await;
        let deleted = deleted.map_or_else(
            |_| Err(Failure::late(CALL_TIMEOUT)),
            |answer| answer.map_err(|error| Failure::of(&error)),
        );
        match deleted {
            Ok(_) => {
                count(&self.counts.leases_deleted);
                tracing::info!(lease = name, "deleted: its replica has been gone for long");
            }
            // It lives again, or is gone.
            Err(Failure::Conflict | Failure::Absent) => {}
            Err(failure) => tracing::warn!(lease = name, "not deleted: {failure}"),
        }
    }
}

/// All leases of replicas, past every cache.
async fn list(api: &Api<Lease>) -> Result<Vec<Lease>, Failure> {
    let mut params = ListParams::default()
        .labels(replica_lease::SELECTOR)
        .limit(PAGE);
    let mut all = Vec::new();
    let pages = async {
        loop {
            let page = api.list(&params).await;
            let page = page.map_err(|error| Failure::of(&error))?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => params.continue_token = Some(more),
                None => return Ok(()),
            }
        }
    };
    let listed = timeout(CALL_TIMEOUT, pages).await;
    listed.unwrap_or_else(|_| Err(Failure::late(CALL_TIMEOUT)))?;
    Ok(all)
}
