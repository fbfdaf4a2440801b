//! The Lease that the controllers of a namespace share.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Election, Step, Stored};
use crate::kubernetes::Failure;
use crate::time::Now;

/// The name of the Lease.
pub const NAME: &str = "tunnel-registry-controller";
/// Who wrote it, as `managedFields` tells it.
const MANAGER: &str = "tunnel-registry-controller";

/// Takes part in the election until `stop`, then deletes the Lease if it is ours:
/// the next leader makes it anew, and the last one leaves nothing behind. `turned` is told each change of who leads, as far as it was seen.
pub async fn run(
    election: Arc<Mutex<Election>>,
    client: Client,
    namespace: String,
    mut turned: impl FnMut(bool, &str),
    stop: CancellationToken,
) {
    let api = Api::<Lease>::namespaced(client, &namespace);
    let (times, identity) = {
        let election = election.lock();
        (election.times(), Arc::clone(election.identity()))
    };
    let task = Task {
        api,
        election,
        identity,
        limit: times.renew_deadline.min(Duration::from_secs(5)),
        seconds: i32::try_from(times.lease.as_secs().max(1)).unwrap_or(i32::MAX),
    };
    let mut before = (false, String::new());
    let mut has_failed = false;
    loop {
        match stop.run_until_cancelled(task.turn()).await {
            None => break,
            Some(Ok(())) => has_failed = false,
            Some(Err(failure)) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!("the election of a leader does not go on: {failure}");
                }
            }
        }
        let now = {
            let election = task.election.lock();
            let holder = election.holder().unwrap_or(&before.1).to_owned();
            (election.is_leader(Now::read().mono), holder)
        };
        if now != before {
            turned(now.0, &now.1);
            before = now;
        }
        // A little later each, so that candidates do not meet for ever.
        let pause = times.retry.mul_f64(1.0 + fastrand::f64() / 5.0);
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            break;
        }
    }
    match task.give_up().await {
        Ok(true) => turned(false, ""),
        Ok(false) => {}
        Err(failure) => tracing::warn!("the leader's Lease was not given up: {failure}"),
    }
}

struct Task {
    api: Api<Lease>,
    election: Arc<Mutex<Election>>,
    identity: Arc<str>,
    limit: Duration,
    /// How long the Lease is valid.
    seconds: i32,
}

impl Task {
    async fn turn(&self) -> Result<(), Failure> {
        let must_read = self.election.lock().must_read();
        if must_read {
            let lease = self.call(self.api.get_opt(NAME)).await?;
            let now = Now::read().mono;
            self.election.lock().read(lease.as_ref().map(stored), now);
        }
        let asked = Instant::now().into_std();
        let step = self.election.lock().step(asked);
        let params = PostParams {
            field_manager: Some(MANAGER.into()),
            ..PostParams::default()
        };
        let written = match step {
            Step::Read | Step::Wait => return Ok(()),
            Step::Create => {
                let lease = self.lease(None, 0);
                self.call(self.api.create(&params, &lease)).await
            }
            Step::Take(version, transitions) | Step::Renew(version, transitions) => {
                let lease = self.lease(Some(version), transitions);
                self.call(self.api.replace(NAME, &params, &lease)).await
            }
        };
        let mut election = self.election.lock();
        match written {
            Ok(lease) => election.won(stored(&lease), asked),
            // Somebody was faster; the next turn reads who.
            Err(Failure::Conflict | Failure::Absent) => election.unsure(),
            Err(failure) => {
                election.unsure();
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Returns whether there was something to give up.
    async fn give_up(&self) -> Result<bool, Failure> {
        let ours = self.election.lock().give_up();
        let Some(version) = ours else {
            return Ok(false);
        };
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: Some(version),
            uid: None,
        });
        match self.call(self.api.delete(NAME, &params)).await {
            Ok(_) => Ok(true),
            // It is another's by now.
            Err(Failure::Conflict | Failure::Absent) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The Lease, held by us.
    fn lease(&self, version: Option<String>, transitions: i32) -> Lease {
        let now = MicroTime(Now::read().wall);
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.to_string()),
                lease_duration_seconds: Some(self.seconds),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match timeout(self.limit, call).await {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::late(self.limit)),
        }
    }
}

fn stored(lease: &Lease) -> Stored {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Stored {
        holder: spec
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
        transitions: spec
            .and_then(|spec| spec.lease_transitions)
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::kubernetes::testing::{Asked, Server, pair};
    use crate::controller::election::Times;

    struct Running {
        server: Server,
        election: Arc<Mutex<Election>>,
        stop: CancellationToken,
        task: tokio::task::JoinSet<()>,
    }

    fn start() -> Running {
        let (client, server) = pair();
        let election = Election::new("me".into(), Times::default());
        let election = Arc::new(Mutex::new(election));
        let stop = CancellationToken::new();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(run(
            Arc::clone(&election),
            client,
            "ns".into(),
            |_, _| (),
            stop.clone(),
        ));
        Running {
            server,
            election,
            stop,
            task,
        }
    }

    fn lease(holder: &str, version: &str) -> Value {
        json!({
            "metadata": { "name": NAME, "resourceVersion": version },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3 },
        })
    }

    /// The next request must be a write at this version; who holds the Lease then.
    async fn written(server: &mut Server, version: Option<&str>) -> (Value, Asked) {
        let (body, asked) = server.asked().await.body().await;
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/ns/leases/{NAME}");
        match version {
            None => assert_eq!(asked.method(), http::Method::POST),
            Some(_) => assert_eq!(asked.what(), format!("PUT {path}")),
        }
        assert_eq!(body["metadata"]["resourceVersion"].as_str(), version);
        (body["spec"].clone(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_renewed_and_given_up_at_the_version_that_was_seen() {
        let mut running = start();
        let server = &mut running.server;
        let absent = json!({
            "kind": "Status", "code": 404, "reason": "NotFound", "message": "",
            "details": { "kind": "leases", "name": NAME },
        });
        server.asked().await.answer(404, &absent);
        let (spec, asked) = written(server, None).await;
        assert_eq!(spec["holderIdentity"], "me");
        assert_eq!(spec["leaseDurationSeconds"], 15);
        asked.answer(201, &lease("me", "7"));
        // A leader does not read what it wrote itself.
        let (_, asked) = written(server, Some("7")).await;
        assert!(running.election.lock().is_leader(Now::read().mono));
        asked.answer(200, &lease("me", "8"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        running.stop.cancel();
        let (body, asked) = server.asked().await.body().await;
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/ns/leases/{NAME}");
        assert_eq!(asked.what(), format!("DELETE {path}"));
        assert_eq!(body["preconditions"]["resourceVersion"], "8");
        asked.answer(200, &lease("me", "8"));
        running.task.join_next().await.unwrap().unwrap();
        assert!(!running.election.lock().is_leader(Now::read().mono));
    }

    #[tokio::test(start_paused = true)]
    async fn anothers_is_taken_when_it_has_run_out_and_only_as_it_was_seen() {
        let mut running = start();
        let begun = Now::read().mono;
        let server = &mut running.server;
        let asked = loop {
            let asked = server.asked().await;
            if *asked.method() != http::Method::GET {
                break asked;
            }
            asked.answer(200, &lease("other", "4"));
        };
        let waited = Now::read().mono.duration_since(begun);
        let seconds = waited.as_secs();
        assert!((15..18).contains(&seconds), "{waited:?}");
        let (body, asked) = asked.body().await;
        assert_eq!(body["metadata"]["resourceVersion"], "4");
        assert_eq!(body["spec"]["leaseTransitions"], 4);
        // Somebody was faster.
        asked.fail(409);
        server.asked().await.answer(200, &lease("faster", "5"));
        assert_eq!(*server.asked().await.method(), http::Method::GET);
        assert!(!running.election.lock().is_leader(Now::read().mono));
        running.stop.cancel();
        running.task.join_next().await.unwrap().unwrap();
    }
}
