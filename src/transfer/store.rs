//! Reading everything that a store holds, and writing into one.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backend::{Backend, Change, Stored, Write, WriteError};
use crate::map::Set;
use crate::record::{Key, Kind, Record};
use crate::transfer::plan::{Present, Refusal, Step, step};

/// How long a store may take to tell everything that it holds: as long as the
/// largest one takes, and more.
pub const READ_WITHIN: Duration = Duration::from_secs(60);
/// How long one write may take.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How often a write is tried that the store could not take, or that somebody else
/// was faster with.
const TRIES: u32 = 5;
/// The wait before the second try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// At most so many writes are under way at once.
const AT_ONCE: usize = 256;

/// Why a store could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// It did not tell everything in time.
    #[error("the store did not tell within {READ_WITHIN:?} what it holds{why}")]
    Silent {
        /// What is known of that, to be read after it.
        why: String,
    },
}

/// What the store holds of these kinds, as far as it keeps them: of each kind what
/// it held at one moment. Nothing is left out silently, so a store that cannot tell
/// everything yields nothing.
///
/// # Errors
/// When it does not tell within [`READ_WITHIN`].
pub async fn collect(backend: &dyn Backend, kinds: &[Kind]) -> Result<Present, CollectError> {
    let mut wanted: Set<Kind> = kinds.iter().copied().collect();
    wanted.retain(|kind| backend.keeps(*kind));
    let mut missing = wanted.clone();
    let mut present = Present::default();
    let until = Instant::now() + READ_WITHIN;
    let mut broke = None;
    while !missing.is_empty() {
        let mut changes = backend.watch();
        while let Ok(Some(change)) = timeout_at(until, changes.next()).await {
            match change {
                Ok(change) => apply(&mut present, &mut missing, &wanted, change),
                Err(error) => {
                    broke = Some(error.to_string());
                    break;
                }
            }
            if missing.is_empty() {
                return Ok(present);
            }
        }
        if Instant::now() >= until {
            let why = backend.trouble().or(broke);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            return Err(CollectError::Silent { why });
        }
        // Each watch begins with everything.
        missing = wanted.clone();
        sleep(FIRST_WAIT).await;
    }
    Ok(present)
}

fn apply(present: &mut Present, missing: &mut Set<Kind>, wanted: &Set<Kind>, change: Change) {
    match change {
        Change::Reset(kind, all, _) if wanted.contains(&kind) => {
            missing.remove(&kind);
            present.retain(|key, _| key.kind() != kind);
            present.extend(all.into_iter().map(|stored| (stored.record.key(), stored)));
        }
        Change::Put(stored) if wanted.contains(&stored.record.kind()) => {
            present.insert(stored.record.key(), stored);
        }
        Change::Delete(key, _) => {
            present.remove(&key);
        }
        Change::Reset(..) | Change::Put(_) => {}
    }
}

/// What became of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Those that were created.
    pub created: usize,
    /// Those that replaced others.
    pub replaced: usize,
    /// Those that were there.
    pub there: usize,
    /// Those that were left out, each with why.
    pub refused: Vec<(Key, Refusal)>,
}

impl Report {
    fn add(&mut self, key: Key, done: Done) {
        match done {
            Done::Created => self.created += 1,
            Done::Replaced => self.replaced += 1,
            Done::There => self.there += 1,
            Done::Refused(why) => self.refused.push((key, why)),
        }
    }
}

#[derive(Debug)]
enum Done {
    Created,
    Replaced,
    There,
    Refused(Refusal),
}

/// How records are put into a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether what the store has is replaced where it differs.
    pub replace: bool,
    /// Whether nothing is written, only said what would be.
    pub dry_run: bool,
}

/// Puts records, which were prepared for that, into a store that holds `present`.
/// Each is written for itself, and only over what was seen; whatever happens, doing
/// it again does the rest.
pub async fn put(
    backend: &dyn Backend,
    records: &[Record],
    mut present: Present,
    manner: Manner,
) -> Report {
    let mut report = Report::default();
    // Services come before their instances.
    for kind in Kind::ALL {
        let of_kind = records.iter().filter(|record| record.kind() == kind);
        let at_once = backend.writes_at_once().clamp(1, AT_ONCE);
        let known = &present;
        let ended: Vec<_> = stream::iter(of_kind)
            .map(async |record| {
                let (done, stored) = put_one(backend, record, known, manner).await;
                (record.key(), done, stored)
            })
            .buffered(at_once)
            .collect()
            .await;
        for (key, done, stored) in ended {
            if let Some(stored) = stored {
                present.insert(key.clone(), stored);
            }
            report.add(key, done);
        }
    }
    report
}

/// What became of a record, and what the store holds of it, if that is something
/// else than before.
async fn put_one(
    backend: &dyn Backend,
    record: &Record,
    present: &Present,
    manner: Manner,
) -> (Done, Option<Stored>) {
    if !backend.keeps(record.kind()) {
        return (Done::Refused(Refusal::NotKept), None);
    }
    let mut next = step(record, present, manner.replace);
    let mut failed = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(FIRST_WAIT * 2u32.pow(attempt - 1)).await;
        }
        let (write, done) = match next {
            Step::There => return (Done::There, None),
            Step::Refuse(why) => return (Done::Refused(why), None),
            Step::Create(ref record) => (Write::Create(record.clone()), Done::Created),
            Step::Replace(ref record, revision) => {
                (Write::Put(record.clone(), revision), Done::Replaced)
            }
        };
        let stored = |revision| Stored {
            record: record.clone(),
            revision,
        };
        if manner.dry_run {
            return (done, Some(stored(Default::default())));
        }
        match timeout(WRITE_WITHIN, backend.write(write)).await {
            Ok(Ok(revision)) => return (done, Some(stored(revision))),
            Ok(Err(WriteError::Conflict(current))) => {
                failed = "somebody else changes it again and again".into();
                next = decide_anew(record, present, current.map(|stored| *stored), manner);
            }
            Ok(Err(WriteError::Refused(why))) => {
                return (Done::Refused(Refusal::Store(why)), None);
            }
            // Whether it was made is not known; the condition finds out.
            Ok(Err(error @ WriteError::Unavailable(_))) => failed = error.to_string(),
            Err(_) => failed = format!("the store did not answer within {WRITE_WITHIN:?}"),
        }
    }
    (Done::Refused(Refusal::Store(failed)), None)
}

/// What is to be done when the store holds this instead of what was seen.
fn decide_anew(
    record: &Record,
    present: &Present,
    current: Option<Stored>,
    manner: Manner,
) -> Step {
    let service = match record {
        Record::Instance(record) => Some(Key::Service(record.service.clone())),
        _ => None,
    };
    let service = service.and_then(|key| present.get(&key).cloned());
    let seen = service.into_iter().chain(current);
    let seen: Present = seen.map(|stored| (stored.record.key(), stored)).collect();
    step(record, &seen, manner.replace)
}

#[cfg(test)]
mod tests;
