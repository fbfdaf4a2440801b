//! What it takes to serve services: no more rights than there are, and what is told
//! when they are missing.

use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::client::Client;
use super::with_flags;
use crate::discoverd::env::failure;
use crate::kube::accounts::{Account, SERVICES};
use crate::kube::env::Env;
use crate::kube::product::Product;
use crate::kube::proxy::Proxy;
use crate::kube::rights::granted;
use crate::process::{fetch, until};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_granted_for_services_is_used_and_nothing_else_asked_for() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let proxy = Proxy::start(env.site.address).await;
    env.grant(SERVICES, Account::Plugin).await;
    let replica = product.replica_through(1, &proxy).await;
    let replica = with_flags(replica, 1).start().await;
    let a = Client::of(&replica);
    a.put("/services/gone", "{}").await;
    a.delete("/services/gone").await;
    a.put("/services/db", "{}").await;
    a.register("db", "gone:1", "").await;
    a.unregister("db", "gone:1").await;
    a.register("db", "a:1", "").await;
    let granted = granted(SERVICES, Account::Plugin.name());
    assert_eq!(granted.len(), 12);
    let name = env
        .discovery_instances()
        .list(&ListParams::default())
        .await
        .unwrap();
    let name = name.items[0].name_any();
    let params = PatchParams::default();
    let mut round = 0;
    until("all rights are used", async || {
        // What a write meets is read: somebody else wrote while it was on its way.
        round += 1;
        proxy.hang();
        let label = json!({ "metadata": { "labels": { "by": round.to_string() } } });
        let label = Patch::Merge(label);
        env.discovery_services()
            .patch("db", &params, &label)
            .await
            .unwrap();
        env.discovery_instances()
            .patch(&name, &params, &label)
            .await
            .unwrap();
        let changed = format!("round {round}");
        let changes = async {
            let (another, body) = (format!("h{round}:1"), "");
            tokio::join!(
                a.register("db", "a:1", &changed),
                a.register("db", &another, body)
            )
        };
        let heals = async {
            until("writes are under way", async || {
                let waiting = "tunnel_registry_service_write_queue_length";
                (replica.metric(waiting).await > 1).then_some(())
            })
            .await;
            proxy.heal();
        };
        tokio::join!(changes, heals);
        let deeds = env.deeds(Account::Plugin);
        assert!(deeds.forbidden.is_empty(), "{deeds:?}");
        let unused: Vec<_> = granted.difference(&deeds.used).cloned().collect();
        unused.is_empty().then_some(()).ok_or(format!("{unused:?}"))
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told() {
    let env = Env::start().await;
    let product = Product::new(&env);
    // Switched off, as they are unless it is said.
    let replica = product.replica(1).await.start().await;
    let off = Client::of(&replica).send("PUT", "/services/db", "{}").await;
    assert_eq!(failure(&off), (501, "unknown_error".to_owned()));
    assert!(off.body.contains("--services"), "{}", off.body);
    replica.stop().await;

    // Switched on, without the rights.
    let setup = with_flags(product.replica(2).await, 2);
    let mut replica = setup.spawn();
    until("it says what is missing", async || {
        let answer = fetch(setup.admin, "/readyz").await;
        let (status, text) = answer.map_err(|error| error.to_string())?;
        let told = status == 503 && text.contains("manifests/services.yaml");
        told.then_some(()).ok_or(text)
    })
    .await;
    replica.process.says("discoveryservices").await;
    let unread = Client::of(&replica)
        .send("GET", "/services/db/instances", "")
        .await;
    assert_eq!(failure(&unread).0, 503);
    // Granted, it goes on by itself.
    env.grant(SERVICES, Account::Plugin).await;
    replica.ready().await;
    Client::of(&replica).put("/services/db", "{}").await;
    replica.stop().await;
}
