//! Files that cannot be used: a clear error, and not a byte is changed.

use std::fs;

use redb::{Database, TableDefinition};

use super::platter::Platter;
use super::{contract, folder};
use crate::backend::file::{File, Medium, Why, format};
use crate::backend::{Backend, Write};

/// A store with some records: as it is while it is open, which is what a
/// killed process leaves, and as it is when it was closed.
async fn stores() -> [Vec<u8>; 2] {
    let platter = Platter::initialised();
    let store = File::open_with("platter".as_ref(), platter.clone()).unwrap();
    for connector in 0..30 {
        let record = contract::record("t", &connector.to_string(), 1);
        let written = store.write(Write::Create(record.clone())).await;
        if connector % 3 == 0 {
            let write = Write::Delete(record.key(), written.unwrap());
            store.write(write).await.unwrap();
        }
    }
    let killed = platter.bytes();
    store.close();
    [killed, platter.bytes()]
}

/// What opening these bytes says, and that it leaves them alone.
fn refusal(bytes: &[u8]) -> Why {
    let folder = folder();
    let path = folder.path().join("registry.redb");
    fs::write(&path, bytes).unwrap();
    let error = File::open(&path).unwrap_err();
    assert_eq!(error.path, path);
    assert!(fs::read(&path).unwrap() == bytes, "{error}: it was changed");
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "{error}: something was left beside it");
    // It says what is wrong with which file, and what to do.
    let text = error.to_string();
    assert!(text.contains("registry.redb"), "{text}");
    assert!(text.contains("move it away"), "{text}");
    error.why
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    assert!(matches!(refusal(b""), Why::Empty));
    for foreign in [
        b"r".as_slice(),
        b"redb",
        b"hello, world\n",
        b"SQLite format 3\0",
        &[0; 10_000],
    ] {
        assert!(matches!(refusal(foreign), Why::Foreign));
    }
    for closed in stores().await {
        for len in [
            9,
            10,
            319,
            320,
            4_095,
            4_096,
            8_192,
            closed.len() / 2,
            closed.len() - 1,
        ] {
            let why = refusal(&closed[..len]);
            assert!(matches!(why, Why::Damaged(_)), "{len} bytes: {why}");
        }
    }
    let folder = folder();
    let why = File::open(folder.path()).unwrap_err().why;
    assert!(matches!(why, Why::Io(_)), "{why}");
    let why = File::open("/dev/null").unwrap_err().why;
    assert!(matches!(why, Why::NotAFile), "{why}");
}

/// A store that somebody wrote to with redb.
fn edited(table: &str, key: &str, value: Option<&str>) -> Vec<u8> {
    let platter = Platter::initialised();
    let database = format::open(platter.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let table = TableDefinition::<&str, &str>::new(table);
        let mut table = transaction.open_table(table).unwrap();
        match value {
            Some(value) => table.insert(key, value).unwrap(),
            None => table.remove(key).unwrap(),
        };
    }
    transaction.commit().unwrap();
    drop(database);
    platter.bytes()
}

#[test]
fn a_database_of_somebody_else_is_refused() {
    let folder = folder();
    let path = folder.path().join("other.redb");
    let other = Database::create(&path).unwrap();
    drop(other);
    assert!(matches!(refusal(&fs::read(&path).unwrap()), Why::Foreign));

    let other = Database::create(&path).unwrap();
    let transaction = other.begin_write().unwrap();
    let table = TableDefinition::<u64, u64>::new("meta");
    transaction.open_table(table).unwrap();
    transaction.commit().unwrap();
    drop(other);
    assert!(matches!(refusal(&fs::read(&path).unwrap()), Why::Foreign));

    for value in [None, Some("another")] {
        let why = refusal(&edited("meta", "format", value));
        assert!(matches!(why, Why::Foreign), "{why}");
    }
}

#[test]
fn another_version_is_refused() {
    for version in [0, 2, 17] {
        let why = refusal(&edited("meta", "version", Some(&version.to_string())));
        assert!(
            matches!(why, Why::Version(found) if found == version),
            "{why}"
        );
        assert!(why.to_string().contains("knows only version 1"), "{why}");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_not_dropped() {
    let entry = |revision: u64, connector: &str| {
        let record = contract::record("t", connector, 1);
        let record = serde_json::to_string(&record).unwrap();
        format!("{{\"revision\":{revision},\"record\":{record}}}")
    };
    let key = "endpoint\nt\nnode\nc";
    for (value, says) in [
        ("", "EOF"),
        ("{}", "missing field"),
        (&entry(0, "c").replace("10.0.0.1", ""), "IP address"),
        (&entry(0, "other"), "another key"),
        (&entry(1, "c"), "newer than the last write"),
    ] {
        let why = refusal(&edited("records", key, Some(value)));
        assert!(matches!(why, Why::Damaged(_)), "{why}");
        assert!(why.to_string().contains(says), "{why}");
    }
    for (name, value) in [
        ("version", None),
        ("revision", None),
        ("revision", Some("x")),
    ] {
        let why = refusal(&edited("meta", name, value));
        assert!(matches!(why, Why::Damaged(_)), "{why}");
    }
    // The same by the right revision is fine.
    let good = Platter::holding(edited("records", key, Some(&entry(0, "c"))));
    assert_eq!(format::load(&good.storage()).unwrap().records.len(), 1);
}

/// The byte of redb's header that tells which of two commits is the last.
const LAST_COMMIT: usize = 9;

#[tokio::test]
async fn damage_is_found_wherever_it_matters() {
    let mut random = fastrand::Rng::with_seed(11);
    for bytes in stores().await {
        let good = format::load(&Platter::holding(bytes.clone())).unwrap();
        let unused = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        // The header, with both commits; then anywhere.
        let mut places: Vec<_> = (0..320).map(|byte| (byte, random.u32(0..8))).collect();
        places.extend((1..8).map(|bit| (LAST_COMMIT, bit)));
        let anywhere = || (random.usize(320..bytes.len() - unused), random.u32(0..8));
        places.extend(std::iter::repeat_with(anywhere).take(300));
        let mut found = 0;
        for (byte, bit) in places {
            let mut bytes = bytes.clone();
            bytes[byte] ^= 1 << bit;
            // One bit in a killed store cannot be told from a power cut in the
            // last commit: the one before is taken.
            let allowed = byte == LAST_COMMIT && bit == 0;
            match format::load(&Platter::holding(bytes)) {
                Err(_) => found += 1,
                Ok(read) if read.records == good.records && read.revision == good.revision => {}
                Ok(read) => assert!(allowed, "bit {bit} of byte {byte} makes it {read:?}"),
            }
        }
        assert!(found > 100, "{found}");
    }
}
