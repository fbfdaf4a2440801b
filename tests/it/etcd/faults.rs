//! The store while somebody else does something to etcd.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::BoxStream;
use serde_json::json;
use tunnel_registry::backend::etcd::{Etcd, Settings};
use tunnel_registry::backend::{Backend as _, Change, Revision, Stored, Write, WriteError};
use tunnel_registry::record::{Key, Kind, Record};

use super::server::{Server, common, text};
use crate::contract::{Following, everything, next, record, replica};
use crate::kube::proxy::Proxy;

/// A store, and the same with a network of its own before etcd.
async fn pair(server: &Server, proxy: &Proxy) -> [Etcd; 2] {
    let settings = server.settings();
    let through = Settings {
        urls: vec![format!("http://{}", proxy.address).parse().unwrap()],
        ..settings.clone()
    };
    [
        Etcd::open(settings).await.unwrap(),
        Etcd::open(through).await.unwrap(),
    ]
}

async fn create(store: &Etcd, record: &Record) -> Revision {
    store.write(Write::Create(record.clone())).await.unwrap()
}

fn refused(written: Result<Revision, WriteError>) -> String {
    match written {
        Err(WriteError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_during_a_break_is_told_afterwards() {
    let server = common().await;
    let proxy = Proxy::start(server.members[0].address()).await;
    let [store, watched] = pair(server, &proxy).await;
    let mut watch = Following::begin(&watched, watched.watch()).await;
    let [a, b] = ["a", "b"].map(|connector| record("t", connector, 1));
    proxy.cut();
    let first = create(&store, &a).await;
    let second = create(&store, &b).await;
    let delete = Write::Delete(a.key(), first);
    store.write(delete).await.unwrap();
    proxy.heal();
    // Each change by itself: nothing had to be read again.
    for (record, revision) in [(&a, first), (&b, second)] {
        let record = record.clone();
        let told = Stored { record, revision };
        assert_eq!(watch.change().await, Change::Put(told));
    }
    let gone = watch.change().await;
    assert!(
        matches!(&gone, Change::Delete(key, _) if *key == a.key()),
        "{gone:?}"
    );
    assert_eq!(watched.trouble(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compacted_is_read_again() {
    // Whoever else watches would have to as well.
    let server = Server::start(1).await;
    let proxy = Proxy::start(server.members[0].address()).await;
    let [store, watched] = pair(&server, &proxy).await;
    let gone = record("t", "gone", 1);
    let at = create(&store, &gone).await;
    let mut watch = Following::begin(&watched, watched.watch()).await;
    proxy.cut();
    let stays = record("t", "stays", 1);
    let revision = create(&store, &stays).await;
    store.write(Write::Delete(gone.key(), at)).await.unwrap();
    create(&store, &replica("r", 1)).await;
    let now = server.revision().await;
    let compact = json!({ "revision": now, "physical": true });
    server.ask("kv/compaction", compact).await;
    proxy.heal();
    for kind in Kind::ALL {
        let told = watch.change().await;
        assert!(
            matches!(&told, Change::Reset(of, ..) if *of == kind),
            "{told:?}"
        );
    }
    assert_eq!(watch.all, everything(&store).await);
    assert_eq!(watch.all[&stays.key()].revision, revision);
    assert!(!watch.all.contains_key(&gone.key()));
    // And goes on.
    let next = record("t", "next", 1);
    create(&store, &next).await;
    let told = watch.change().await;
    assert!(
        matches!(&told, Change::Put(stored) if stored.record == next),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_is_refused_and_not_the_store() {
    let store = common().await.open().await;
    // What etcd refuses, and what its gRPC does.
    for size in [1_600_000, 3_000_000] {
        let Record::Endpoint(mut large) = record("t", "large", 1) else {
            panic!()
        };
        let attributes = &mut Arc::make_mut(&mut large).endpoint.attributes;
        attributes.insert("x".into(), "x".repeat(size));
        let why = refused(store.write(Write::Create(Record::Endpoint(large))).await);
        assert!(why.contains("--max-request-bytes"), "{why}");
    }
    create(&store, &record("t", "small", 1)).await;
    assert_eq!(everything(&store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_too_long_are_asked_for_in_parts() {
    const RECORDS: usize = 70;
    let store = common().await.open().await;
    for n in 0..RECORDS {
        let Record::Endpoint(mut long) = record("t", &n.to_string(), 1) else {
            panic!()
        };
        let attributes = &mut Arc::make_mut(&mut long).endpoint.attributes;
        attributes.insert("x".into(), "x".repeat(1_000_000));
        create(&store, &Record::Endpoint(long)).await;
    }
    assert_eq!(everything(&store).await.len(), RECORDS);
    let listed = store.list(Kind::Endpoint).await.unwrap();
    assert_eq!(listed.len(), RECORDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_told_and_the_rest_is_served() {
    let server = common().await;
    let settings = server.settings();
    let key = |rest: &str| format!("{}{rest}", settings.prefix);
    let path = |connector: &str| key(&format!("endpoint/t/node/{connector}"));
    let store = Etcd::open(settings.clone()).await.unwrap();
    let good = record("t", "good", 1);
    create(&store, &good).await;
    server.put(&path("odd"), "{").await;
    server.put(&key("notes"), "not ours").await;
    let mut watch = Following::begin(&store, store.watch()).await;
    assert_eq!(watch.all.len(), 1);
    let names = || {
        let problems = store.problems();
        let mut names: Vec<_> = problems.into_iter().map(|it| it.name).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [path("odd"), key("notes")]);

    // What was served and cannot be read any more is served no more, once.
    server.put(&path("good"), "[]").await;
    let told = watch.change().await;
    assert!(
        matches!(&told, Change::Delete(key, _) if *key == good.key()),
        "{told:?}"
    );
    server.put(&path("good"), "[1]").await;
    assert_eq!(names(), [path("good"), path("odd"), key("notes")]);
    let value = serde_json::to_string(&good).unwrap();
    server.put(&path("good"), &value).await;
    let told = watch.change().await;
    assert!(
        matches!(&told, Change::Put(stored) if stored.record == good),
        "{told:?}"
    );

    // It is in the way of its record until somebody removes it.
    let odd = record("t", "odd", 1);
    let why = refused(store.write(Write::Create(odd.clone())).await);
    assert!(
        why.contains(&format!("etcdctl del '{}'", path("odd"))),
        "{why}"
    );
    let delete = Write::Delete(odd.key(), Revision(1));
    store.write(delete).await.unwrap();
    let remove = json!({ "key": text(&path("odd")) });
    server.ask("kv/deleterange", remove).await;
    let at = create(&store, &odd).await;
    let told = watch.change().await;
    let stored = Stored {
        record: odd,
        revision: at,
    };
    assert_eq!(told, Change::Put(stored), "nothing else was told");
    assert_eq!(names(), [key("notes")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_restores_its_own_record() {
    let server = common().await;
    let settings = server.settings();
    let store = Etcd::open(settings.clone()).await.unwrap();
    let own = replica("r", 1);
    let at = create(&store, &own).await;
    let path = format!("{}replica/r", settings.prefix);
    for value in ["", "{}"] {
        server.put(&path, value).await;
        let put = Write::Put(replica("r", 2), at);
        store.write(put).await.unwrap();
        let [stored] = &store.list(Kind::Replica).await.unwrap()[..] else {
            panic!()
        };
        assert_eq!(stored.record, replica("r", 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_expired_takes_only_the_replica_with_it() {
    let server = common().await;
    let settings = server.settings();
    let store = Etcd::open(settings.clone()).await.unwrap();
    let endpoint = record("t", "c", 1);
    let at = create(&store, &endpoint).await;
    let made = create(&store, &replica("r", 1)).await;
    let path = format!("{}replica/r", settings.prefix);
    let lease = server.pairs(&path).await[0].lease;
    assert_ne!(lease, 0);
    let put = Write::Put(replica("r", 1), made);
    let made = store.write(put).await.unwrap();
    assert_eq!(server.pairs(&path).await[0].lease, lease, "it is the same");

    let mut watch = Following::begin(&store, store.watch()).await;
    let revoke = json!({ "ID": lease.to_string() });
    server.ask("lease/revoke", revoke).await;
    let told = watch.change().await;
    let own = Key::Replica("r".into());
    assert!(
        matches!(&told, Change::Delete(key, _) if *key == own),
        "{told:?}"
    );
    let record = endpoint.clone();
    let stays = Stored {
        record,
        revision: at,
    };
    let expected = HashMap::from([(endpoint.key(), stays)]);
    assert_eq!(everything(&store).await, expected);
    // Nothing but the condition stands in the way of writing it again.
    let put = store.write(Write::Put(replica("r", 1), made)).await;
    assert_eq!(put, Err(WriteError::Conflict(None)));
    create(&store, &replica("r", 1)).await;
    let again = server.pairs(&path).await[0].lease;
    assert!(again != 0 && again != lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_has_forgotten_is_read_again() {
    let mut server = Server::start(1).await;
    let store = server.open().await;
    for n in 0..50 {
        create(&store, &record("t", &n.to_string(), 1)).await;
    }
    let mut watch = store.watch();
    let next = async |watch: &mut BoxStream<'static, _>| next(watch).await.unwrap().unwrap();
    for _ in Kind::ALL {
        assert!(matches!(next(&mut watch).await, Change::Reset(..)));
    }
    server.members[0].kill().await;
    server.members[0].forget();
    server.members[0].run();
    let told = next(&mut watch).await;
    let Change::Reset(Kind::Endpoint, all, revision) = told else {
        panic!("{told:?}")
    };
    assert!(all.is_empty() && revision < Revision(50), "{revision}");
    for _ in 1..Kind::ALL.len() {
        assert!(matches!(next(&mut watch).await, Change::Reset(..)));
    }
    let after = record("t", "after", 1);
    create(&store, &after).await;
    let told = next(&mut watch).await;
    assert!(
        matches!(&told, Change::Put(stored) if stored.record == after),
        "{told:?}"
    );
}
