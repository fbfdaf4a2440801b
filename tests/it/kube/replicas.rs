//! Replicas of the product on one API server, while nothing is wrong.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::json;
use tunnel_registry::gost::proto::Service;
use tunnel_registry::resources::TunnelEndpoint;
use tunnel_registry::resources::tunnel_endpoint::{HOLDER, RELEASED};

use super::env::Env;
use super::objects::record;
use super::product::Product;
use crate::process::{Registry, until};
use crate::sd::{Kept, Protocol, Sd, uuid};

/// A connector of the n-th tunnel, on a host of its own.
pub fn service(n: usize) -> Service {
    Service {
        id: uuid(3, n),
        name: uuid(2, n),
        node: uuid(1, n),
        network: "tcp".into(),
        address: format!("10.42.{}.{}:80", n / 250 % 250, n % 250 + 1),
    }
}

/// The names of a tunnel's connectors as a client is told them.
pub async fn told(sd: &Sd, service: &Service) -> Vec<String> {
    let services = sd.get(&service.name).await.unwrap();
    services.into_iter().map(|service| service.id).collect()
}

/// Waits until a client is told exactly these connectors.
pub async fn is_told(sd: &Sd, service: &Service, expected: &[&Service]) {
    let expected: BTreeSet<&str> = expected.iter().map(|service| &*service.id).collect();
    until("Get tells what it should", async || {
        let told = told(sd, service).await;
        let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
        if told == expected {
            Ok(())
        } else {
            Err(format!("{told:?} and not {expected:?}"))
        }
    })
    .await;
}

/// The only object of a namespace.
pub async fn only(env: &Env) -> Option<TunnelEndpoint> {
    let list = env.endpoints().list(&ListParams::default()).await.unwrap();
    assert!(list.items.len() <= 1, "{list:?}");
    list.items.into_iter().next()
}

/// Who holds the only object of a namespace.
async fn holder(env: &Env) -> Option<String> {
    only(env).await?.metadata.annotations?.remove(HOLDER)
}

fn sd(registry: &Registry) -> Sd {
    Sd::new(Protocol::Grpc, registry.setup.listen)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_registers_another_serves() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = product
        .replica(1)
        .await
        .flags("--identity first")
        .start()
        .await;
    let second = product.replica(2).await.start().await;
    let (a, b) = (sd(&first), sd(&second));
    let service = service(1);
    assert_eq!(a.register(&service).await.unwrap(), Kept::Stored);
    assert_eq!(told(&a, &service).await, [&*service.id], "its own at once");
    is_told(&b, &service, &[&service]).await;
    let object = only(&env).await.unwrap();
    assert_eq!(object.spec.address, service.address);
    assert_eq!(holder(&env).await.as_deref(), Some("first"));
    // Renewing changes nothing in the cluster.
    let version = object.metadata.resource_version;
    for client in [&a, &b] {
        client.renew(&service).await.unwrap();
    }
    assert_eq!(only(&env).await.unwrap().metadata.resource_version, version);

    assert_eq!(b.deregister(&service).await.unwrap(), Kept::Stored);
    assert!(only(&env).await.is_none());
    is_told(&a, &service, &[]).await;
    first.stop().await;
    second.stop().await;
}

/// The watch often tells of a create before that is answered; it must not be
/// taken for somebody else's write, and written over.
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_one_write() {
    const REGISTRATIONS: usize = 100;
    let env = Env::start().await;
    let product = Product::new(&env);
    // Nothing is due to be refreshed before this is over.
    let replica = product.replica(1).await.flags("--base-time 10m");
    let registry = replica.start().await;
    let sd = sd(&registry);
    let begun = env.endpoints().list(&ListParams::default()).await.unwrap();
    let begun = begun.metadata.resource_version.unwrap();
    for n in 0..REGISTRATIONS {
        sd.register(&service(n)).await.unwrap();
    }
    until("everything is stored", async || {
        let stored = env.endpoints().list(&ListParams::default()).await.unwrap();
        (stored.items.len() == REGISTRATIONS).then_some(())
    })
    .await;
    // A write that is told last.
    sd.deregister(&service(REGISTRATIONS - 1)).await.unwrap();
    let watch = env.endpoints();
    let changes = watch.watch(&WatchParams::default(), &begun).await.unwrap();
    let mut changes = changes.boxed();
    let mut added = 0;
    loop {
        match changes.next().await.unwrap().unwrap() {
            WatchEvent::Added(_) => added += 1,
            WatchEvent::Deleted(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(added, REGISTRATIONS);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_hands_over_at_once() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = product
        .replica(1)
        .await
        .flags("--identity first")
        .start()
        .await;
    let second = product
        .replica(2)
        .await
        .flags("--identity second")
        .start()
        .await;
    let (a, b) = (sd(&first), sd(&second));
    let service = service(1);
    a.register(&service).await.unwrap();
    is_told(&b, &service, &[&service]).await;
    first.stop().await;
    until("the other one holds it", async || {
        b.renew(&service).await.unwrap();
        (holder(&env).await.as_deref() == Some("second")).then_some(())
    })
    .await;
    let taken_over = "tunnel_registry_endpoints_taken_over_total";
    assert_eq!(second.metric(taken_over).await, 1);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_releases_and_a_renewal_takes_it_back() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let setup = product.replica(1).await;
    let replica = setup
        .flags("--identity r --base-time 1s --start-grace 0s")
        .start()
        .await;
    let sd = sd(&replica);
    let service = service(1);
    sd.register(&service).await.unwrap();
    let annotation = async |name: &str| {
        let object = only(&env).await.unwrap();
        object.metadata.annotations.unwrap().remove(name)
    };
    until("it is released", async || annotation(RELEASED).await).await;
    assert_eq!(annotation(HOLDER).await, None);
    until("it is held again", async || {
        sd.renew(&service).await.unwrap();
        annotation(HOLDER).await
    })
    .await;
    assert_eq!(annotation(RELEASED).await, None);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_by_hand_comes_back_with_a_renewal() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let replica = product.replica(1).await.start().await;
    let sd = sd(&replica);
    let (lives, gone) = (service(1), service(2));
    sd.register(&lives).await.unwrap();
    let name = only(&env).await.unwrap().metadata.name.unwrap();
    let delete = DeleteParams::default();
    env.endpoints().delete(&name, &delete).await.unwrap();
    is_told(&sd, &lives, &[]).await;
    sd.renew(&lives).await.unwrap();
    is_told(&sd, &lives, &[&lives]).await;
    until("it is stored again", async || only(&env).await).await;
    sd.deregister(&lives).await.unwrap();

    sd.register(&gone).await.unwrap();
    sd.deregister(&gone).await.unwrap();
    sd.renew(&gone).await.unwrap();
    assert!(only(&env).await.is_none(), "it was deregistered");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_endpoint_is_served_and_left_alone() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let setup = product.replica(1).await;
    let replica = setup.flags("--base-time 1s --start-grace 0s").start().await;
    let sd = sd(&replica);
    let service = service(1);
    let kept = record(&service.name, &service.node, &service.id, &service.address);
    let mut kept = TunnelEndpoint::from_record(&kept).unwrap();
    kept.metadata.name = Some("by-hand".into());
    kept.metadata.annotations = None;
    kept.spec.is_static = true;
    let api = env.endpoints();
    let made = api.create(&PostParams::default(), &kept).await.unwrap();
    is_told(&sd, &service, &[&service]).await;
    sd.renew(&service).await.unwrap();
    sd.register(&service).await.unwrap();
    sd.deregister(&service).await.unwrap();
    assert_eq!(told(&sd, &service).await, [&*service.id]);
    assert_eq!(only(&env).await.unwrap(), made);
    // Its address is changed as `kubectl apply` does it.
    let change = json!({
        "apiVersion": "tunnelregistry.io/v1alpha1",
        "kind": "TunnelEndpoint",
        "spec": { "address": "10.42.99.99:80" },
    });
    let by_git = PatchParams::apply("git").force();
    let applied = api.patch("by-hand", &by_git, &Patch::Apply(&change)).await;
    applied.unwrap();
    until("the new address is told", async || {
        let told = sd.get(&service.name).await.unwrap();
        (told[0].address == "10.42.99.99:80").then_some(())
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_may_apply_to_what_a_replica_writes() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let replica = product.replica(1).await.start().await;
    let sd = sd(&replica);
    let service = service(1);
    sd.register(&service).await.unwrap();
    let api = env.endpoints();
    let name = only(&env).await.unwrap().metadata.name.unwrap();
    let change = json!({
        "apiVersion": "tunnelregistry.io/v1alpha1",
        "kind": "TunnelEndpoint",
        "metadata": { "labels": { "team": "printing" } },
    });
    // Without force: no field is fought for.
    let by_git = PatchParams::apply("git");
    let applied = api
        .patch(&name, &by_git, &Patch::Apply(&change))
        .await
        .unwrap();
    let managers: BTreeSet<_> = applied
        .metadata
        .managed_fields
        .into_iter()
        .flatten()
        .filter_map(|fields| fields.manager)
        .collect();
    let expected = ["git", "tunnel-registry-plugin"].map(String::from);
    assert_eq!(managers, expected.into());
    // What the replica writes next leaves the label alone.
    let moved = Service {
        address: "10.42.77.77:80".into(),
        ..service.clone()
    };
    sd.register(&moved).await.unwrap();
    let object = only(&env).await.unwrap();
    assert_eq!(object.spec.address, moved.address);
    assert_eq!(object.metadata.labels.unwrap()["team"], "printing");
    replica.stop().await;
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_told_by_readyz() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let mut setup = product.replica(1).await.flags("--namespace never-made");
    // The product's own account may not even ask there.
    let kubeconfig = env.kubeconfig().into();
    setup.environment.push(("KUBECONFIG", kubeconfig));
    let replica = setup.start().await;
    until("it tells that the namespace is missing", async || {
        let (status, text) = replica.admin("/readyz").await;
        assert!(status.is_success(), "it serves: {text}");
        match text.contains("lease: ready, but not renewed")
            && text.contains("there is no namespace never-made; create it")
        {
            true => Ok(()),
            false => Err(text),
        }
    })
    .await;
    replica.stop().await;
}
