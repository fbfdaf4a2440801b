//! Replicas of the product on one etcd, while nothing is wrong with that.

use serde_json::json;
use tokio::net::TcpStream;

use super::product::Product;
use super::server::{Pair, common};
use crate::discoverd::env::instance;
use crate::kube::replicas::{is_told, service, told};
use crate::process::{PATIENCE, Registry, until, until_within};
use crate::sd::Kept;
use crate::session::env::Client;
use crate::sharing::{FLAGS, Renewing, sd};
use crate::testenv::{Answer, Http};

/// Who holds the only endpoint that is stored.
fn holder(pairs: &[Pair]) -> Option<String> {
    let [pair] = pairs else {
        return None;
    };
    let holder = &pair.json()["record"]["lease"]["holder"];
    holder.as_str().map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_registers_another_serves() {
    let server = common().await;
    let product = Product::new(server);
    let first = product.replica(1).start().await;
    let second = product.replica(2).start().await;
    let (a, b) = (sd(&first), sd(&second));
    let service = service(1);
    assert_eq!(a.register(&service).await.unwrap(), Kept::Stored);
    assert_eq!(told(&a, &service).await, [&*service.id], "its own at once");
    is_told(&b, &service, &[&service]).await;
    let endpoints = product.key("endpoint/");
    let pairs = server.pairs(&endpoints).await;
    assert_eq!(holder(&pairs).as_deref(), Some("r1"));
    let names = [&service.name, &service.node, &service.id];
    assert_eq!(
        pairs[0].key,
        format!("{endpoints}{}", names.map(String::as_str).join("/"))
    );
    assert_eq!(pairs[0].lease, 0, "it outlives its replica");
    let replicas = server.pairs(&product.key("replica/")).await;
    assert_eq!(replicas.len(), 2);
    assert!(replicas.iter().all(|pair| pair.lease != 0));
    assert_ne!(replicas[0].lease, replicas[1].lease);

    assert_eq!(b.deregister(&service).await.unwrap(), Kept::Stored);
    assert_eq!(server.pairs(&endpoints).await, []);
    is_told(&a, &service, &[]).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_leaves_its_endpoints_to_the_others() {
    let server = common().await;
    let product = Product::new(server);
    let flags = "--replica-lease 4s --base-time 60s --start-grace 0s";
    let first = product.replica(1).flags(flags).start().await;
    let second = product.replica(2).flags(flags).start().await;
    let (a, b) = (sd(&first), sd(&second));
    let service = service(1);
    a.register(&service).await.unwrap();
    is_told(&b, &service, &[&service]).await;
    let setup = first.kill().await;
    until("etcd has removed what vouched for it", async || {
        let left = server.pairs(&product.key("replica/r1")).await;
        left.is_empty().then_some(())
    })
    .await;
    assert_eq!(told(&b, &service).await, [&*service.id]);
    assert_eq!(second.rows().await[0]["reason"], "holder-silent");
    until("the other one has taken it over", async || {
        b.renew(&service).await.unwrap();
        let pairs = server.pairs(&product.key("endpoint/")).await;
        (holder(&pairs).as_deref() == Some("r2")).then_some(())
    })
    .await;
    assert_eq!(second.rows().await[0]["health"], "healthy");
    // It comes back, and leaves it there.
    let first = setup.start().await;
    is_told(&sd(&first), &service, &[&service]).await;
    let pairs = server.pairs(&product.key("endpoint/")).await;
    assert_eq!(holder(&pairs).as_deref(), Some("r2"));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_cost_no_writes() {
    const SERVICES: usize = 50;
    let server = common().await;
    let product = Product::new(server);
    // Nothing is due to be refreshed before this is over.
    let flags = "--replica-lease 4s --base-time 10m";
    let first = product.replica(1).flags(flags).start().await;
    let second = product.replica(2).flags(flags).start().await;
    let a = sd(&first);
    let services: Vec<_> = (0..SERVICES).map(service).collect();
    for service in &services {
        assert_eq!(a.register(service).await.unwrap(), Kept::Stored);
    }
    let endpoints = product.key("endpoint/");
    let before = server.pairs(&endpoints).await;
    assert_eq!(before.len(), SERVICES);
    let renewing = Renewing::start(&a, &services);
    let own = product.key("replica/r1");
    for _ in 0..3 {
        let last = server.pairs(&own).await;
        until("the replica has renewed its own lease", async || {
            (server.pairs(&own).await != last).then_some(())
        })
        .await;
    }
    assert_eq!(server.pairs(&endpoints).await, before);
    renewing.end().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_maintains_goes_and_what_is_static_stays() {
    let server = common().await;
    let product = Product::new(server);
    let flags = format!("{FLAGS} --released-for 1s --orphan-for 2s");
    let first = product.replica(1).flags(&flags).start().await;
    let second = product.replica(2).flags(&flags).start().await;
    let third = product.replica(3).flags(&flags).start().await;
    let [a, b] = [&first, &second].map(sd);
    let (lives, silent, orphan, fixed) = (service(1), service(2), service(3), service(4));
    a.register(&lives).await.unwrap();
    let renewing = Renewing::start(&a, std::slice::from_ref(&lives));
    a.register(&silent).await.unwrap();
    sd(&third).register(&orphan).await.unwrap();
    let names = [&fixed.name, &fixed.node, &fixed.id].map(String::as_str);
    let by_hand = json!({ "kind": "endpoint", "record": {
        "tunnel": names[0],
        "node": names[1],
        "connector": names[2],
        "network": "tcp",
        "address": "10.0.0.1:80",
        "lease": { "renew_time": "2026-01-01T00:00:00Z", "duration_seconds": 0 },
        "static": true,
    }});
    let key = product.key(&format!("endpoint/{}", names.join("/")));
    server.put(&key, &by_hand.to_string()).await;
    for service in [&lives, &silent, &orphan, &fixed] {
        is_told(&b, service, &[service]).await;
    }
    third.kill().await;
    for service in [&silent, &orphan] {
        is_told(&b, service, &[]).await;
    }
    crate::sharing::are_stored(
        async || product.stored(server).await,
        &[lives.clone(), fixed.clone()],
    )
    .await;
    for service in [&lives, &fixed] {
        is_told(&b, service, &[service]).await;
    }
    renewing.end().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_dead_replica_go_without_a_controller() {
    const REGISTER: &str = "REGISTER|api|api-v2|9000|9001";
    let server = common().await;
    let product = Product::new(server);
    let taking = |n| {
        let mut setup = product.replica(n);
        setup.sessions = Some(product.net.at(n, 8181));
        setup.flags("--replica-lease 4s --session-grace 2s")
    };
    let first = taking(1).start().await;
    let second = taking(2).start().await;
    let mut client = Client::<TcpStream>::at(first.setup.sessions.unwrap()).await;
    client.register(REGISTER).await;
    let sessions = product.key("session/");
    assert_eq!(server.pairs(&sessions).await.len(), 1);
    // Who comes when its holder has no record any more knows nobody of that name.
    second.stop().await;
    first.kill().await;
    until("etcd has removed what vouched for it", async || {
        let left = server.pairs(&product.key("replica/r1")).await;
        left.is_empty().then_some(())
    })
    .await;
    let second = taking(2).start().await;
    until_within(2 * PATIENCE, "the session is gone", async || {
        server.pairs(&sessions).await.is_empty().then_some(())
    })
    .await;
    second.stop().await;
}

async fn send(replica: &Registry, method: &str, path: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(replica.setup.listen).await;
    Http(stream.unwrap()).send(method, path, &[], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_shared() {
    let server = common().await;
    let product = Product::new(server);
    let first = product.replica(1).start().await;
    let second = product.replica(2).start().await;
    let made = send(&first, "PUT", "/services/x", "{}").await;
    assert_eq!(made.status, 200, "{}", made.body);
    let (path, body) = instance("x", "10.0.0.1:80", "here");
    let registered = send(&first, "PUT", &path, &body).await;
    assert_eq!(registered.status, 200, "{}", registered.body);
    until("the other one tells the instance", async || {
        let answer = send(&second, "GET", "/services/x/instances", "").await;
        match answer.body.contains("10.0.0.1:80") {
            true => Ok(()),
            false => Err(answer.body),
        }
    })
    .await;
    // A heartbeat may come to any of them.
    let beaten = send(&second, "PUT", &path, &body).await;
    assert_eq!(beaten.status, 200, "{}", beaten.body);
    first.stop().await;
    second.stop().await;
}
