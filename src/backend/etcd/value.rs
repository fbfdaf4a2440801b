//! What is under a key of etcd: a record as JSON, as the file store writes it.

use super::keys::Keys;
use super::proto::KeyValue;
use crate::backend::{Revision, Stored};
use crate::record::Record;

/// A record as it is stored.
pub(super) fn write(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(record)
}

/// Reads a key and its value; an error says what is wrong with them.
pub(super) fn read(keys: &Keys, pair: &KeyValue) -> Result<Stored, String> {
    let Some(key) = keys.read(&pair.key) else {
        return Err("this program keeps nothing under such a key; delete it, or give the registry an --etcd-prefix of its own".into());
    };
    let record: Record = serde_json::from_slice(&pair.value)
        .map_err(|why| format!("its value cannot be read ({why}); correct or delete it"))?;
    if record.key() != key {
        return Err(format!(
            "its value is of another record ({}); correct or delete it",
            record.key()
        ));
    }
    Ok(Stored {
        record,
        revision: revision(pair.mod_revision),
    })
}

/// etcd counts from 1 in signed numbers.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::contract;

    #[test]
    fn what_cannot_be_read_is_told() {
        let keys = Keys::new("/r/".into());
        let record = contract::record("t", "c", 1);
        let pair = |key: &[u8], value: &[u8]| KeyValue {
            key: key.to_vec(),
            value: value.to_vec(),
            mod_revision: 7,
            ..KeyValue::default()
        };
        let (key, value) = (keys.of(&record.key()), write(&record).unwrap());
        let stored = Stored {
            record: record.clone(),
            revision: Revision(7),
        };
        assert_eq!(read(&keys, &pair(&key, &value)), Ok(stored));
        let other = keys.of(&contract::record("t", "d", 1).key());
        for (pair, what) in [
            (pair(b"/r/x", &value), "--etcd-prefix"),
            (pair(&key, b"{"), "cannot be read"),
            (pair(&key, b""), "cannot be read"),
            (pair(&other, &value), "another record (endpoint t/node/c)"),
        ] {
            let why = read(&keys, &pair).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }
}
