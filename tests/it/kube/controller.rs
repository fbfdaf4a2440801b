//! The controller on a real API server, with short times.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use tunnel_registry::lease::{Lease, Released};
use tunnel_registry::record::{EndpointRecord, ReplicaRecord};
use tunnel_registry::resources::{TunnelEndpoint, replica_lease};
use tunnel_registry::time::Now;
use uuid::Uuid;

use super::env::Env;
use super::objects;
use super::product::{Controller, Product};
use crate::process::until;

const SECOND: Duration = Duration::from_secs(1);
const LEADER: &str = "tunnel_registry_controller_leader";

/// A replica whose lease lasts so long.
async fn replica(env: &Env, identity: &str, seconds: u32) {
    let record = ReplicaRecord {
        identity: identity.into(),
        renew_time: Now::read().wall,
        duration_seconds: seconds,
        stopped: false,
        suspects: Vec::new(),
    };
    let lease = replica_lease::from_record(&record).unwrap();
    let create = PostParams::default();
    let leases = env.api::<LeaseObject>();
    leases.create(&create, &lease).await.unwrap();
}

/// The connector of this name, held by `holder`, at a node of its own.
fn held(name: &str, holder: &str) -> EndpointRecord {
    let address = format!("{name}.example.com:80");
    let mut record = objects::record("t", name, name, &address);
    record.lease = Lease::held(holder.into(), Now::read().wall, 60 * SECOND);
    record
}

fn released(name: &str, why: Released) -> EndpointRecord {
    let mut record = held(name, "");
    record.lease = Lease::released(why, Now::read().wall, SECOND);
    record
}

async fn create(env: &Env, record: &EndpointRecord) -> TunnelEndpoint {
    let object = TunnelEndpoint::from_record(record).unwrap();
    let create = PostParams::default();
    env.endpoints().create(&create, &object).await.unwrap()
}

/// The connectors that are there, in order.
async fn there(env: &Env) -> Vec<String> {
    let list = env.endpoints().list(&ListParams::default()).await.unwrap();
    let mut there: Vec<_> = list.items.into_iter().map(|it| it.spec.connector).collect();
    there.sort();
    there
}

async fn are_there(env: &Env, expected: &[&str]) {
    until("the right endpoints are there", async || {
        let there = there(env).await;
        if there == expected {
            Ok(())
        } else {
            Err(format!("{there:?} and not {expected:?}"))
        }
    })
    .await;
}

/// Conditions as `Type=Status/Reason`.
async fn conditions(env: &Env, name: &str) -> Vec<String> {
    let object = env.endpoints().get(name).await.unwrap();
    let status = object.status.unwrap_or_default();
    let conditions = status.conditions.iter();
    conditions
        .map(|one| format!("{}={}/{}", one.type_, one.status, one.reason))
        .collect()
}

async fn says(env: &Env, object: &TunnelEndpoint, expected: &[&str]) {
    let name = object.metadata.name.as_deref().unwrap();
    until("the status is right", async || {
        let said = conditions(env, name).await;
        if said == expected {
            Ok(())
        } else {
            Err(format!("{said:?} and not {expected:?}"))
        }
    })
    .await;
}

/// Waits until there is an event with this reason about an object of this name.
async fn event(env: &Env, reason: &str, name: &str) -> Event {
    until(&format!("an event {reason}"), async || {
        let events = env.api::<Event>().list(&ListParams::default()).await;
        let mut events = events.unwrap().items.into_iter();
        events.find(|event| {
            let about = event.regarding.as_ref().and_then(|it| it.name.as_deref());
            event.reason.as_deref() == Some(reason) && about == Some(name)
        })
    })
    .await
}

/// Whether a metric is 1 and not 0.
async fn is_so(controller: &Controller, metric: &str) -> bool {
    let (_, text) = controller.admin("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(metric));
    line.unwrap().trim() == "1.0"
}

async fn leads(controller: &Controller) {
    until("it leads", async || {
        is_so(controller, LEADER).await.then_some(())
    })
    .await;
}

async fn deletes(controller: &Controller, reason: &str) -> u64 {
    let metric = format!("tunnel_registry_collector_deletes_total{{reason=\"{reason}\"}}");
    controller.metric(&metric).await
}

/// A pod that nobody runs; its uid.
pub async fn pod(env: &Env, name: &str) -> Uuid {
    let pod = json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "gost", "image": "gost" }] },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pod = env
        .api()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    pod.metadata.uid.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_maintains_goes_and_the_rest_says_how_it_is() {
    let env = Env::start().await;
    replica(&env, "lives", 3_600).await;
    replica(&env, "dead", 1).await;
    let lives = create(&env, &held("lives", "lives")).await;
    let mut record = released("static", Released::Silent);
    record.is_static = true;
    let kept = create(&env, &record).await;
    let orphan = create(&env, &held("orphan", "dead")).await;
    let silent = create(&env, &released("silent", Released::Silent)).await;
    create(&env, &released("closed", Released::ConnectionClosed)).await;

    let product = Product::new(&env);
    let setup = product.controller(0).await;
    let controller = setup.flags("--orphan-for 3s").start().await;
    are_there(&env, &["lives", "static"]).await;
    for reason in ["silent", "connection_closed", "holder_lost"] {
        assert_eq!(deletes(&controller, reason).await, 1, "{reason}");
    }
    let about = orphan.metadata.name.unwrap();
    let told = event(&env, "HolderLost", &about).await;
    assert_eq!(told.regarding.unwrap().uid, orphan.metadata.uid);
    assert_eq!(told.action.as_deref(), Some("Collect"));
    assert!(told.note.unwrap().contains("connector orphan of tunnel t"));
    event(&env, "Silent", &silent.metadata.name.unwrap()).await;
    event(&env, "LeaderElection", "tunnel-registry-controller").await;

    says(&env, &lives, &["Ready=True/Renewed"]).await;
    says(&env, &kept, &["Ready=True/Static"]).await;
    // Each was written once, by a field manager of its own.
    let written = "tunnel_registry_controller_statuses_written_total";
    until("writes are counted", async || {
        (controller.metric(written).await >= 2).then_some(())
    })
    .await;
    let object = env.endpoints().get(&lives.metadata.name.unwrap()).await;
    let object = object.unwrap();
    let mut managers = object.metadata.managed_fields.unwrap().into_iter();
    let status = managers.find(|one| one.subresource.as_deref() == Some("status"));
    let manager = status.unwrap().manager;
    assert_eq!(manager.as_deref(), Some("tunnel-registry-controller"));
    assert_eq!(object.status.unwrap().observed_generation, Some(1));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_changes_with_its_endpoint() {
    let env = Env::start().await;
    replica(&env, "a", 3_600).await;
    let object = create(&env, &held("moves", "a")).await;
    let product = Product::new(&env);
    let controller = product.controller(0).await.start().await;
    says(&env, &object, &["Ready=True/Renewed"]).await;
    let name = object.metadata.name.clone().unwrap();
    let mut record = held("moves", "a");
    record.lease = Lease::released(Released::Silent, Now::read().wall, 3_600 * SECOND);
    let patch = TunnelEndpoint::patch(&record).unwrap();
    let patch = kube::api::Patch::Merge(patch);
    let params = kube::api::PatchParams::default();
    env.endpoints().patch(&name, &params, &patch).await.unwrap();
    says(&env, &object, &["Ready=False/Silent"]).await;
    let patch = TunnelEndpoint::patch(&held("moves", "a")).unwrap();
    let patch = kube::api::Patch::Merge(patch);
    env.endpoints().patch(&name, &params, &patch).await.unwrap();
    says(&env, &object, &["Ready=True/Renewed"]).await;
    let written = "tunnel_registry_controller_statuses_written_total";
    assert_eq!(controller.metric(written).await, 3);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_in_a_pod_goes_with_it() {
    let env = Env::start().await;
    replica(&env, "a", 3_600).await;
    let mut records = [held("one", "a"), held("two", "a"), held("never-seen", "a")];
    let (one, two) = (pod(&env, "one").await, pod(&env, "two").await);
    let pods = [one, two, Uuid::from_u128(7)];
    for (record, pod) in records.iter_mut().zip(pods) {
        record.endpoint.pod = Some(pod);
        create(&env, record).await;
    }
    let product = Product::new(&env);
    let controller = product.controller(0).await.start().await;
    leads(&controller).await;
    until("pods are watched", async || {
        let watched = "tunnel_registry_controller_pods_watched";
        is_so(&controller, watched).await.then_some(())
    })
    .await;
    let delete = DeleteParams::default().grace_period(0);
    env.api::<Pod>().delete("one", &delete).await.unwrap();
    are_there(&env, &["never-seen", "two"]).await;
    assert_eq!(deletes(&controller, "pod_gone").await, 1);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_watch_pods_a_condition_says_so() {
    let env = Env::start().await;
    env.forbid_pods().await;
    replica(&env, "a", 3_600).await;
    let mut record = held("n", "a");
    record.endpoint.pod = Some(pod(&env, "gost").await);
    let object = create(&env, &record).await;
    let alone = create(&env, &held("alone", "a")).await;
    let product = Product::new(&env);
    let controller = product.controller(0).await.start().await;
    let expected = ["Ready=True/Renewed", "PodKnown=Unknown/WatchForbidden"];
    says(&env, &object, &expected).await;
    says(&env, &alone, &["Ready=True/Renewed"]).await;
    let said = controller.process.said();
    assert_eq!(said.matches("pods may not be watched").count(), 1, "{said}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let env = Env::start().await;
    replica(&env, "dead", 1).await;
    create(&env, &held("orphan", "dead")).await;
    create(&env, &released("silent", Released::Silent)).await;
    let before = env.endpoints().list(&ListParams::default()).await.unwrap();
    let product = Product::new(&env);
    let setup = product.controller(0).await;
    let controller = setup.flags("--dry-run --orphan-for 1s").start().await;
    for words in [
        "connector orphan of tunnel t",
        "connector silent of tunnel t",
    ] {
        controller.process.says(words).await;
    }
    let after = env.endpoints().list(&ListParams::default()).await.unwrap();
    let versions = |list: kube::core::ObjectList<TunnelEndpoint>| {
        let items = list.items.into_iter();
        items
            .map(|it| it.metadata.resource_version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(before), versions(after), "nothing was written");
    let leases = env.api::<LeaseObject>().list(&ListParams::default()).await;
    assert_eq!(leases.unwrap().items.len(), 1, "no leader");
    let events = env.api::<Event>().list(&ListParams::default()).await;
    assert!(events.unwrap().items.is_empty());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_not_served_are_told() {
    let env = Env::start().await;
    replica(&env, "a", 3_600).await;
    let record = held("twice", "a");
    create(&env, &record).await;
    let mut second = TunnelEndpoint::from_record(&record).unwrap();
    second.metadata.name = Some("by-hand".into());
    let params = PostParams::default();
    env.endpoints().create(&params, &second).await.unwrap();
    let mut wrong = TunnelEndpoint::from_record(&held("wrong", "a")).unwrap();
    let annotations = wrong.metadata.annotations.as_mut().unwrap();
    annotations.insert("tunnelregistry.io/renew-time".into(), "yesterday".into());
    let wrong = env.endpoints().create(&params, &wrong).await.unwrap();
    let wrong_name = wrong.metadata.name.unwrap();
    let product = Product::new(&env);
    let controller = product.controller(0).await.start().await;
    let told = event(&env, "Duplicate", "by-hand").await;
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    let told = event(&env, "Malformed", &wrong_name).await;
    assert!(told.note.unwrap().contains("renew-time"));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_acts_and_the_other_follows() {
    let env = Env::start().await;
    replica(&env, "lives", 3_600).await;
    create(&env, &held("lives", "lives")).await;
    let product = Product::new(&env);
    let flags = "--leader-lease 3s --orphan-for 1s --identity";
    let start = async |n, identity: &str| {
        let setup = product.controller(n).await;
        setup.flags(&format!("{flags} {identity}")).start().await
    };
    let first = start(0, "first").await;
    leads(&first).await;
    let second = start(1, "second").await;
    create(&env, &released("by-first", Released::Silent)).await;
    are_there(&env, &["lives"]).await;
    assert!(!is_so(&second, LEADER).await);
    assert_eq!(deletes(&second, "silent").await, 0);

    // Frozen, its Lease runs out, and the other takes over.
    let frozen = Now::read().mono;
    first.process.freeze().await;
    leads(&second).await;
    let took = Now::read().mono.duration_since(frozen);
    assert!(took < 20 * SECOND, "{took:?}");
    create(&env, &released("by-second", Released::Silent)).await;
    are_there(&env, &["lives"]).await;
    assert_eq!(deletes(&second, "silent").await, 1);
    // Thawed, it knows that it does not lead before it does anything.
    first.process.thaw();
    until("it follows", async || {
        (!is_so(&first, LEADER).await).then_some(())
    })
    .await;
    assert!(is_so(&second, LEADER).await);

    // Killed, the same; stopped in order, at once.
    second.kill().await;
    leads(&first).await;
    let second = start(1, "second").await;
    first.stop().await;
    leads(&second).await;
    assert_eq!(there(&env).await, ["lives"]);
    second.stop().await;
    let lease = env.api::<LeaseObject>();
    let lease = lease.get_opt("tunnel-registry-controller").await;
    assert_eq!(lease.unwrap(), None, "the last one leaves nothing behind");
}
