use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::*;
use crate::backend::memory::Memory;
use crate::backend::{Revision, WatchError};
use crate::transfer::plan::tests::{endpoint, instance, service, session};

/// A store that fails at first, or keeps no services.
#[derive(Debug, Default)]
struct Moody {
    inner: Memory,
    /// So many writes are not taken; `u32::MAX` for all.
    down: AtomicU32,
    /// So many watches break at once.
    broken: AtomicU32,
    refuses: bool,
    narrow: bool,
}

impl Backend for Moody {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        let left = self.down.load(Ordering::SeqCst);
        if left > 0 {
            self.down.store(left.saturating_sub(1), Ordering::SeqCst);
            let error = match self.refuses {
                true => WriteError::Refused("it is odd".into()),
                false => WriteError::Unavailable("it sleeps".into()),
            };
            return Box::pin(async { Err(error) });
        }
        self.inner.write(write)
    }

    fn keeps(&self, kind: Kind) -> bool {
        !(self.narrow && matches!(kind, Kind::Service | Kind::Instance))
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        let left = self.broken.load(Ordering::SeqCst);
        if left > 0 {
            self.broken.store(left - 1, Ordering::SeqCst);
            return stream::iter([Err(WatchError("it fell over".into()))]).boxed();
        }
        self.inner.watch()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        self.inner.ping()
    }
}

fn all() -> Vec<Record> {
    // Not in the order in which they are written.
    vec![
        instance("db", "10.0.0.1:80", 7, 8),
        instance("db", "10.0.0.2:80", 7, 9),
        service("db", 7, 9),
        session("h", "9000"),
        endpoint("t", "c", "10.0.0.1:80"),
    ]
}

async fn held(backend: &dyn Backend) -> Present {
    collect(backend, &Kind::ALL).await.unwrap()
}

async fn put_all(backend: &dyn Backend, manner: Manner) -> Report {
    let present = held(backend).await;
    put(backend, &all(), present, manner).await
}

fn records(present: &Present) -> Vec<Record> {
    let mut all: Vec<_> = present
        .values()
        .map(|stored| stored.record.clone())
        .collect();
    all.sort_by_key(Record::key);
    all
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_and_the_second_time_nothing_is_done() {
    let store = Moody::default();
    let dry = Manner {
        dry_run: true,
        ..Manner::default()
    };
    assert_eq!(put_all(&store, dry).await.created, 5);
    assert!(held(&store).await.is_empty());
    let report = put_all(&store, Manner::default()).await;
    assert_eq!((report.created, report.refused.len()), (5, 0));
    let present = held(&store).await;
    let mut expected = all();
    expected.sort_by_key(Record::key);
    assert_eq!(records(&present), expected);
    let again = put_all(&store, Manner::default()).await;
    let nothing = Report {
        there: 5,
        ..Report::default()
    };
    assert_eq!(again, nothing);
    assert_eq!(held(&store).await, present);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_asked_for_is_read() {
    let store = Moody::default();
    put_all(&store, Manner::default()).await;
    let some = collect(&store, &[Kind::Session, Kind::Replica])
        .await
        .unwrap();
    assert_eq!(records(&some), [session("h", "9000")]);
}

#[tokio::test(start_paused = true)]
async fn what_differs_is_kept_unless_it_is_to_be_replaced() {
    let store = Moody::default();
    let theirs = endpoint("t", "c", "10.0.0.9:80");
    store.write(Write::Create(theirs.clone())).await.unwrap();
    let report = put_all(&store, Manner::default()).await;
    assert_eq!(report.created, 4);
    assert_eq!(report.refused, [(theirs.key(), Refusal::Different)]);
    assert_eq!(held(&store).await[&theirs.key()].record, theirs);
    let replace = Manner {
        replace: true,
        ..Manner::default()
    };
    let report = put_all(&store, replace).await;
    assert_eq!((report.replaced, report.there), (1, 4));
    let ours = endpoint("t", "c", "10.0.0.1:80");
    assert_eq!(held(&store).await[&ours.key()].record, ours);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_did_meanwhile_decides() {
    let store = Moody::default();
    for (theirs, expected) in [
        (endpoint("t", "c", "10.0.0.1:80"), 1),
        (service("db", 7, 99), 1),
    ] {
        store.write(Write::Create(theirs.clone())).await.unwrap();
        // As if it had been read before.
        let ours: Vec<_> = all()
            .into_iter()
            .filter(|own| own.key() == theirs.key())
            .collect();
        let report = put(&store, &ours, Present::default(), Manner::default()).await;
        assert_eq!(report.there, expected, "{report:?}");
    }
    let theirs = endpoint("t2", "c", "10.0.0.9:80");
    store.write(Write::Create(theirs.clone())).await.unwrap();
    let ours = [endpoint("t2", "c", "10.0.0.1:80")];
    let report = put(&store, &ours, Present::default(), Manner::default()).await;
    assert_eq!(report.refused, [(theirs.key(), Refusal::Different)]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_does_not_come_without_its_service() {
    let store = Moody::default();
    let alone = [instance("db", "10.0.0.1:80", 7, 8)];
    let report = put(&store, &alone, Present::default(), Manner::default()).await;
    assert_eq!(report.refused, [(alone[0].key(), Refusal::NoService)]);
    // The store has another service of that name, and keeps it.
    store
        .write(Write::Create(service("db", 3, 3)))
        .await
        .unwrap();
    let report = put_all(&store, Manner::default()).await;
    let why: Vec<_> = report.refused.iter().map(|(_, why)| why.clone()).collect();
    use Refusal::{Different, OtherService};
    assert_eq!(why, [Different, OtherService, OtherService]);
    assert_eq!(report.created, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_is_waited_for() {
    let store = Moody {
        down: AtomicU32::new(3),
        broken: AtomicU32::new(3),
        ..Moody::default()
    };
    assert_eq!(put_all(&store, Manner::default()).await.created, 5);
    assert_eq!(held(&store).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_given_up() {
    let store = Moody {
        down: AtomicU32::new(u32::MAX),
        ..Moody::default()
    };
    let records = [endpoint("t", "c", "10.0.0.1:80")];
    let report = put(&store, &records, Present::default(), Manner::default()).await;
    assert!(
        report.refused[0].1.to_string().contains("it sleeps"),
        "{report:?}"
    );
    let broken = Moody {
        broken: AtomicU32::new(u32::MAX),
        ..Moody::default()
    };
    let error = collect(&broken, &Kind::ALL).await.unwrap_err().to_string();
    assert!(error.contains("it fell over"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_a_store_does_not_take_is_left_out() {
    let narrow = Moody {
        narrow: true,
        ..Moody::default()
    };
    let report = put_all(&narrow, Manner::default()).await;
    assert_eq!((report.created, report.refused.len()), (2, 3));
    assert!(
        report
            .refused
            .iter()
            .all(|(_, why)| *why == Refusal::NotKept)
    );
    let refusing = Arc::new(Moody {
        down: AtomicU32::new(1),
        refuses: true,
        ..Moody::default()
    });
    let report = put_all(&*refusing, Manner::default()).await;
    assert_eq!(
        (report.refused.len(), report.refused[0].1.to_string()),
        (1, "it is odd".into())
    );
}
