//! Reads the peer's Redis. Nothing is ever written there: `SCAN`, `TYPE` and
//! `HSCAN` are all that is sent after the login.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo as _, RedisResult};

use crate::transfer::MAX_RECORDS;
use crate::transfer::peer::Entry;

/// How long Redis may take to be reached, or to answer one request.
const WITHIN: Duration = Duration::from_secs(10);
/// About so many keys, or fields of a hash, are asked for at once.
const BATCH: usize = 500;

/// Where Redis is: `redis://[USER][:PASSWORD@]HOST[:PORT][/DB]`. Never shown with
/// its password.
#[derive(Clone)]
pub struct RedisUrl(Client);

/// Why Redis could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// It does not answer, or refuses.
    #[error("Redis at {at} cannot be read: {error}")]
    Redis {
        /// Where it is.
        at: String,
        /// What it said.
        error: redis::RedisError,
    },
    /// More than is moved at once.
    #[error("Redis has more than {MAX_RECORDS} entries; import them in parts with --redis-prefix")]
    TooMany,
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("rediss:") || text.starts_with("valkeys:") {
            return Err("today's peer speaks no TLS to Redis, and neither does this; use redis:// from where the peer runs, or a tunnel to there".into());
        }
        let must =
            "must be redis://[USER][:PASSWORD@]HOST[:PORT][/DB], such as redis://127.0.0.1:6379/0";
        let info = text.into_connection_info().map_err(|_| must)?;
        if !matches!(
            info.addr(),
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_)
        ) {
            return Err(must.into());
        }
        Client::open(info).map(Self).map_err(|_| must.into())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get_connection_info().addr().fmt(f)
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for RedisUrl {}

/// A field of a hash, and what is in it.
type Field = (Vec<u8>, Vec<u8>);

/// Reads every field of every hash whose key begins with `prefix`. Other keys are
/// passed over: the peer's other plugins keep theirs in the same place. The calling
/// thread waits for it.
///
/// # Errors
/// When Redis does not answer each request within ten seconds, or refuses one.
pub fn read(url: &RedisUrl, prefix: &str) -> Result<Vec<Entry>, RedisError> {
    let failed = |error| RedisError::Redis {
        at: url.to_string(),
        error,
    };
    let mut connection = connect(url).map_err(failed)?;
    // A scan may tell the same twice.
    let mut found = BTreeMap::new();
    let pattern = pattern(prefix);
    let mut cursor = Cursor::default();
    while !cursor.is_over {
        let keys = hashes(&mut connection, &pattern, &mut cursor).map_err(failed)?;
        for key in keys {
            let mut cursor = Cursor::default();
            while !cursor.is_over {
                for (field, value) in fields(&mut connection, &key, &mut cursor).map_err(failed)? {
                    found.insert((key.clone(), field), value);
                }
                if found.len() > MAX_RECORDS {
                    return Err(RedisError::TooMany);
                }
            }
        }
    }
    let entry = |((tunnel, connector), value)| Entry {
        tunnel,
        connector,
        value,
    };
    Ok(found.into_iter().map(entry).collect())
}

fn connect(url: &RedisUrl) -> RedisResult<Connection> {
    let connection = url.0.get_connection_with_timeout(WITHIN)?;
    connection.set_read_timeout(Some(WITHIN))?;
    connection.set_write_timeout(Some(WITHIN))?;
    Ok(connection)
}

/// The next keys of a pattern that are hashes.
fn hashes(
    connection: &mut Connection,
    pattern: &str,
    cursor: &mut Cursor,
) -> RedisResult<Vec<Vec<u8>>> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor.at).arg("MATCH").arg(pattern);
    let (next, keys): (u64, Vec<Vec<u8>>) = scan.arg("COUNT").arg(BATCH).query(connection)?;
    cursor.go_on(next);
    if keys.is_empty() {
        return Ok(keys);
    }
    let mut types = redis::pipe();
    for key in &keys {
        types.cmd("TYPE").arg(key);
    }
    let types: Vec<String> = types.query(connection)?;
    let typed = keys.into_iter().zip(types);
    Ok(typed
        .filter(|(_, kind)| kind == "hash")
        .map(|(key, _)| key)
        .collect())
}

/// The next fields of a hash.
fn fields(connection: &mut Connection, key: &[u8], cursor: &mut Cursor) -> RedisResult<Vec<Field>> {
    let mut scan = redis::cmd("HSCAN");
    scan.arg(key).arg(cursor.at).arg("COUNT").arg(BATCH);
    let (next, fields): (u64, Vec<Field>) = scan.query(connection)?;
    cursor.go_on(next);
    Ok(fields)
}

/// How far a scan has come.
#[derive(Debug, Default)]
struct Cursor {
    at: u64,
    is_over: bool,
}

impl Cursor {
    fn go_on(&mut self, next: u64) {
        *self = Self {
            at: next,
            is_over: next == 0,
        };
    }
}

/// The pattern of all keys that begin so.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_hides_the_password() {
        for (text, shown) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("redis://h:7000/3", "h:7000"),
            ("redis://user:secret@h/1", "h:6379"),
            ("redis://:secret@[::1]:6380", "::1:6380"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert!(!format!("{url:?}").contains("secret"));
            assert!(
                url.to_string().contains(shown.trim_start_matches('[')),
                "{url}"
            );
        }
        for text in ["", "h:6379", "http://h", "redis://", "redis://h/x"] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(error.contains("must be redis://"), "{text}: {error}");
        }
        for text in ["rediss://h", "valkeys://h"] {
            assert!(text.parse::<RedisUrl>().unwrap_err().contains("no TLS"));
        }
    }

    #[test]
    fn a_prefix_is_taken_as_it_stands() {
        assert_eq!(pattern(""), "*");
        assert_eq!(pattern("a*[b]\\"), r"a\*\[b\]\\*");
    }
}
