//! The Roles that ship are what the product needs: nothing less, nothing more.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tunnel_registry::gost::proto::Service;
use tunnel_registry::resources::replica_lease::lease_name;
use tunnel_registry::resources::tunnel_endpoint::{LEASE_DURATION, RENEW_TIME};

use super::accounts::Account;
use super::env::Env;
use super::objects::{raw, spec};
use super::product::Product;
use super::proxy::Proxy;
use super::replicas::{is_told, service};
use crate::process::{until, until_within};
use crate::sd::{Kept, Protocol, Sd};

/// What takes longest is a Lease that nobody needs: six times an orphan's wait.
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_granted_is_used_and_nothing_else_asked_for() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let flags = "--replica-lease 4s --base-time 1s --released-for 1s --start-grace 0s";
    let first = product.replica(1).await.flags(flags).start().await;
    let second = product.replica(2).await.flags(flags).start().await;
    let controller = product.controller(0).await.flags("--orphan-for 1s");
    let controller = controller.start().await;
    let [a, b] = [&first, &second].map(|it| Sd::new(Protocol::Grpc, it.setup.listen));

    // Made, moved, withdrawn elsewhere, and silent until it is collected.
    let (moves, silent) = (service(1), service(2));
    a.register(&moves).await.unwrap();
    a.register(&silent).await.unwrap();
    let moved = Service {
        address: "10.42.77.77:80".into(),
        ..moves.clone()
    };
    a.register(&moved).await.unwrap();
    is_told(&b, &moves, &[&moves]).await;
    b.deregister(&moves).await.unwrap();
    is_told(&a, &silent, &[]).await;

    // What a write meets is read: somebody else wrote while it was on its way.
    let proxy = Proxy::start(env.site.address).await;
    let third = product.replica_through(3, &proxy).await;
    let third = third.flags("--replica-lease 4s --identity third");
    let third = third.start().await;
    let c = Sd::new(Protocol::Grpc, third.setup.listen);
    let meets = service(3);
    c.register(&meets).await.unwrap();
    is_told(&b, &meets, &[&meets]).await;
    proxy.hang();
    let label = Patch::Merge(json!({ "metadata": { "labels": { "by": "hand" } } }));
    let params = PatchParams::default();
    let field = format!("spec.tunnel={}", meets.name);
    let fields = ListParams::default().fields(&field);
    let endpoints = env.endpoints().list(&fields).await.unwrap();
    let name = endpoints.items[0].metadata.name.clone().unwrap();
    env.endpoints().patch(&name, &params, &label).await.unwrap();
    let leases = env.api::<Lease>();
    let name = lease_name("third");
    leases.patch(&name, &params, &label).await.unwrap();
    let moved = Service {
        address: "10.42.78.78:80".into(),
        ..meets.clone()
    };
    assert_eq!(c.register(&moved).await.unwrap(), Kept::Pending);
    proxy.heal();
    until("it was moved in the end", async || {
        let told = b.get(&meets.name).await.unwrap();
        (told.first()?.address == moved.address).then_some(())
    })
    .await;
    c.deregister(&meets).await.unwrap();
    third.stop().await;

    // An event for what cannot be read, and the same again for another reason.
    let odd = json!({
        "apiVersion": "tunnelregistry.io/v1alpha1",
        "kind": "TunnelEndpoint",
        "metadata": { "name": "odd", "annotations": { RENEW_TIME: "x" } },
        "spec": spec(),
    });
    let api = raw(&env);
    let odd = serde_json::from_value(odd).unwrap();
    api.create(&PostParams::default(), &odd).await.unwrap();
    let annotations = json!({ RENEW_TIME: null, LEASE_DURATION: "x" });
    let otherwise = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    api.patch("odd", &params, &otherwise).await.unwrap();

    // Its Lease is left behind, and goes.
    first.stop().await;
    // One that stays gets a status.
    let stays = service(4);
    b.register(&stays).await.unwrap();
    for (account, patience) in [
        (Account::Plugin, Duration::from_secs(30)),
        (Account::Controller, LONG),
    ] {
        until_within(patience, "all rights are used", async || {
            b.renew(&stays).await.unwrap();
            let deeds = env.deeds(account);
            assert!(deeds.forbidden.is_empty(), "{deeds:?}");
            let unused: Vec<_> = account.granted().difference(&deeds.used).cloned().collect();
            match unused.is_empty() {
                true => Ok(()),
                false => Err(format!(
                    "{account:?} was granted and did not need {unused:?}"
                )),
            }
        })
        .await;
        assert_eq!(env.deeds(account).used, account.granted());
    }
    second.stop().await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_watch_pods_everything_else_works() {
    let env = Env::start().await;
    env.forbid_pods().await;
    let product = Product::new(&env);
    let flags = "--base-time 1s --released-for 1s --start-grace 0s";
    let replica = product.replica(1).await.flags(flags).start().await;
    let controller = product.controller(0).await.start().await;
    let sd = Sd::new(Protocol::Grpc, replica.setup.listen);
    let (lives, dies) = (service(1), service(2));
    sd.register(&lives).await.unwrap();
    sd.register(&dies).await.unwrap();
    until("what is silent goes and what lives stays", async || {
        sd.renew(&lives).await.unwrap();
        let list = env.endpoints().list(&ListParams::default()).await.unwrap();
        let left: Vec<_> = list.items.iter().map(|it| &it.spec.connector).collect();
        (left == [&lives.id]).then_some(())
    })
    .await;
    replica.stop().await;
    controller.stop().await;
}
