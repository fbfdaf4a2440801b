//! Every replica shows and tells the same.

use std::collections::BTreeSet;

use futures::future::join_all;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use tunnel_registry::resources::{DiscoveryService, DiscoveryServiceSpec};

use super::client::Client;
use super::{agree, serving};
use crate::discoverd::env::{failure, instance};
use crate::kube::env::Env;
use crate::kube::product::Product;
use crate::process::until;

#[tokio::test(flavor = "multi_thread")]
async fn many_that_register_at_once_are_in_one_order_at_every_replica() {
    const INSTANCES: usize = 60;
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let second = serving(&env, &product, 2).await.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    a.put("/services/db", "{}").await;
    until("the other replica knows the service", async || {
        b.listed("db").await
    })
    .await;
    let mut streams = [a.subscribe("db").await, b.subscribe("db").await];
    for events in &mut streams {
        events.are(&["current"]).await;
    }
    let addrs: Vec<_> = (0..INSTANCES).map(|n| format!("h{n}:1")).collect();
    let clients = addrs.iter().enumerate();
    join_all(clients.map(|(n, addr)| [&a, &b][n % 2].register("db", addr, ""))).await;
    let all = agree(&a, &b, "db", INSTANCES).await;
    let indexes: Vec<_> = all.iter().map(|(_, index)| *index).collect();
    assert!(indexes.is_sorted(), "{indexes:?}");
    let distinct: BTreeSet<_> = indexes.iter().collect();
    assert_eq!(distinct.len(), INSTANCES, "{indexes:?}");
    let leader = all[0].0.clone();
    assert_eq!(a.leader("db").await, Ok(leader.clone()));
    assert_eq!(b.leader("db").await, Ok(leader));
    // And so were the events.
    let mut told = Vec::new();
    for events in &mut streams {
        let (mut all, mut ups) = (Vec::new(), 0);
        while ups < INSTANCES {
            let event = events.next().await;
            ups += usize::from(event.starts_with("up "));
            all.push(event);
        }
        told.push(all);
    }
    assert_eq!(told[0], told[1]);

    // Of many that swap the meta data one wins.
    let swaps = (0..10).map(|n| {
        let body = json!({ "data": n, "index": 0 }).to_string();
        async move {
            let at = [a, b][n % 2];
            at.send("PUT", "/services/db/meta", &body).await.status
        }
    });
    let answers = join_all(swaps).await;
    let won = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(won, 1, "{answers:?}");
    assert!(
        answers.iter().all(|status| [200, 409].contains(status)),
        "{answers:?}"
    );
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_leader_and_meta_data_are_the_same_everywhere() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let second = serving(&env, &product, 2).await.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    // A name that an object cannot have.
    a.put("/services/-db-", r#"{"leader_type":"manual"}"#).await;
    let mut events = b.subscribe("-db-").await;
    events.are(&["current"]).await;
    a.register("-db-", "a:1", "").await;
    let (_, named) = instance("-db-", "b:1", "");
    a.put("/services/-db-/leader", &named).await;
    let absent = b.send("GET", "/services/-db-/leader", "").await;
    assert_eq!(failure(&absent).0, 404);
    b.register("-db-", "b:1", "").await;
    assert_eq!(b.leader("-db-").await.as_deref(), Ok("b:1"));
    events.are(&["up a:1", "up b:1", "leader b:1"]).await;
    // As it was given: the order of keys, and numbers that are no doubles.
    let data = r#"{"z":18446744073709551615000,"a":[1.50,null],"z":"="}"#;
    let meta = format!("{{\"data\":{data},\"index\":0}}");
    let made = a.put("/services/-db-/meta", &meta).await;
    until("the other replica has the same", async || {
        let answer = b.send("GET", "/services/-db-/meta", "").await;
        let is_same = answer.body == made && made.contains(data);
        is_same.then_some(()).ok_or(answer.body)
    })
    .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_be_made_and_ended_by_hand() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let second = serving(&env, &product, 2).await.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    let spec = DiscoveryServiceSpec {
        service: "db".into(),
        ..DiscoveryServiceSpec::default()
    };
    // As from Git, under any name.
    let object = DiscoveryService::new("by-hand", spec);
    let services = env.discovery_services();
    let create = PostParams::default();
    services.create(&create, &object).await.unwrap();
    for at in [&a, &b] {
        until("it is there", async || at.listed("db").await).await;
        let again = at.send("PUT", "/services/db", "{}").await;
        assert_eq!(failure(&again).0, 409);
    }
    let mut streams = [a.subscribe("db").await, b.subscribe("db").await];
    a.register("db", "a:1", "").await;
    a.register("db", "b:1", "").await;
    let before = agree(&a, &b, "db", 2).await;

    let delete = DeleteParams::default();
    services.delete("by-hand", &delete).await.unwrap();
    for events in &mut streams {
        events
            .are(&["current", "up a:1", "leader a:1", "up b:1"])
            .await;
        events.are(&["down a:1", "down b:1", "leader"]).await;
    }
    until("its instances are removed", async || {
        let left = env
            .discovery_instances()
            .list(&ListParams::default())
            .await
            .unwrap();
        left.items.is_empty().then_some(())
    })
    .await;
    // Made again by a client, it begins above what it had.
    a.put("/services/db", "{}").await;
    a.register("db", "a:1", "").await;
    let after = agree(&a, &b, "db", 1).await;
    assert!(after[0].1 > before[1].1, "{before:?} {after:?}");
    first.stop().await;
    second.stop().await;
}
