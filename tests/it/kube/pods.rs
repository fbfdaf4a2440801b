//! Replicas in pods, as sidecars of a gost.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::controller::pod;
use super::env::Env;
use super::product::Product;
use super::replicas::{is_told, only, service};
use crate::process::{until, until_within};
use crate::sd::{Protocol, Sd};
use crate::tunnels::world::health;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_registers_goes_with_its_pod() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let namespace = &env.namespace;
    let uid = pod(&env, "gost-0").await;
    let sidecar = product.replica(1).await.flags(&format!(
        "--pod-name gost-0 --pod-namespace {namespace} --pod-uid {uid} --pod-ip 10.42.0.7"
    ));
    let sidecar = sidecar.start().await;
    let other = product.replica(2).await.start().await;
    let [a, b] = [&sidecar, &other].map(|it| Sd::new(Protocol::Grpc, it.setup.listen));
    let mut service = service(1);
    service.address = ":80".into();
    a.register(&service).await.unwrap();
    is_told(&b, &service, &[&service]).await;
    let told = b.get(&service.name).await.unwrap();
    assert_eq!(told[0].address, "10.42.0.7:80", "the pod's own address");
    let object = only(&env).await.unwrap();
    let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((&*owner.kind, &*owner.name), ("Pod", "gost-0"));
    assert_eq!(owner.uid, uid.to_string());
    assert_eq!(owner.block_owner_deletion, None);

    // It is asked to end, and takes a while.
    let pods = env.api::<Pod>();
    let held_up = json!({ "metadata": { "finalizers": ["example.com/test"] } });
    let merge = PatchParams::default();
    pods.patch("gost-0", &merge, &Patch::Merge(&held_up))
        .await
        .unwrap();
    pods.delete("gost-0", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    until("it is offered last", async || {
        let rows = other.rows().await;
        (health(rows.first()?) == "terminating").then_some(())
    })
    .await;
    is_told(&b, &service, &[&service]).await;
    // It is gone.
    let free = json!({ "metadata": { "finalizers": null } });
    pods.patch("gost-0", &merge, &Patch::Merge(&free))
        .await
        .unwrap();
    is_told(&b, &service, &[]).await;
    let stored = env.endpoints().list(&ListParams::default()).await.unwrap();
    assert_eq!(stored.items.len(), 1, "nobody collects here");
    sidecar.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_another_namespace_owns_nothing_and_is_recorded() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let uid = uuid::Uuid::from_u128(7);
    let sidecar = product.replica(1).await.flags(&format!(
        "--pod-name gost-0 --pod-namespace elsewhere --pod-uid {uid}"
    ));
    let sidecar = sidecar.start().await;
    let sd = Sd::new(Protocol::Grpc, sidecar.setup.listen);
    sd.register(&service(1)).await.unwrap();
    let metadata = only(&env).await.unwrap().metadata;
    assert_eq!(metadata.owner_references, None);
    let recorded = &metadata.annotations.unwrap()["tunnelregistry.io/pod-uid"];
    assert_eq!(*recorded, uid.to_string());
    sidecar.process.says("cannot own them").await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_crashed_with_its_gost_is_collected_and_one_that_comes_back_is_not() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let flags = "--replica-lease 4s --start-grace 0s";
    let dies = product
        .replica(1)
        .await
        .flags(flags)
        .flags("--identity dies");
    let crashes = product
        .replica(2)
        .await
        .flags(flags)
        .flags("--identity crashes");
    let (dies, crashes) = (dies.start().await, crashes.start().await);
    let watches = product.replica(3).await.flags(flags).start().await;
    let controller = product.controller(0).await.flags("--orphan-for 15s");
    let controller = controller.start().await;
    let (dead, alive) = (service(1), service(2));
    for (replica, service) in [(&dies, &dead), (&crashes, &alive)] {
        let sd = Sd::new(Protocol::Grpc, replica.setup.listen);
        sd.register(service).await.unwrap();
    }
    let told = Sd::new(Protocol::Grpc, watches.setup.listen);
    for service in [&dead, &alive] {
        is_told(&told, service, &[service]).await;
    }
    dies.kill().await;
    let crashed = crashes.kill().await;
    until("both are doubtful", async || {
        let rows = watches.rows().await;
        let silent = |row: &serde_json::Value| health(row) == "holder-silent";
        (rows.len() == 2 && rows.iter().all(silent)).then_some(())
    })
    .await;
    // Its gost has lived on, and renews.
    let back = crashed.start().await;
    let sd = Sd::new(Protocol::Grpc, back.setup.listen);
    until_within(Duration::from_secs(90), "the orphan is gone", async || {
        sd.renew(&alive).await.unwrap();
        let left = told.get(&dead.name).await.unwrap();
        left.is_empty().then_some(())
    })
    .await;
    is_told(&told, &alive, &[&alive]).await;
    assert_eq!(only(&env).await.unwrap().spec.connector, alive.id);
    back.stop().await;
    watches.stop().await;
    controller.stop().await;
}
