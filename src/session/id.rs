//! The id of a session, which is a secret, and its hash, which is not.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE32_DNSSEC, HEXLOWER};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::session::registration::Instance;

/// How many random bytes make an id that nobody guesses: 128 bits.
pub const RANDOM_BYTES: usize = 16;

/// The id of a session: `hostname-port-unixtime-<128 random bits in hex>`. Who
/// has it may change the session, so it is shown without its random end.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    /// The id of a session that is opened `at`; `random` must be unpredictable.
    #[must_use]
    pub fn new(instance: &Instance, at: Timestamp, random: [u8; RANDOM_BYTES]) -> Self {
        let front = front(instance, at);
        Self(format!("{front}-{}", HEXLOWER.encode(&random)))
    }

    /// The whole id: for the one who registered, and nobody else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What it is known by.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        SessionKey::of(&self.0)
    }
}

/// What of an id may be shown.
#[must_use]
pub fn front(instance: &Instance, at: Timestamp) -> String {
    let (host, port) = (&instance.host, instance.port);
    format!("{host}-{port}-{}", at.as_second())
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.rsplit_once('-').map_or("", |(front, _)| front))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self}-…)")
    }
}

/// The SHA-256 of a session's id: what stores, logs and other sessions may see.
/// Its text has 52 letters and digits, fit for the name of an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key of the session with this id, if there is one.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, id.as_bytes()).as_ref());
        Self(hash)
    }

    /// Reads the text of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE32_DNSSEC.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_DNSSEC.encode(&self.0))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Arc::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not the key of a session"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::registration::Registration;

    fn id(random: u8) -> SessionId {
        let registration = Registration::parse("api", "api-v2", "9000", "0").unwrap();
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        SessionId::new(&registration.instance, at, [random; RANDOM_BYTES])
    }

    #[test]
    fn the_random_end_is_never_shown() {
        let id = id(0xab);
        let random = "ab".repeat(16);
        assert_eq!(id.secret(), format!("api-v2-9000-1700000000-{random}"));
        assert_eq!(id.to_string(), "api-v2-9000-1700000000");
        assert_eq!(format!("{id:?}"), "SessionId(api-v2-9000-1700000000-…)");
        for shown in [id.key().to_string(), format!("{:?}", id.key())] {
            assert!(!shown.contains(&random), "{shown}");
        }
    }

    #[test]
    fn a_key_is_the_hash_of_the_whole_id() {
        assert_eq!(id(1).key(), SessionKey::of(id(1).secret()));
        assert_ne!(id(1).key(), id(2).key());
        let text = id(1).key().to_string();
        assert_eq!(text.len(), 52);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        assert_eq!(SessionKey::parse(&text), Some(id(1).key()));
        assert_eq!(SessionKey::parse("x"), None);
        let json = serde_json::to_string(&id(1).key()).unwrap();
        assert_eq!(
            serde_json::from_str::<SessionKey>(&json).unwrap(),
            id(1).key()
        );
        // The test vector of FIPS 180-2 for "abc".
        let abc = HEXLOWER.encode(&SessionKey::of("abc").0);
        assert!(abc.starts_with("ba7816bf8f01cfea414140de5dae2223"), "{abc}");
    }
}
