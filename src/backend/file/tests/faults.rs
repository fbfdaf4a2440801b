//! Power cuts, full disks and failing ones: nothing acknowledged is lost.

use std::collections::HashMap;
use std::path::Path;

use futures::future::join_all;
use futures::poll;
use tokio::task::unconstrained;

use super::platter::{Fault, Platter};
use crate::backend::contract::{everything, next, record};
use crate::backend::file::writer::BATCH_BOUND;
use crate::backend::file::{File, QUEUE_BOUND};
use crate::backend::{Backend, Change, Revision, Stored, Write, WriteError};
use crate::record::{Key, Record};

fn open(platter: &Platter) -> File {
    File::open_with(Path::new("platter"), platter.clone()).unwrap()
}

/// What a key may hold, as far as its writer was told.
type Told = HashMap<Key, Vec<Option<Stored>>>;

/// Creates, replaces and removes records, several at once, with a few keys
/// that meet again in each round.
struct Script<'a> {
    store: &'a File,
    size: Size,
    told: Told,
}

/// How long a script is.
#[derive(Clone, Copy)]
struct Size {
    rounds: u16,
    /// Records that each round writes at once; at least three.
    records: u16,
}

/// A few commits of a few pages.
const SMALL: Size = Size {
    rounds: 3,
    records: 10,
};

/// Enough for the file to grow from 50 KiB to 4 MiB, several times in a commit.
const LARGE: Size = Size {
    rounds: 2,
    records: 800,
};

impl<'a> Script<'a> {
    fn new(store: &'a File, size: Size) -> Self {
        Self {
            store,
            size,
            told: Told::new(),
        }
    }

    async fn run(&mut self) -> Result<(), String> {
        for round in 0..self.size.rounds {
            self.round(round).await?;
        }
        Ok(())
    }

    fn now(&self, key: &Key) -> Option<Stored> {
        self.told.get(key).and_then(|may| may[0].clone())
    }

    /// Makes writes of different keys at once. Fails when one was not answered.
    async fn all(&mut self, mut edits: Vec<(Key, Option<Record>)>) -> Result<(), String> {
        let mut failure = None;
        while !edits.is_empty() && failure.is_none() {
            let mut writes = Vec::new();
            for (key, record) in &edits {
                let write = match (record.clone(), self.now(key).map(|s| s.revision)) {
                    (Some(record), None) => Write::Create(record),
                    (Some(record), Some(revision)) => Write::Put(record, revision),
                    (None, revision) => Write::Delete(key.clone(), revision.unwrap_or_default()),
                };
                writes.push(self.store.write(write));
            }
            let results = join_all(writes).await;
            let asked = std::mem::take(&mut edits);
            for ((key, record), result) in asked.into_iter().zip(results) {
                let before = self.now(&key);
                let made = |revision| record.clone().map(|record| Stored { record, revision });
                match result {
                    Ok(revision) => {
                        self.told.insert(key, vec![made(revision)]);
                    }
                    Err(WriteError::Unavailable(text)) => {
                        self.told.insert(key, vec![before, made(Revision(0))]);
                        failure = Some(text);
                    }
                    // The time before, the answer was that it is unknown.
                    Err(WriteError::Conflict(found)) => {
                        let found = found.map(|found| *found);
                        let may = &self.told[&key];
                        assert!(
                            may.len() == 2 && fits(found.as_ref(), may),
                            "{key}: {found:?}"
                        );
                        self.told.insert(key.clone(), vec![found]);
                        edits.push((key, record));
                    }
                    Err(refused) => panic!("{refused}"),
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn round(&mut self, round: u16) -> Result<(), String> {
        let put = |record: Record| (record.key(), Some(record));
        let big = |at| {
            record(
                &"t".repeat(200),
                &format!("{}{at}", "c".repeat(200)),
                1 + round,
            )
        };
        self.all((0..self.size.records).map(big).map(put).collect())
            .await?;
        let alone = record("t", &format!("alone {round}"), 1);
        self.all(vec![put(alone.clone())]).await?;
        let removed = [big(1), big(2), alone];
        self.all(removed.map(|record| (record.key(), None)).into())
            .await
    }
}

/// Whether a key may hold what was found.
fn fits(found: Option<&Stored>, may: &[Option<Stored>]) -> bool {
    may.iter().any(|may| match (may, found) {
        (None, None) => true,
        // The revision of an unanswered write is not known.
        (Some(may), Some(found)) => {
            may.record == found.record && [Revision(0), found.revision].contains(&may.revision)
        }
        _ => false,
    })
}

/// Whether what a store holds is what its writers were told.
fn check(found: &HashMap<Key, Stored>, told: &Told, context: &str) {
    for key in found.keys() {
        assert!(told.contains_key(key), "{context}: {key} came from nowhere");
    }
    for (key, may) in told {
        let found = found.get(key);
        assert!(
            fits(found, may),
            "{context}: {key} is {found:?}, may be {may:?}"
        );
    }
}

/// How many operations a script takes, to place faults in it.
async fn operations(size: Size) -> usize {
    let platter = Platter::initialised();
    let store = open(&platter);
    Script::new(&store, size).run().await.unwrap();
    drop(store);
    platter.operations()
}

async fn cut_power(size: Size, cut: usize, random: &mut fastrand::Rng) {
    let platter = Platter::initialised();
    let mut told = Told::new();
    platter.break_with(Fault::PowerCut(cut));
    if let Ok(store) = File::open_with(Path::new("platter"), platter.clone()) {
        let mut script = Script::new(&store, size);
        // Ends where the power does, or later than the script.
        let _ = script.run().await;
        told = script.told;
    }
    // Nothing of what was not synced is left, all of it, or some.
    for kept in [0.0, 1.0, 0.5, 0.9] {
        let context = format!("cut at {cut}, kept {kept}");
        let left = platter.after_power_cut(|| random.f64() < kept);
        let store = open(&left);
        check(&everything(&store).await, &told, &context);
        let new = store.write(Write::Create(record("new", "c", 1))).await;
        assert!(new.is_ok(), "{context}: {new:?}");
    }
}

#[tokio::test]
async fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    let mut random = fastrand::Rng::with_seed(7);
    for cut in 0..operations(SMALL).await {
        cut_power(SMALL, cut, &mut random).await;
    }
}

#[tokio::test]
async fn a_power_cut_while_the_file_grows_loses_nothing_acknowledged() {
    let mut random = fastrand::Rng::with_seed(8);
    let operations = operations(LARGE).await;
    for _ in 0..8 {
        cut_power(LARGE, random.usize(0..operations), &mut random).await;
    }
}

/// Runs the script on a disk that fails at `fault` and is mended when a write
/// was answered that the store is unavailable. Returns how often that was.
async fn run_with(fault: Fault) -> usize {
    let platter = Platter::initialised();
    let store = open(&platter);
    let mut watch = store.watch();
    let mut script = Script::new(&store, SMALL);
    platter.break_with(fault);
    let mut failures = 0;
    for round in 0..SMALL.rounds {
        while let Err(text) = script.round(round).await {
            failures += 1;
            assert!(failures < 10, "{fault:?}: does not recover: {text}");
            let mend = match fault {
                Fault::Full(_) => "free space",
                _ => "check its disk",
            };
            assert!(text.contains(mend), "{text}");
            assert!(
                store.ping().await.is_err(),
                "{fault:?}: a false sign of life"
            );
            // Readers go on, with what was committed.
            check(&everything(&store).await, &script.told, "while it failed");
            platter.mend();
            assert_eq!(store.ping().await, Ok(()), "{fault:?}");
            check(
                &everything(&store).await,
                &script.told,
                "when it was mended",
            );
        }
    }
    platter.mend();
    // The watch told what is there.
    let found = everything(&store).await;
    check(&found, &script.told, "at the end");
    let end = record("end", "c", 1);
    let last = store.write(Write::Create(end.clone())).await.unwrap();
    let mut watched = HashMap::new();
    loop {
        match next(&mut watch).await {
            Some(Ok(Change::Reset(_, all, _))) => assert!(all.is_empty()),
            Some(Ok(Change::Put(stored))) if stored.revision == last => break,
            Some(Ok(Change::Put(stored))) => {
                watched.insert(stored.record.key(), stored);
            }
            Some(Ok(Change::Delete(key, _))) => {
                watched.remove(&key);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watched, found, "{fault:?}");
    // What was acknowledged is on the disk, not only in its cache.
    let left = platter.after_power_cut(|| false);
    let mut again = everything(&open(&left)).await;
    again.remove(&end.key()).unwrap();
    assert_eq!(again, found, "{fault:?}");
    failures
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_needs_no_restart() {
    let mut failures = 0;
    for at in 0..operations(SMALL).await {
        failures += run_with(Fault::Full(at)).await;
    }
    assert!(failures > 20, "{failures}");
}

#[tokio::test]
async fn a_failing_sync_loses_nothing_and_needs_no_restart() {
    let mut failures = 0;
    for at in 0..operations(SMALL).await {
        failures += run_with(Fault::Sync(at)).await;
    }
    assert!(failures > 20, "{failures}");
}

#[tokio::test]
async fn writes_wait_in_a_bounded_queue() {
    let platter = Platter::initialised();
    let store = open(&platter);
    let stalled = platter.stall();
    // The writer has a batch in hand at most.
    let count = QUEUE_BOUND + BATCH_BOUND + 1;
    let names: Vec<_> = (0..count).map(|at| at.to_string()).collect();
    let write = |name: &String| store.write(Write::Create(record("t", name, 1)));
    let mut writes = join_all(names.iter().map(write));
    assert!(poll!(unconstrained(&mut writes)).is_pending());
    assert_eq!(store.requests.capacity(), 0);
    drop(stalled);
    assert!(writes.await.iter().all(Result::is_ok));
}
