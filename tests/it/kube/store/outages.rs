//! Watches that break on the real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use tokio::sync::Notify;
use tunnel_registry::backend::{Backend as _, Change, Write};
use tunnel_registry::record::Kind;

use super::contract::{Following, record, replica};
use super::middle::{through, with_query};
use super::{client, store, store_with};
use crate::kube::env::Env;

#[tokio::test]
async fn a_version_that_is_too_old_makes_one_kind_list_again() {
    let env = Env::start().await;
    let (lists, aged) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let counted = Arc::clone(&lists);
    let client = through(client(&env).await, move |request| {
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.contains("watch=true");
        let is_lease = request.uri().path().ends_with("/leases");
        if request.method() == Method::GET && !is_watch && is_lease {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        let is_endpoint = request.uri().path().ends_with("/tunnelendpoints");
        // The first watch of endpoints begins before the definition was there.
        if is_watch && is_endpoint && !aged.swap(true, Ordering::Relaxed) {
            return Some(with_query(request, |query| {
                let parameters = query.split('&').map(|one| match one.split_once('=') {
                    Some(("resourceVersion", _)) => "resourceVersion=1",
                    _ => one,
                });
                parameters.collect::<Vec<_>>().join("&")
            }));
        }
        Some(request)
    });
    let store = store_with(&env, client);
    let mut watch = Following::begin(&store, store.watch()).await;
    let again = watch.change().await;
    assert!(
        matches!(again, Change::Reset(Kind::Endpoint, ..)),
        "{again:?}"
    );
    for record in [record("t", "c", 1), replica("r", 1)] {
        store.write(Write::Create(record.clone())).await.unwrap();
        let told = watch.change().await;
        assert!(matches!(told, Change::Put(stored) if stored.record == record));
    }
    assert_eq!(lists.load(Ordering::Relaxed), 1, "lists of leases");
}

#[tokio::test]
async fn what_happened_while_nobody_watched_is_told_afterwards() {
    let env = Env::start().await;
    let (cut, attempted) = (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
    let client = {
        let (cut, attempted) = (Arc::clone(&cut), Arc::clone(&attempted));
        through(client(&env).await, move |request| {
            let query = request.uri().query().unwrap_or_default();
            let is_cut = query.contains("watch=true") && cut.load(Ordering::Relaxed);
            if is_cut {
                attempted.notify_one();
            }
            (!is_cut).then_some(request)
        })
    };
    let watched = store_with(&env, client);
    let mut watch = Following::begin(&watched, watched.watch()).await;
    let other = store(&env).await;
    let [a, b] = ["a", "b"].map(|connector| record("t", connector, 1));
    let made = other.write(Write::Create(a.clone())).await.unwrap();
    tokio::select! {
        change = watch.change() => panic!("{change:?} was told by nobody"),
        () = attempted.notified() => {}
    }
    other.write(Write::Create(b.clone())).await.unwrap();
    other.write(Write::Delete(a.key(), made)).await.unwrap();
    cut.store(false, Ordering::Relaxed);
    let told = [
        watch.change().await,
        watch.change().await,
        watch.change().await,
    ];
    assert!(
        matches!(&told[0], Change::Put(stored) if stored.record == a),
        "{told:?}"
    );
    assert!(
        matches!(&told[2], Change::Delete(key, _) if *key == a.key()),
        "{told:?}"
    );
    assert_eq!(watch.all.len(), 1);
}
