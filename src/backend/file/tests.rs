//! What a file promises beyond the contract.

mod damage;
mod faults;
mod platter;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::task::Poll;

use futures::{future::join_all, poll};
use tokio::task::unconstrained;

use super::*;
use crate::backend::contract::{self, everything, record};
use crate::backend::memory::suite;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

suite::suite!({
    let folder = folder();
    let store = File::open(folder.path().join("registry.redb")).unwrap();
    (Arc::new(store), folder)
});

#[tokio::test]
async fn everything_is_there_after_it_was_closed() {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    let mut last = Revision(0);
    let mut expected = Vec::new();
    for round in 1..=3 {
        let store = File::open(&path).unwrap();
        let found = everything(&store).await;
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|stored| stored.revision);
        assert_eq!(found, expected);
        for connector in ["kept", "removed"] {
            let record = record(&format!("t{round}"), connector, round);
            let revision = store.write(Write::Create(record.clone())).await.unwrap();
            assert!(revision > last);
            last = revision;
            expected.push(crate::backend::Stored { record, revision });
        }
        let removed = expected.pop().unwrap();
        let write = Write::Delete(removed.record.key(), removed.revision);
        last = store.write(write).await.unwrap();
    }
}

#[tokio::test]
async fn the_revision_of_a_removal_is_not_used_again() {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    let a = record("t", "c", 1);
    let store = File::open(&path).unwrap();
    let created = store.write(Write::Create(a.clone())).await.unwrap();
    let removed = store.write(Write::Delete(a.key(), created)).await.unwrap();
    drop(store);
    let store = File::open(&path).unwrap();
    assert!(store.write(Write::Create(a)).await.unwrap() > removed);
}

#[tokio::test]
async fn closing_makes_the_writes_that_wait_and_refuses_later_ones() {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    let store = File::open(&path).unwrap();
    let names: Vec<_> = (0..QUEUE_BOUND).map(|at| at.to_string()).collect();
    let write = |name: &String| store.write(Write::Create(record("t", name, 1)));
    let mut writes = join_all(names.iter().map(write));
    let handed_over = poll!(unconstrained(&mut writes));
    store.close();
    let results = match handed_over {
        Poll::Ready(results) => results,
        Poll::Pending => writes.await,
    };
    assert!(results.iter().all(Result::is_ok));

    let late = store.write(Write::Create(record("t", "late", 1))).await;
    assert!(matches!(late, Err(WriteError::Unavailable(_))), "{late:?}");
    assert!(matches!(
        store.ping().await,
        Err(WriteError::Unavailable(_))
    ));

    let store = File::open(&path).unwrap();
    assert_eq!(everything(&store).await.len(), QUEUE_BOUND);
}

#[tokio::test]
async fn the_end_of_the_writer_is_told() {
    use futures::FutureExt as _;
    let folder = folder();
    let store = File::open(folder.path().join("store")).unwrap();
    let mut ended = store.ended();
    assert_eq!((&mut ended).now_or_never(), None);
    store.close();
    let why = tokio::time::timeout(std::time::Duration::from_secs(20), ended).await;
    assert!(why.unwrap().contains("store"));
}

#[tokio::test]
async fn one_file_is_for_one_store() {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    let store = File::open(&path).unwrap();
    let error = File::open(&path).unwrap_err();
    assert!(matches!(error.why, Why::InUse), "{error}");
    // Also after the database was opened and closed underneath.
    assert_eq!(store.ping().await, Ok(()));
    assert!(File::open(&path).is_err());
    store.close();
    let store = File::open(&path).unwrap();
    // A lock is bound to the file, not to its name.
    let link = folder.path().join("link.redb");
    fs::hard_link(&path, &link).unwrap();
    assert!(matches!(File::open(&link).unwrap_err().why, Why::InUse));
    drop(store);
    File::open(&link).unwrap();
}

#[test]
fn only_the_owner_can_read_it() {
    let folder = folder();
    let path = folder.path().join("new/folders/registry.redb");
    let _store = File::open(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&folder.path().join("new")), 0o700);
}

#[test]
fn a_store_that_was_not_made_wholly_is_made_anew() {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    let draft = folder.path().join("registry.redb.new");
    // What a process leaves that was killed while it made one.
    fs::write(&draft, b"redb").unwrap();
    drop(File::open(&path).unwrap());
    assert!(!draft.exists());
    drop(File::open(&path).unwrap());
}

#[test]
fn a_store_that_another_process_is_making_is_left_to_it() {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    let draft = fs::File::create(folder.path().join("registry.redb.new")).unwrap();
    draft.lock().unwrap();
    assert!(matches!(File::open(&path).unwrap_err().why, Why::InUse));
    assert!(!path.exists());
    draft.unlock().unwrap();
    File::open(&path).unwrap();
}
