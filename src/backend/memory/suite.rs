//! What stores in this process promise beyond the contract, as [`crate::backend::contract`]
//! does for all.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;

use super::WATCH_BOUND;
use crate::backend::contract::{Following, everything, next, record};
use crate::backend::{Backend, Change, Revision, Stored, Write};
use crate::record::Kind;

/// Makes the tests of the contract, and these.
macro_rules! suite {
    ($store:expr) => {
        $crate::backend::contract::suite!($store);

        mod in_this_process {
            use super::*;
            use $crate::backend::memory::suite as contract;

            $crate::backend::contract::suite!(@ $store;
                each_write_has_the_next_revision
                a_watch_begins_when_it_is_asked_for
                nothing_is_missed_by_whoever_looks_late
                a_watcher_that_is_too_slow_is_told_and_delays_nobody
            );
        }
    };
}
pub(crate) use suite;

pub(crate) async fn each_write_has_the_next_revision(store: Arc<dyn Backend>) {
    let mut watch = Following::begin(&*store, store.watch()).await;
    assert_eq!(watch.told(Kind::Endpoint), Revision(0));
    let mut last = Revision(0);
    let mut write = async |write| {
        let revision = store.write(write).await.unwrap();
        assert_eq!(revision, Revision(last.0 + 1));
        let told = match watch.change().await {
            Change::Put(stored) => stored.revision,
            Change::Delete(_, revision) => revision,
            reset @ Change::Reset(..) => panic!("{reset:?}"),
        };
        assert_eq!(told, revision);
        last = revision;
        revision
    };
    for round in 1..=5 {
        let [a, b] = ["a", "b"].map(|connector| record("t", connector, round));
        let first = write(Write::Create(a.clone())).await;
        let second = write(Write::Create(b.clone())).await;
        let first = write(Write::Put(a.clone(), first)).await;
        write(Write::Delete(b.key(), second)).await;
        write(Write::Delete(a.key(), first)).await;
    }
    let late = Following::begin(&*store, store.watch()).await;
    assert_eq!(
        Kind::ALL.map(|kind| late.told(kind)),
        [last; Kind::ALL.len()]
    );
}

pub(crate) async fn a_watch_begins_when_it_is_asked_for(store: Arc<dyn Backend>) {
    let record = record("t", "c", 1);
    let before = store.watch();
    let revision = store.write(Write::Create(record.clone())).await.unwrap();
    let after = store.watch();
    let delete = Write::Delete(record.key(), revision);
    store.write(delete).await.unwrap();
    assert!(Following::begin(&*store, before).await.all.is_empty());
    let stored = Stored { record, revision };
    let expected = HashMap::from([(stored.record.key(), stored)]);
    assert_eq!(Following::begin(&*store, after).await.all, expected);
}

pub(crate) async fn nothing_is_missed_by_whoever_looks_late(store: Arc<dyn Backend>) {
    let mut watches = Vec::new();
    for round in 1..=50 {
        watches.push(store.watch());
        let [a, b] = ["a", "b"].map(|connector| record(&round.to_string(), connector, round));
        let made = store.write(Write::Create(a.clone())).await.unwrap();
        watches.push(store.watch());
        store.write(Write::Create(b)).await.unwrap();
        store.write(Write::Delete(a.key(), made)).await.unwrap();
    }
    let end = store.write(Write::Create(record("end", "c", 1))).await;
    let (end, expected) = (end.unwrap(), everything(&*store).await);
    for watch in watches {
        let mut watch = Following::begin(&*store, watch).await;
        while watch.told(Kind::Endpoint) < end {
            watch.change().await;
        }
        assert_eq!(watch.all, expected);
    }
}

pub(crate) async fn a_watcher_that_is_too_slow_is_told_and_delays_nobody(store: Arc<dyn Backend>) {
    let mut slow = store.watch();
    let mut quick = Following::begin(&*store, store.watch()).await;
    let names: Vec<_> = (0..=WATCH_BOUND).map(|at| at.to_string()).collect();
    for names in names.chunks(1_000) {
        let create = |name: &String| store.write(Write::Create(record("t", name, 1)));
        let written = join_all(names.iter().map(create)).await;
        assert!(written.iter().all(Result::is_ok));
        for _ in names {
            assert!(matches!(quick.change().await, Change::Put(_)));
        }
    }

    // What it can still be told comes first, and nothing after the error.
    let mut told = Vec::new();
    while let Some(item) = next(&mut slow).await {
        told.push(item);
    }
    assert!(matches!(told.first(), Some(Ok(Change::Reset(..)))));
    assert!(matches!(told.last(), Some(Err(_))));
    assert_eq!(everything(&*store).await.len(), names.len());
}
