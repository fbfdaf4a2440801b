//! Services by DNS, over real sockets.

mod bounds;
mod client;
mod program;

use std::collections::BTreeSet;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::time::timeout;
use tunnel_registry::backend::Backend;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::discoverd::engine::{Limits as Most, Setup};
use tunnel_registry::discoverd::{InstanceId, Services};

use super::env::{Env, Plan};
use super::places::{Place, on_every_store};
use crate::testenv::PATIENCE;
use client::{Dns, data, over_tcp, over_udp, patient, queries, question};

on_every_store! {
    every_type_is_answered_over_both_transports
}

async fn every_type_is_answered_over_both_transports(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    env.done("PUT", "/services/db", "{}").await;
    dns.nothing("db.discoverd.", RecordType::A, ResponseCode::NoError)
        .await;
    env.register("db", "10.0.0.1:80", "").await;
    env.register("db", "[2001:db8::1]:81", "").await;
    let [v4, v6] = ["10.0.0.1:80", "[2001:db8::1]:81"].map(|addr| InstanceId::of("tcp", addr));
    let a = BTreeSet::from(["10.0.0.1".to_owned()]);
    let aaaa = BTreeSet::from(["2001:db8::1".to_owned()]);
    let srv = BTreeSet::from([
        format!("1 1 80 {v4}.db._i.discoverd."),
        format!("1 1 81 {v6}.db._i.discoverd."),
    ]);
    for name in [
        "db.discoverd.",
        "DB.DISCOVERD.",
        "_db._tcp.discoverd.",
        "_DB._tcp.Discoverd.",
    ] {
        let any = &(&a | &aaaa) | &srv;
        for (kind, expected) in [
            (RecordType::A, &a),
            (RecordType::AAAA, &aaaa),
            (RecordType::SRV, &srv),
            (RecordType::ANY, &any),
        ] {
            for answer in dns.both(name, kind).await {
                assert_eq!(answer.response_code, ResponseCode::NoError);
                assert!(answer.authoritative && !answer.truncation);
                assert_eq!(&data(&answer.answers), expected, "{name} {kind}");
                for record in &answer.answers {
                    assert_eq!(record.name.to_string(), name);
                    assert_eq!(record.ttl, 0);
                }
                if kind == RecordType::SRV {
                    assert_eq!(data(&answer.additionals), &a | &aaaa);
                }
            }
        }
        dns.nothing(name, RecordType::TXT, ResponseCode::NoError)
            .await;
    }
    // What an SRV record names has an address.
    assert_eq!(dns.ip(&format!("{v4}.db._i.discoverd.")).await, "10.0.0.1");
    dns.nothing(
        &format!("{v4}.db._i.discoverd."),
        RecordType::AAAA,
        ResponseCode::NoError,
    )
    .await;
    dns.nothing(
        "_db._udp.discoverd.",
        RecordType::SRV,
        ResponseCode::NoError,
    )
    .await;
    dns.nothing("x.discoverd.", RecordType::A, ResponseCode::NXDomain)
        .await;
    for answer in dns.both("example.com.", RecordType::A).await {
        assert_eq!(answer.response_code, ResponseCode::Refused);
        assert!(answer.authorities.is_empty());
    }
    for (outcome, at_least) in [
        ("answered", 16),
        ("no_data", 7),
        ("no_name", 1),
        ("refused", 1),
    ] {
        assert!(dns.count(&queries("tcp", outcome)) >= at_least, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_are_cut_over_udp_and_whole_over_tcp() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    env.done("PUT", "/services/web", "{}").await;
    for n in 1..=40 {
        env.register("web", &format!("10.0.0.{n}:{}", 8_000 + n), "")
            .await;
    }
    let mut seen = BTreeSet::new();
    let all = async {
        while seen.len() < 40 {
            let answer = over_udp(dns.address, &question("web.discoverd.", RecordType::A)).await;
            assert_eq!(answer.answers.len(), 3);
            assert!(!answer.truncation);
            seen.extend(data(&answer.answers));
        }
    };
    timeout(PATIENCE, all).await.expect("some are never drawn");
    let whole = over_tcp(dns.address, &question("web.discoverd.", RecordType::A)).await;
    assert_eq!(data(&whole.answers), seen);
    let whole = over_tcp(dns.address, &question("web.discoverd.", RecordType::SRV)).await;
    assert_eq!((whole.answers.len(), whole.additionals.len()), (40, 40));
    let some = over_udp(dns.address, &question("web.discoverd.", RecordType::SRV)).await;
    assert_eq!((some.answers.len(), some.additionals.len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_follow_who_leads_and_who_is_there() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    let leader = "leader.db.discoverd.";
    dns.nothing(leader, RecordType::A, ResponseCode::NXDomain)
        .await;
    env.done("PUT", "/services/db", "{}").await;
    dns.nothing(leader, RecordType::A, ResponseCode::NXDomain)
        .await;
    env.register("db", "10.0.0.1:80", "").await;
    env.register("db", "10.0.0.2:80", "").await;
    assert_eq!(dns.ip(leader).await, "10.0.0.1");
    env.unregister("db", "10.0.0.1:80").await;
    assert_eq!(dns.ip(leader).await, "10.0.0.2");
    assert_eq!(dns.ip("db.discoverd.").await, "10.0.0.2");
    let gone = format!("{}.db._i.discoverd.", InstanceId::of("tcp", "10.0.0.1:80"));
    dns.nothing(&gone, RecordType::A, ResponseCode::NXDomain)
        .await;
    env.unregister("db", "10.0.0.2:80").await;
    dns.nothing(leader, RecordType::A, ResponseCode::NXDomain)
        .await;
    dns.nothing("db.discoverd.", RecordType::A, ResponseCode::NoError)
        .await;
    env.done("DELETE", "/services/db", "").await;
    dns.nothing("db.discoverd.", RecordType::A, ResponseCode::NXDomain)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_store_was_read_nobody_is_told_that_there_is_nothing() {
    let store: Arc<dyn Backend> = Arc::new(Memory::new());
    let setup = Setup {
        identity: "test".into(),
        shared: false,
        ttl: PATIENCE,
        limits: Most::default(),
        seed: 1,
    };
    let services = Arc::new(Services::new(setup, 1, &store));
    let dns = Dns::start(&services, patient());
    for answer in dns.both("db.discoverd.", RecordType::A).await {
        assert_eq!(answer.response_code, ResponseCode::ServFail);
        assert!(!answer.authoritative && answer.authorities.is_empty());
    }
}
