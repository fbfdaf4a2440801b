//! The tests of the store contract. Each store calls [`suite!`] with how it is
//! made; every test begins with an empty one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{BoxStream, StreamExt};

use super::memory::WATCH_BOUND;
use super::{Backend, Change, Revision, Stored, WatchError, Write, WriteError};
use crate::lease::Lease;
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Key, Kind, Name, Network, Record};

/// A watch.
pub(crate) type Watch = BoxStream<'static, Result<Change, WatchError>>;

/// Makes the tests of the contract for a store. `$store` is evaluated for each
/// test: an `Arc<dyn Backend>` and whatever must live as long.
macro_rules! suite {
    (@ $store:expr; $($name:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (store, _keep) = $store;
            $crate::backend::contract::$name(store).await;
        }
    )+};
    ($store:expr) => {
        $crate::backend::contract::suite!(@ $store;
            conditions_hold_or_change_nothing
            removing_what_is_absent_succeeds
            revisions_rise_over_all_records
            a_watch_tells_everything_then_every_change_in_order
            nothing_is_missed_between_reset_and_changes
            a_watcher_that_is_too_slow_is_told_and_delays_nobody
            one_of_many_conditional_writers_wins
            odd_names_stay_distinct
            it_gives_signs_of_life
        );
    };
}
pub(crate) use suite;

/// A record of a connector, at `port` so that versions of it differ.
pub(crate) fn record(tunnel: &str, connector: &str, port: u16) -> Record {
    let name = |text: &str| Name::parse(text).unwrap();
    Record::Endpoint(Arc::new(EndpointRecord {
        endpoint: Endpoint {
            key: EndpointKey {
                tunnel: name(tunnel),
                node: name("node"),
                connector: name(connector),
            },
            network: Network::Tcp,
            address: format!("10.0.0.1:{port}").parse().unwrap(),
            origin: None,
            pod: None,
            attributes: BTreeMap::new(),
        },
        lease: Lease::held(
            "replica".into(),
            "2026-01-01T00:00:00Z".parse().unwrap(),
            Duration::from_secs(60),
        ),
        is_static: false,
    }))
}

/// The next item of a watch. Waits for a store that is slow, not for one that
/// never tells.
pub(crate) async fn next(watch: &mut Watch) -> Option<Result<Change, WatchError>> {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, watch.next()).await.unwrap()
}

/// Everything that is stored now.
pub(crate) async fn everything(store: &dyn Backend) -> HashMap<Key, Stored> {
    let (all, _) = resets(&mut store.watch()).await;
    all
}

/// What a watch begins with: a reset for each kind.
async fn resets(watch: &mut Watch) -> (HashMap<Key, Stored>, Revision) {
    let (mut everything, mut last) = (Vec::new(), Revision::default());
    for _ in Kind::ALL {
        match next(watch).await {
            Some(Ok(Change::Reset(kind, all, revision))) => {
                assert!(all.iter().all(|stored| stored.record.kind() == kind));
                everything.extend(all);
                last = last.max(revision);
            }
            other => panic!("a watch began with {other:?}"),
        }
    }
    (by_key(everything), last)
}

fn by_key(all: Vec<Stored>) -> HashMap<Key, Stored> {
    let count = all.len();
    let all: HashMap<_, _> = all.into_iter().map(|s| (s.record.key(), s)).collect();
    assert_eq!(all.len(), count, "a record was told twice");
    all
}

/// Follows a watch until it has told `last`, and checks the order.
async fn follow(mut watch: Watch, last: Revision) -> HashMap<Key, Stored> {
    let (mut all, _) = resets(&mut watch).await;
    let mut told = all.values().map(|s| s.revision).max().unwrap_or_default();
    while told < last {
        let revision = match next(&mut watch).await {
            Some(Ok(Change::Put(stored))) => {
                let revision = stored.revision;
                all.insert(stored.record.key(), stored);
                revision
            }
            Some(Ok(Change::Delete(key, revision))) => {
                assert!(all.remove(&key).is_some(), "{key} was removed unknown");
                revision
            }
            other => panic!("{other:?} after {told}"),
        };
        assert!(revision > told, "{revision} was told after {told}");
        told = revision;
    }
    all
}

fn conflict(record: &Record, revision: Revision) -> Result<Revision, WriteError> {
    let record = record.clone();
    Err(WriteError::Conflict(Some(Box::new(Stored {
        record,
        revision,
    }))))
}

pub(crate) async fn conditions_hold_or_change_nothing(store: Arc<dyn Backend>) {
    let [a, b, c] = [1, 2, 3].map(|port| record("t", "c", port));
    let absent = Err(WriteError::Conflict(None));

    let put_absent = store.write(Write::Put(a.clone(), Revision(1))).await;
    assert_eq!(put_absent, absent);

    let first = store.write(Write::Create(a.clone())).await.unwrap();
    let again = store.write(Write::Create(b.clone())).await;
    assert_eq!(again, conflict(&a, first));

    let second = store.write(Write::Put(b.clone(), first)).await.unwrap();
    let stale = store.write(Write::Put(c.clone(), first)).await;
    assert_eq!(stale, conflict(&b, second));
    let ahead = Revision(second.0 + 1);
    let early = store.write(Write::Put(c.clone(), ahead)).await;
    assert_eq!(early, conflict(&b, second));
    let stale = store.write(Write::Delete(b.key(), first)).await;
    assert_eq!(stale, conflict(&b, second));

    let all = everything(&*store).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[&b.key()].record, b);
    assert_eq!(all[&b.key()].revision, second);

    store.write(Write::Delete(b.key(), second)).await.unwrap();
    assert!(everything(&*store).await.is_empty());
    let gone = store.write(Write::Put(c.clone(), second)).await;
    assert_eq!(gone, absent);
    store.write(Write::Create(c)).await.unwrap();
}

pub(crate) async fn removing_what_is_absent_succeeds(store: Arc<dyn Backend>) {
    let a = record("t", "a", 1);
    store
        .write(Write::Delete(a.key(), Revision(7)))
        .await
        .unwrap();
    let made = store.write(Write::Create(a.clone())).await.unwrap();
    store.write(Write::Delete(a.key(), made)).await.unwrap();
    // As a caller does who did not hear the answer.
    store.write(Write::Delete(a.key(), made)).await.unwrap();
    assert!(everything(&*store).await.is_empty());
}

pub(crate) async fn revisions_rise_over_all_records(store: Arc<dyn Backend>) {
    let mut last = Revision(0);
    let mut write = async |write| {
        let revision = store.write(write).await.unwrap();
        assert!(revision > last, "{revision} after {last}");
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
}

pub(crate) async fn a_watch_tells_everything_then_every_change_in_order(store: Arc<dyn Backend>) {
    let mut watch = store.watch();
    assert_eq!(resets(&mut watch).await, (HashMap::new(), Revision(0)));

    let [a, b] = [1, 2].map(|port| record("t", "c", port));
    let created = store.write(Write::Create(a.clone())).await.unwrap();
    let refused = store.write(Write::Create(b.clone())).await;
    assert!(matches!(refused, Err(WriteError::Conflict(_))));
    let put = store.write(Write::Put(b.clone(), created)).await.unwrap();
    let mut late = store.watch();
    let deleted = store.write(Write::Delete(b.key(), put)).await.unwrap();

    let stored = |record: &Record, revision| Stored {
        record: record.clone(),
        revision,
    };
    let reset = HashMap::from([(b.key(), stored(&b, put))]);
    assert_eq!(resets(&mut late).await, (reset, put));
    for change in [
        Change::Put(stored(&a, created)),
        Change::Put(stored(&b, put)),
        Change::Delete(b.key(), deleted),
    ] {
        assert_eq!(next(&mut watch).await, Some(Ok(change)));
    }
    let last = next(&mut late).await;
    assert_eq!(last, Some(Ok(Change::Delete(b.key(), deleted))));
}

pub(crate) async fn nothing_is_missed_between_reset_and_changes(store: Arc<dyn Backend>) {
    const WRITERS: usize = 4;
    const ROUNDS: u16 = 50;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut watches = Vec::new();
            for round in 0..ROUNDS {
                let [a, b] = [1, 2].map(|port| record(&format!("t{writer}"), "c", port + round));
                let kept = record(&format!("t{writer}"), &format!("kept {round}"), 1);
                let first = store.write(Write::Create(a)).await.unwrap();
                watches.push(store.watch());
                let second = store.write(Write::Put(b.clone(), first)).await.unwrap();
                store.write(Write::Create(kept)).await.unwrap();
                watches.push(store.watch());
                store.write(Write::Delete(b.key(), second)).await.unwrap();
            }
            watches
        });
    }
    let watches: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let end = store.write(Write::Create(record("end", "c", 1))).await;
    let expected = everything(&*store).await;
    assert_eq!(expected.len(), WRITERS * usize::from(ROUNDS) + 1);
    for watch in watches {
        assert_eq!(follow(watch, end.clone().unwrap()).await, expected);
    }
}

pub(crate) async fn a_watcher_that_is_too_slow_is_told_and_delays_nobody(store: Arc<dyn Backend>) {
    let mut slow = store.watch();
    let mut quick = store.watch();
    resets(&mut quick).await;
    let names: Vec<_> = (0..=WATCH_BOUND).map(|at| at.to_string()).collect();
    for names in names.chunks(1_000) {
        let create = |name: &String| store.write(Write::Create(record("t", name, 1)));
        let written = join_all(names.iter().map(create)).await;
        assert!(written.iter().all(Result::is_ok));
        for _ in names {
            assert!(matches!(next(&mut quick).await, Some(Ok(Change::Put(_)))));
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

pub(crate) async fn one_of_many_conditional_writers_wins(store: Arc<dyn Backend>) {
    let race = async |writes: Vec<Write>| {
        let results = join_all(writes.into_iter().map(|write| store.write(write))).await;
        let won: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        let winner = everything(&*store).await.remove(&record("t", "c", 1).key());
        for result in &results {
            if let Err(error) = result {
                let told = WriteError::Conflict(winner.clone().map(Box::new));
                assert_eq!(*error, told);
            }
        }
        *won[0]
    };
    let versions = || (1..=20).map(|port| record("t", "c", port));
    let created = race(versions().map(Write::Create).collect()).await;
    let put = race(versions().map(|v| Write::Put(v, created)).collect()).await;
    assert!(put > created);
}

pub(crate) async fn odd_names_stay_distinct(store: Arc<dyn Backend>) {
    let long = |last: char| format!("{}{last}", "x".repeat(Name::MAX_BYTES - 1));
    let long = [long('a'), long('b')];
    let names = [
        "a/b", "a b", "a  b", "x\"y", "a\\b", "a\\nb", "a%2Fb", "a", "b", "A", "a.b", "a:b", "~",
        "{}", "'", &long[0], &long[1],
    ];
    let mut expected = HashMap::new();
    for tunnel in names {
        for connector in names {
            let record = record(tunnel, connector, 1);
            let revision = store.write(Write::Create(record.clone())).await.unwrap();
            expected.insert(record.key(), Stored { record, revision });
        }
    }
    assert_eq!(expected.len(), names.len() * names.len());
    assert_eq!(everything(&*store).await, expected);
    for (key, stored) in expected {
        store
            .write(Write::Delete(key, stored.revision))
            .await
            .unwrap();
    }
    assert!(everything(&*store).await.is_empty());
}

pub(crate) async fn it_gives_signs_of_life(store: Arc<dyn Backend>) {
    assert_eq!(store.ping().await, Ok(()));
}
