//! The store while members of etcd hang, die and come back.

use tokio::time::{Duration, timeout};
use tunnel_registry::backend::etcd::Etcd;
use tunnel_registry::backend::{Backend as _, Change, Write, WriteError};
use tunnel_registry::record::Record;

use super::server::Server;
use crate::contract::{Following, record};
use crate::process::until;

/// Longer than any call may take, though the machine be busy.
const ENDS: Duration = Duration::from_secs(30);

/// Stores a record, trying again as the registry does.
async fn stores(store: &Etcd, record: &Record) {
    until("it is stored", async || {
        let written = store.write(Write::Create(record.clone())).await;
        match written {
            Ok(_) => Ok(()),
            // The answer to an attempt before this one was lost.
            Err(WriteError::Conflict(Some(stored))) if stored.record == *record => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await;
}

/// The next change tells of a record, and of nothing else.
async fn tells(watch: &mut Following, record: &Record) {
    let told = watch.change().await;
    assert!(
        matches!(&told, Change::Put(stored) if stored.record == *record),
        "{told:?}"
    );
}

/// Waits until the store tells that its watch is broken; the watch tells nothing.
async fn is_in_trouble(store: &Etcd, watch: &mut Following) {
    let trouble = until("it tells that it is in trouble", async || store.trouble());
    tokio::select! {
        told = watch.change() => panic!("{told:?}"),
        why = trouble => assert!(why.contains("etcd cannot be reached"), "{why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_is_killed_in_turn() {
    let mut server = Server::start(3).await;
    let store = server.open().await;
    let mut watch = Following::begin(&store, store.watch()).await;
    // Whichever answers, and whichever leads, is among them.
    for at in 0..3 {
        server.members[at].kill().await;
        for n in 0..10 {
            let record = record("t", &format!("{at} {n}"), 1);
            stores(&store, &record).await;
            tells(&mut watch, &record).await;
        }
        server.members[at].run();
        server.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_hangs_in_turn() {
    let mut server = Server::start(3).await;
    let store = server.open().await;
    let mut watch = Following::begin(&store, store.watch()).await;
    for at in 0..3 {
        server.members[at].freeze().await;
        let record = record("t", &at.to_string(), 1);
        stores(&store, &record).await;
        tells(&mut watch, &record).await;
        server.members[at].thaw();
        server.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_from_the_others_is_left() {
    let mut server = Server::start(3).await;
    let store = server.open().await;
    let mut watch = Following::begin(&store, store.watch()).await;
    for left in 0..3 {
        // Without a majority no member may be believed.
        let others = [(left + 1) % 3, (left + 2) % 3];
        for at in others {
            server.members[at].kill().await;
        }
        is_in_trouble(&store, &mut watch).await;
        assert!(matches!(
            store.ping().await,
            Err(WriteError::Unavailable(_))
        ));
        for at in others {
            server.members[at].run();
        }
        server.ready().await;
        let record = record("t", &left.to_string(), 1);
        stores(&store, &record).await;
        tells(&mut watch, &record).await;
        assert_eq!(store.trouble(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_three_are_restarted() {
    let mut server = Server::start(3).await;
    let store = server.open().await;
    let mut watch = Following::begin(&store, store.watch()).await;
    let [before, after] = ["before", "after"].map(|name| record("t", name, 1));
    stores(&store, &before).await;
    tells(&mut watch, &before).await;
    for member in &mut server.members {
        member.kill().await;
    }
    let refused = store.write(Write::Create(after.clone())).await;
    assert!(
        matches!(refused, Err(WriteError::Unavailable(_))),
        "{refused:?}"
    );
    server.members.iter_mut().for_each(|member| member.run());
    server.ready().await;
    stores(&store, &after).await;
    // It went on where it was.
    tells(&mut watch, &after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_to_one_that_hangs_has_an_end() {
    let mut server = Server::start(1).await;
    let store = server.open().await;
    let mut watch = Following::begin(&store, store.watch()).await;
    store.ping().await.unwrap();
    server.members[0].freeze().await;
    let record = record("t", "c", 1);
    let write = store.write(Write::Create(record.clone()));
    let list = store.list(record.kind());
    let calls = futures::future::join3(write, list, store.ping());
    let (written, listed, pinged) = timeout(ENDS, calls).await.unwrap();
    assert!(matches!(written, Err(WriteError::Unavailable(_))));
    assert!(matches!(listed, Err(WriteError::Unavailable(_))));
    assert!(matches!(pinged, Err(WriteError::Unavailable(_))));
    // So has the watch, though nobody closed its connection.
    is_in_trouble(&store, &mut watch).await;
    server.members[0].thaw();
    stores(&store, &record).await;
    tells(&mut watch, &record).await;
}
