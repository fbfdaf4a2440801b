//! The tests of the store contract. Each store calls [`suite!`] with how it is
//! made; every test begins with an empty one.
//!
//! Only what is public is used, by the crate's own name: the tests of stores that
//! need a server are in `tests/it`, which has this file as well. What stores in
//! this process promise on top is in `backend/memory/suite.rs`.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::join_all;
use tunnel_registry::backend::{Backend, Change, Revision, Stored, Write, WriteError};
use tunnel_registry::record::{Key, Kind, Name, Record};

// Named, because `tests/it` includes this file from another folder.
#[path = "contract/following.rs"]
mod following;
#[path = "contract/records.rs"]
mod records;

pub(crate) use following::{Following, everything, next};
pub(crate) use records::{instance, record, replica, service, session};

/// Makes the tests of the contract for a store. `$store` is evaluated for each
/// test: an `Arc<dyn Backend>` and whatever must live as long. This module must
/// be in scope as `contract`.
macro_rules! suite {
    (@ $store:expr; $($name:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (store, _keep) = $store;
            contract::$name(store).await;
        }
    )+};
    ($store:expr) => {
        contract::suite!(@ $store;
            conditions_hold_or_change_nothing
            conditions_hold_for_replicas_too
            conditions_hold_for_sessions_too
            removing_what_is_absent_succeeds
            revisions_rise_over_all_records
            a_watch_tells_everything_then_every_change_in_order
            a_watch_tells_of_replicas_too
            a_watch_tells_of_sessions_too
            kinds_do_not_disturb_each_other
            nothing_is_missed_between_reset_and_changes
            one_of_many_conditional_writers_wins
            odd_names_stay_distinct
            conditions_hold_for_services_too
            a_watch_tells_of_services_too
            services_and_instances_are_records_like_others
            what_is_not_kept_is_refused
            it_gives_signs_of_life
            a_list_tells_what_was_written_before
        );
    };
}
pub(crate) use suite;

fn stored(record: &Record, revision: Revision) -> Stored {
    Stored {
        record: record.clone(),
        revision,
    }
}

fn conflict(record: &Record, revision: Revision) -> Result<Revision, WriteError> {
    Err(WriteError::Conflict(Some(Box::new(stored(
        record, revision,
    )))))
}

pub(crate) async fn conditions_hold_or_change_nothing(store: Arc<dyn Backend>) {
    conditions_hold(&*store, [1, 2, 3].map(|port| record("t", "c", port))).await;
}

pub(crate) async fn conditions_hold_for_replicas_too(store: Arc<dyn Backend>) {
    conditions_hold(&*store, [1, 2, 3].map(|version| replica("r", version))).await;
}

pub(crate) async fn conditions_hold_for_sessions_too(store: Arc<dyn Backend>) {
    conditions_hold(&*store, [1, 2, 3].map(|version| session("h", version))).await;
}

/// `a`, `b` and `c` are versions of one record.
async fn conditions_hold(store: &dyn Backend, [a, b, c]: [Record; 3]) {
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
    let nothing = store.write(Write::Put(c.clone(), Revision(0))).await;
    assert_eq!(nothing, conflict(&b, second), "0 is no revision");
    let stale = store.write(Write::Delete(b.key(), first)).await;
    assert_eq!(stale, conflict(&b, second));

    let all = everything(store).await;
    assert_eq!(all, HashMap::from([(b.key(), stored(&b, second))]));

    store.write(Write::Delete(b.key(), second)).await.unwrap();
    assert!(everything(store).await.is_empty());
    let gone = store.write(Write::Put(c.clone(), second)).await;
    assert_eq!(gone, absent);
    let third = store.write(Write::Create(c.clone())).await.unwrap();
    let fourth = store.write(Write::Put(a.clone(), third)).await.unwrap();
    let all = everything(store).await;
    assert_eq!(all, HashMap::from([(a.key(), stored(&a, fourth))]));
}

pub(crate) async fn removing_what_is_absent_succeeds(store: Arc<dyn Backend>) {
    for record in [record("t", "a", 1), replica("a", 1), session("a", 1)] {
        let delete = |revision| store.write(Write::Delete(record.key(), revision));
        delete(Revision(7)).await.unwrap();
        delete(Revision(0)).await.unwrap();
        let made = store.write(Write::Create(record.clone())).await.unwrap();
        // Who does not know the revision finds it out.
        assert_eq!(delete(Revision(0)).await, conflict(&record, made));
        delete(made).await.unwrap();
        // As a caller does who did not hear the answer.
        delete(made).await.unwrap();
    }
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
        let replica = replica("r", round.into());
        let session = session("h", round.into());
        let first = write(Write::Create(a.clone())).await;
        let second = write(Write::Create(b.clone())).await;
        let third = write(Write::Create(replica.clone())).await;
        let fourth = write(Write::Create(session.clone())).await;
        let first = write(Write::Put(record("t", "a", 100 + round), first)).await;
        for (record, revision) in [(b, second), (replica, third), (session, fourth), (a, first)] {
            let delete = Write::Delete(record.key(), revision);
            assert!(store.write(delete).await.unwrap() > revision);
        }
    }
}

pub(crate) async fn a_watch_tells_everything_then_every_change_in_order(store: Arc<dyn Backend>) {
    watch_tells(&*store, [1, 2].map(|port| record("t", "c", port))).await;
}

pub(crate) async fn a_watch_tells_of_replicas_too(store: Arc<dyn Backend>) {
    watch_tells(&*store, [1, 2].map(|version| replica("r", version))).await;
}

pub(crate) async fn a_watch_tells_of_sessions_too(store: Arc<dyn Backend>) {
    watch_tells(&*store, [1, 2].map(|version| session("h", version))).await;
}

/// `a` and `b` are versions of one record.
async fn watch_tells(store: &dyn Backend, [a, b]: [Record; 2]) {
    let mut early = Following::begin(store, store.watch()).await;
    assert!(early.all.is_empty());

    let created = store.write(Write::Create(a.clone())).await.unwrap();
    assert!(early.told(a.key().kind()) < created);
    let refused = store.write(Write::Create(b.clone())).await;
    assert!(matches!(refused, Err(WriteError::Conflict(_))));
    let put = store.write(Write::Put(b.clone(), created)).await.unwrap();
    let mut late = Following::begin(store, store.watch()).await;
    assert_eq!(late.all, HashMap::from([(b.key(), stored(&b, put))]));
    let deleted = store.write(Write::Delete(b.key(), put)).await.unwrap();

    assert_eq!(early.change().await, Change::Put(stored(&a, created)));
    assert_eq!(early.change().await, Change::Put(stored(&b, put)));
    let Change::Delete(key, told) = early.change().await else {
        panic!("{:?} instead of a delete", early.all)
    };
    assert_eq!(key, b.key());
    assert!(deleted <= told && told > put, "{put} {deleted} {told}");
    assert_eq!(late.change().await, Change::Delete(key, told));
}

pub(crate) async fn kinds_do_not_disturb_each_other(store: Arc<dyn Backend>) {
    let mut watch = Following::begin(&*store, store.watch()).await;
    let [endpoint, replica, session] = [record("a", "a", 1), replica("a", 1), session("a", 1)];
    let first = store.write(Write::Create(endpoint.clone())).await.unwrap();
    let second = store.write(Write::Create(replica.clone())).await.unwrap();
    let third = store.write(Write::Create(session.clone())).await.unwrap();
    for _ in 0..3 {
        watch.change().await;
    }
    let all = [(&endpoint, first), (&replica, second), (&session, third)];
    let all = all.map(|(record, revision)| (record.key(), stored(record, revision)));
    assert_eq!(watch.all, HashMap::from(all));
    assert_eq!(everything(&*store).await, watch.all);

    let delete = Write::Delete(endpoint.key(), first);
    store.write(delete).await.unwrap();
    let told = watch.change().await;
    assert!(
        matches!(told, Change::Delete(Key::Endpoint(_), _)),
        "{told:?}"
    );
    let left = [(&replica, second), (&session, third)];
    let left = left.map(|(record, revision)| (record.key(), stored(record, revision)));
    let left = HashMap::from(left);
    assert_eq!(everything(&*store).await, left);
}

pub(crate) async fn nothing_is_missed_between_reset_and_changes(store: Arc<dyn Backend>) {
    const WRITERS: usize = 4;
    const ROUNDS: u16 = 50;
    /// Two watches in so many rounds: some stores need connections for each.
    const WATCHED: u16 = 10;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut watches = Vec::new();
            for round in 0..ROUNDS {
                let [a, b] = [1, 2].map(|port| record(&format!("t{writer}"), "c", port + round));
                let kept = record(&format!("t{writer}"), &format!("kept {round}"), 1);
                let first = store.write(Write::Create(a)).await.unwrap();
                if round % WATCHED == 0 {
                    watches.push(Following::begin(&*store, store.watch()).await);
                }
                let second = store.write(Write::Put(b.clone(), first)).await.unwrap();
                store.write(Write::Create(kept)).await.unwrap();
                if round % WATCHED == 0 {
                    watches.push(Following::begin(&*store, store.watch()).await);
                }
                store.write(Write::Delete(b.key(), second)).await.unwrap();
            }
            watches
        });
    }
    let watches: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let end = store.write(Write::Create(record("end", "c", 1))).await;
    let end = end.unwrap();
    let expected = everything(&*store).await;
    assert_eq!(expected.len(), WRITERS * usize::from(ROUNDS) + 1);
    for mut watch in watches {
        while watch.told(Kind::Endpoint) < end {
            watch.change().await;
        }
        assert_eq!(watch.all, expected);
    }
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
    let versions = |ports: RangeInclusive<u16>| ports.map(|port| record("t", "c", port));
    let created = race(versions(1..=20).map(Write::Create).collect()).await;
    // A put that changes nothing need not make a revision: none of these is such.
    let puts = versions(21..=40).map(|version| Write::Put(version, created));
    let put = race(puts.collect()).await;
    assert!(put > created);
}

pub(crate) async fn odd_names_stay_distinct(store: Arc<dyn Backend>) {
    let long = |last: char| format!("{}{last}", "x".repeat(Name::MAX_BYTES - 1));
    let long = [long('a'), long('b')];
    let names = [
        "a/b", "a b", "a  b", "x\"y", "a\\b", "a\\nb", "a%2Fb", "a", "b", "A", "a.b", "a:b", "~",
        "{}", "'", &long[0], &long[1],
    ];
    let pairs = names.iter().flat_map(|a| names.map(|b| record(a, b, 1)));
    let replicas = names.iter().map(|identity| replica(identity, 1));
    let records: Vec<Record> = pairs.chain(replicas).collect();
    assert_eq!(records.len(), names.len() * (names.len() + 1));
    let mut expected = HashMap::new();
    for record in records {
        let revision = store.write(Write::Create(record.clone())).await.unwrap();
        let before = expected.insert(record.key(), Stored { record, revision });
        assert_eq!(before, None);
    }
    assert_eq!(everything(&*store).await, expected);
    for (key, stored) in expected {
        let delete = Write::Delete(key, stored.revision);
        store.write(delete).await.unwrap();
    }
    assert!(everything(&*store).await.is_empty());
}

/// A store that does not says so: [`what_is_not_kept_is_refused`].
fn keeps_services(store: &dyn Backend) -> bool {
    store.keeps(Kind::Service) && store.keeps(Kind::Instance)
}

pub(crate) async fn conditions_hold_for_services_too(store: Arc<dyn Backend>) {
    if !keeps_services(&*store) {
        return;
    }
    conditions_hold(&*store, [1, 2, 3].map(|version| service("s", version))).await;
    let left = everything(&*store).await.into_values();
    for stored in left {
        let delete = Write::Delete(stored.record.key(), stored.revision);
        store.write(delete).await.unwrap();
    }
    conditions_hold(
        &*store,
        [1, 2, 3].map(|version| instance("s", "h", version)),
    )
    .await;
}

pub(crate) async fn a_watch_tells_of_services_too(store: Arc<dyn Backend>) {
    if !keeps_services(&*store) {
        return;
    }
    watch_tells(&*store, [1, 2].map(|version| service("s", version))).await;
    watch_tells(&*store, [1, 2].map(|version| instance("s", "h", version))).await;
}

pub(crate) async fn services_and_instances_are_records_like_others(store: Arc<dyn Backend>) {
    if !keeps_services(&*store) {
        return;
    }
    let mut expected = HashMap::new();
    for name in ["a", "b", "-", "0"] {
        let records = [
            service(name, 2),
            instance(name, "h", 1),
            instance(name, "i", 2),
        ];
        for record in records {
            let revision = store.write(Write::Create(record.clone())).await.unwrap();
            expected.insert(record.key(), Stored { record, revision });
        }
    }
    assert_eq!(expected.len(), 12);
    assert_eq!(everything(&*store).await, expected);
    let mut watch = Following::begin(&*store, store.watch()).await;
    let gone = service("a", 2).key();
    let delete = Write::Delete(gone.clone(), expected[&gone].revision);
    store.write(delete).await.unwrap();
    let told = watch.change().await;
    assert!(
        matches!(told, Change::Delete(Key::Service(_), _)),
        "{told:?}"
    );
    expected.remove(&gone);
    assert_eq!(everything(&*store).await, expected);
}

pub(crate) async fn what_is_not_kept_is_refused(store: Arc<dyn Backend>) {
    for record in [service("s", 1), instance("s", "h", 1)] {
        let is_kept = store.keeps(record.kind());
        let written = store.write(Write::Create(record.clone())).await;
        match written {
            Ok(_) => assert!(is_kept, "{record:?}"),
            Err(WriteError::Refused(why)) => {
                assert!(!is_kept && why.contains("--store"), "{why}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn it_gives_signs_of_life(store: Arc<dyn Backend>) {
    assert_eq!(store.ping().await, Ok(()));
}

pub(crate) async fn a_list_tells_what_was_written_before(store: Arc<dyn Backend>) {
    let kept = Kind::ALL.into_iter().filter(|kind| store.keeps(*kind));
    for kind in kept.clone() {
        assert_eq!(store.list(kind).await, Ok(Vec::new()));
    }
    let records = [
        record("t", "c", 1),
        replica("r", 1),
        session("h", 1),
        service("s", 1),
        instance("s", "h", 1),
    ];
    let records = records.into_iter();
    for record in records.filter(|record| store.keeps(record.kind())) {
        let revision = store.write(Write::Create(record.clone())).await.unwrap();
        let of = record.kind();
        let stored = Stored { record, revision };
        assert_eq!(store.list(of).await.as_deref(), Ok(&[stored][..]));
    }
    for kind in kept {
        assert_eq!(store.list(kind).await.unwrap().len(), 1, "{kind:?}");
    }
}
