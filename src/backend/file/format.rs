//! What the file holds: a redb database with two tables of text. `meta` names
//! the format, its version and the last revision; `records` has every record
//! as JSON under a text that tells its key.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{fmt, io};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError,
};
use serde::{Deserialize, Serialize};

use super::Why;
use crate::backend::memory::Edit;
use crate::backend::{Revision, Stored};
use crate::map::Map;
use crate::record::{Key, Record};

const META: TableDefinition<&str, &str> = TableDefinition::new("meta");
const RECORDS: TableDefinition<&str, &str> = TableDefinition::new("records");

/// The entries of `meta`.
const FORMAT: &str = "format";
const VERSION: &str = "version";
const REVISION: &str = "revision";

/// What `format` says.
const OURS: &str = "tunnel-registry";
/// The version of what is written here. One that reads older files too raises
/// it when an older program would misread its files.
pub(super) const CURRENT: u64 = 1;

/// How a redb file begins (its design document, "Super-header").
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Pages that redb keeps in memory. Reads are few and small; the records
/// themselves are in the view.
const CACHE_BYTES: usize = 8 << 20;

/// A file is copied to memory in pieces of this size.
const COPY_BYTES: usize = 1 << 20;

/// A value of `records`.
#[derive(Serialize, Deserialize)]
struct Entry<R> {
    revision: Revision,
    record: R,
}

/// Everything that a file holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub records: Map<Key, Stored>,
    pub revision: Revision,
}

/// Makes an empty store on an empty storage.
pub(super) fn initialise(storage: impl StorageBackend) -> Result<(), redb::Error> {
    let database = builder().create_with_backend(storage)?;
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT, OURS)?;
        meta.insert(VERSION, CURRENT.to_string().as_str())?;
        meta.insert(REVISION, "0")?;
        transaction.open_table(RECORDS)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Opens a storage that [`load`] has found good. An empty one would be taken
/// for a new store, so it is refused.
pub(super) fn open(storage: impl StorageBackend) -> Result<Database, redb::Error> {
    if storage.len()? == 0 {
        return Err(redb::Error::Corrupted("the file has been emptied".into()));
    }
    Ok(builder().create_with_backend(storage)?)
}

/// The last revision that was committed.
pub(super) fn revision(database: &Database) -> Result<Revision, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let found = meta.get(REVISION)?;
    let number = found.and_then(|text| text.value().parse().ok());
    number
        .map(Revision)
        .ok_or_else(|| redb::Error::Corrupted("the last revision is missing".into()))
}

/// Makes edits, all or none, and waits until they are on the disk.
///
/// Commits are in two phases, two syncs each. With one, redb would take damage
/// in the last commit for a power cut and go back to the one before; and a
/// commit whose sync failed could look complete when the file is opened again.
pub(super) fn commit(database: &Database, edits: &[Edit]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        for edit in edits {
            let key = key_text(&edit.key);
            match &edit.record {
                Some(record) => {
                    let value = entry_text(record, edit.revision).map_err(io::Error::from)?;
                    records.insert(key.as_str(), value.as_str())?;
                }
                None => {
                    records.remove(key.as_str())?;
                }
            }
            meta.insert(REVISION, edit.revision.to_string().as_str())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Reads everything, from a copy in memory: redb repairs what it opens, and a
/// file that cannot be used must stay as it is.
pub(super) fn load(storage: &impl StorageBackend) -> Result<Contents, Why> {
    let len = storage.len()?;
    if len == 0 {
        return Err(Why::Empty);
    }
    let mut magic = [0; MAGIC.len()];
    let there = MAGIC.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    storage.read(0, &mut magic[..there])?;
    if magic != MAGIC {
        return Err(Why::Foreign);
    }
    let copy = copy(storage, len)?;
    // redb checks what it reads, but has panicked on damaged pages before.
    catch_unwind(AssertUnwindSafe(|| read(copy))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
        Err(Why::Damaged(text.unwrap_or_default()))
    })
}

fn copy(storage: &impl StorageBackend, len: u64) -> Result<InMemoryBackend, Why> {
    let copy = InMemoryBackend::new();
    copy.set_len(len)?;
    let mut piece = vec![0; COPY_BYTES];
    for offset in (0..len).step_by(COPY_BYTES) {
        let size = usize::try_from(len - offset).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        storage.read(offset, &mut piece[..size])?;
        copy.write(offset, &piece[..size])?;
    }
    Ok(copy)
}

fn read(copy: InMemoryBackend) -> Result<Contents, Why> {
    let mut database = builder().create_with_backend(copy)?;
    if !database.check_integrity()? {
        return Err(damaged("pages do not add up"));
    }
    let reading = database.begin_read().map_err(damaged)?;

    let meta = reading.open_table(META)?;
    let text = |name| match meta.get(name) {
        Ok(found) => Ok(found.map(|found| found.value().to_owned())),
        Err(error) => Err(damaged(error)),
    };
    if text(FORMAT)?.as_deref() != Some(OURS) {
        return Err(Why::Foreign);
    }
    let number = |name| -> Result<u64, Why> {
        let number = text(name)?.and_then(|text| text.parse().ok());
        number.ok_or_else(|| damaged(format!("its {name} is missing")))
    };
    let version = number(VERSION)?;
    if version != CURRENT {
        return Err(Why::Version(version));
    }
    let revision = Revision(number(REVISION)?);

    let mut records = Map::default();
    for item in reading.open_table(RECORDS)?.iter().map_err(damaged)? {
        let (key, value) = item.map_err(damaged)?;
        let (key, value) = (key.value(), value.value());
        let unreadable = |why: &dyn fmt::Display| damaged(format!("record {key:?}: {why}"));
        let entry: Entry<Record> =
            serde_json::from_str(value).map_err(|error| unreadable(&error))?;
        let stored = Stored {
            record: entry.record,
            revision: entry.revision,
        };
        let named = stored.record.key();
        if key_text(&named) != key {
            return Err(unreadable(&"it is the record of another key"));
        }
        if stored.revision > revision {
            return Err(unreadable(&"it is newer than the last write"));
        }
        records.insert(named, stored);
    }
    Ok(Contents { records, revision })
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The text under which a record is kept: its kind and its names, a line each.
/// Names are printable, so no two keys have one text.
fn key_text(key: &Key) -> String {
    match key {
        Key::Endpoint(key) => {
            format!("endpoint\n{}\n{}\n{}", key.tunnel, key.node, key.connector)
        }
        Key::Replica(identity) => format!("replica\n{identity}"),
        Key::Session(key) => format!("session\n{key}"),
        Key::Service(name) => format!("service\n{name}"),
        Key::Instance(key) => format!("instance\n{}\n{}", key.service, key.id),
    }
}

fn entry_text(record: &Record, revision: Revision) -> serde_json::Result<String> {
    serde_json::to_string(&Entry { revision, record })
}

fn damaged(what: impl fmt::Display) -> Why {
    Why::Damaged(what.to_string())
}

impl From<DatabaseError> for Why {
    fn from(error: DatabaseError) -> Self {
        damaged(error)
    }
}

impl From<TableError> for Why {
    /// A table that is not there, or is another kind of table, is somebody else's.
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => damaged(error),
            _ => Self::Foreign,
        }
    }
}

impl From<redb::Error> for Why {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Io(error),
            other => damaged(other),
        }
    }
}
