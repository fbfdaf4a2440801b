//! Who stays and who goes, while replicas die and while the API server is away.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use tokio::time::{Instant, interval};
use tunnel_registry::discoverd::engine::ANSWER_WITHIN;
use tunnel_registry::replicas::VALIDITY;
use tunnel_registry::resources::replica_lease::lease_name;

use super::client::{BEAT, Client};
use super::{TTL, agree, serving, with_flags};
use crate::discoverd::env::{failure, instance};
use crate::kube::cluster::{Part, lent};
use crate::kube::env::Env;
use crate::kube::product::Product;
use crate::kube::proxy::Proxy;
use crate::process::{PATIENCE, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_heard_stays_when_its_replica_is_killed_and_the_rest_goes_in_time() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let second = serving(&env, &product, 2).await.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    let mut events = b.subscribe("db").await;
    events.are(&["current"]).await;
    a.put("/services/db", "{}").await;
    a.register("db", "heard:1", "").await;
    a.register("db", "lost:1", "x").await;
    a.register("db", "lost:1", "y").await;
    a.register("db", "gone:1", "").await;
    a.unregister("db", "gone:1").await;
    events.are(&["up heard:1", "leader heard:1"]).await;
    events.are(&["up lost:1 x", "update lost:1 y"]).await;
    events.are(&["up gone:1", "down gone:1"]).await;
    let before = agree(&a, &b, "db", 2).await;
    assert_eq!(b.leader("db").await.as_deref(), Ok("heard:1"));
    let holder = env.holder("heard:1").await;
    assert_eq!(holder.as_deref(), Some("replica-1"));

    let killed = Instant::now();
    let setup = first.kill().await;
    tokio::select! {
        never = b.keeps("db", "heard:1") => never,
        () = events.are(&["down lost:1 y"]) => {}
    }
    // Its lease had to run out first.
    assert!(killed.elapsed() >= 2 * TTL, "{:?}", killed.elapsed());
    assert_eq!(env.holder("heard:1").await.as_deref(), Some("replica-2"));
    assert_eq!(b.listed("db").await.unwrap(), before[..1]);

    // It comes back, and shows the same.
    let first = setup.start().await;
    b.register("db", "heard:1", "").await;
    assert_eq!(a.listed("db").await.unwrap(), before[..1]);
    assert_eq!(a.leader("db").await.as_deref(), Ok("heard:1"));
    // Nobody is heard: the holder releases it, nobody takes it over, it goes.
    events.are(&["down heard:1", "leader"]).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_heard_elsewhere_is_taken_over_and_nobody_is_told() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let second = serving(&env, &product, 2).await.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    a.put("/services/db", "{}").await;
    a.register("db", "h:1", "").await;
    let before = agree(&a, &b, "db", 1).await;
    let mut events = a.subscribe("db").await;
    events.are(&["up h:1", "leader h:1", "current"]).await;
    let taken = until("the other replica holds it", async || {
        b.register("db", "h:1", "").await;
        env.holder("h:1")
            .await
            .filter(|holder| holder == "replica-2")
    });
    taken.await;
    // An orderly stop gives the replica's lease up.
    second.stop().await;
    let back = until("the first replica holds it again", async || {
        a.register("db", "h:1", "").await;
        env.holder("h:1")
            .await
            .filter(|holder| holder == "replica-1")
    });
    back.await;
    assert_eq!(a.listed("db").await.unwrap(), before);
    // The next event is another one's.
    a.register("db", "i:1", "").await;
    events.are(&["up i:1"]).await;
    first.stop().await;
}

/// As when a node is lost with the only replica: Kubernetes removes its Lease with
/// its pod, and the next replica has never seen either.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_held_whose_lease_is_gone_is_kept_or_goes() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let a = Client::of(&first);
    a.put("/services/db", "{}").await;
    a.register("db", "heard:1", "").await;
    a.register("db", "lost:1", "").await;
    first.kill().await;
    let delete = DeleteParams::default();
    let leases = env.api::<Lease>();
    leases
        .delete(&lease_name("replica-1"), &delete)
        .await
        .unwrap();

    let begun = Instant::now();
    let second = serving(&env, &product, 2).await.start().await;
    let b = Client::of(&second);
    let mut events = b.subscribe("db").await;
    let first = ["up heard:1", "up lost:1", "leader heard:1", "current"];
    events.are(&first).await;
    tokio::select! {
        never = b.keeps("db", "heard:1") => never,
        // A lease that is not there is waited for as long as one is valid.
        () = events.are_within(2 * PATIENCE, &["down lost:1"]) => {}
    }
    assert!(
        begun.elapsed() >= VALIDITY + 2 * TTL,
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(env.holder("heard:1").await.as_deref(), Some("replica-2"));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_heard_only_by_a_replica_that_is_cut_off_is_made_anew_afterwards() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let proxy = Proxy::start(env.site.address).await;
    let second = serving(&env, &product, 2).await.start().await;
    let first = with_flags(product.replica_through(1, &proxy).await, 1);
    let first = first.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    a.put("/services/db", "{}").await;
    a.register("db", "a:1", "").await;
    b.register("db", "b:1", "").await;
    let before = agree(&a, &b, "db", 2).await;
    let [mut at_a, mut at_b] = [a.subscribe("db").await, b.subscribe("db").await];
    for events in [&mut at_a, &mut at_b] {
        let first = ["up a:1", "up b:1", "leader a:1", "current"];
        events.are(&first).await;
    }

    proxy.cut();
    let story = async {
        at_b.are(&["down a:1", "leader b:1"]).await;
        // Whoever asks the one that is cut off sees what there was.
        assert_eq!(a.listed("db").await.unwrap(), before);
        proxy.heal();
        for events in [&mut at_a, &mut at_b] {
            // What was missed comes at once, in an order of its own.
            let mut next = BTreeSet::new();
            while !next.contains("up a:1") {
                next.insert(events.next().await);
            }
            assert!(!next.contains("down b:1"), "{next:?}");
        }
    };
    let beats = async {
        let mut beats = interval(BEAT);
        loop {
            beats.tick().await;
            // Answered 503 if it is to be written while that is not possible.
            let (path, body) = instance("db", "a:1", "");
            a.send("PUT", &path, &body).await;
            b.register("db", "b:1", "").await;
        }
    };
    tokio::select! {
        never = beats => never,
        () = story => {}
    }
    let after = agree(&a, &b, "db", 2).await;
    assert_eq!(after[0], before[1], "b:1 has its index, and leads");
    assert!(after[1].1 > before[1].1, "{before:?} {after:?}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_write_nothing() {
    const INSTANCES: usize = 20;
    let env = Env::start().await;
    let product = Product::new(&env);
    let first = serving(&env, &product, 1).await.start().await;
    let second = serving(&env, &product, 2).await.start().await;
    let (a, b) = (Client::of(&first), Client::of(&second));
    a.put("/services/db", "{}").await;
    let addrs: Vec<_> = (0..INSTANCES).map(|n| format!("h{n}:1")).collect();
    for addr in &addrs {
        a.register("db", addr, "").await;
    }
    agree(&a, &b, "db", INSTANCES).await;
    // Once a write after them is there, the API server has written all of them down.
    let written = async |last: &str, services: usize| {
        a.put(&format!("/services/{last}"), "{}").await;
        until("the last write is in the log", async || {
            let writes = env.writes();
            let made = writes.get("create discoveryservices");
            (made == Some(&services)).then_some(writes)
        })
        .await
    };
    let mut before = written("before", 2).await;
    assert_eq!(before["create discoveryinstances"], INSTANCES);
    assert!(
        before["patch discoveryservices"] > 0,
        "the counter is raised"
    );
    // For longer than the leases of instances, at their replica and at the other.
    let (begun, mut beats) = (Instant::now(), interval(BEAT));
    while begun.elapsed() < TTL + TTL / 2 {
        beats.tick().await;
        for addr in &addrs {
            a.register("db", addr, "").await;
            b.register("db", addr, "").await;
        }
    }
    let after = written("after", 3).await;
    before.insert("create discoveryservices".into(), 3);
    assert_eq!(after, before);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_reads_heartbeats_and_streams_go_on() {
    let mut cluster = lent().await;
    let env = Env::of(&cluster).await;
    let product = Product::new(&env);
    let replica = serving(&env, &product, 1).await.start().await;
    let a = Client::of(&replica);
    a.put("/services/db", "{}").await;
    a.register("db", "lives:1", "").await;
    a.register("db", "dies:1", "").await;
    let mut events = a.subscribe("db").await;
    let first = ["up lives:1", "up dies:1", "leader lives:1", "current"];
    events.are(&first).await;

    cluster.kill(Part::ApiServer).await;
    let (path, new) = instance("db", "new:1", "");
    let (begun, mut beats) = (Instant::now(), interval(BEAT));
    // Longer than the silence after which an instance goes.
    while begun.elapsed() < TTL + TTL / 2 {
        beats.tick().await;
        a.register("db", "lives:1", "").await;
        assert_eq!(a.listed("db").await.unwrap().len(), 2);
        assert_eq!(a.leader("db").await.as_deref(), Ok("lives:1"));
    }
    let begun = Instant::now();
    let refused = a.send("PUT", &path, &new).await;
    assert!(begun.elapsed() >= ANSWER_WITHIN, "it was not tried");
    assert_eq!(failure(&refused), (503, "unknown_error".to_owned()));
    assert!(refused.body.contains("\"retry\":true"), "{}", refused.body);
    assert_eq!(
        a.listed("db").await.unwrap().len(),
        2,
        "nobody goes or comes"
    );
    let (status, parts) = replica.admin("/readyz").await;
    assert!(status.is_success(), "{parts}");

    let mended = async {
        cluster.run(Part::ApiServer);
        cluster.ready().await;
        events.are(&["down dies:1"]).await;
        a.put(&path, &new).await;
        events.are(&["up new:1"]).await;
    };
    tokio::select! {
        never = a.keeps("db", "lives:1") => never,
        () = mended => {}
    }
    replica.stop().await;
}
