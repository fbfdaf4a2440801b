//! An instance of a service: who it is, where it is reached, and its attributes.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest address, in bytes: a host name of 253 (RFC 1035), brackets, a colon
/// and a port.
pub const MAX_ADDR_BYTES: usize = 261;
/// The longest protocol, in bytes. A label of a DNS name has 63, one of them `_`.
pub const MAX_PROTO_BYTES: usize = 62;
/// The most text in the attributes of one instance, in bytes: a hundred times what
/// the known clients send.
pub const MAX_META_BYTES: usize = 16_384;

/// The id of an instance: the MD5 of `proto-addr`. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId([u8; 16]);

impl InstanceId {
    /// The id of whoever is reached in this way.
    #[must_use]
    pub fn of(proto: &str, addr: &str) -> Self {
        Self(md5::compute(format!("{proto}-{addr}")).0)
    }

    /// Reads the text of an id: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

impl Serialize for InstanceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not the id of an instance"))
    }
}

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Who it is, by the two that follow.
    pub id: InstanceId,
    /// Where it is reached: `host:port`, as it was given.
    pub addr: String,
    /// How: `[a-z0-9]+`, such as tcp, udp or http, as it was given.
    pub proto: String,
    /// Its attributes. Texts only: the clients that there are cannot read others,
    /// and one of another kind would end the watch of each of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// Why this is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// The protocol is empty, too long, or has another character.
    #[error(
        "`proto` must have 1 to {MAX_PROTO_BYTES} lower-case letters and digits, such as tcp or http"
    )]
    Proto,
    /// The address is not `host:port`.
    #[error("`addr` is not host:port; write for example 10.0.0.1:80 or [2001:db8::1]:80")]
    Addr,
    /// The id is another one than follows from the rest.
    #[error("the id of this instance is {0}: the MD5 of proto-addr")]
    Id(InstanceId),
    /// There are more attributes than there may be.
    #[error("`meta` has more than {MAX_META_BYTES} bytes of text")]
    Meta,
}

impl Instance {
    /// An instance with this address, protocol and these attributes.
    ///
    /// # Errors
    /// When one of them is out of bounds.
    pub fn new(
        addr: String,
        proto: String,
        meta: BTreeMap<String, String>,
    ) -> Result<Self, InstanceError> {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
        if !(1..=MAX_PROTO_BYTES).contains(&proto.len()) || !proto.bytes().all(fits) {
            return Err(InstanceError::Proto);
        }
        if !is_host_port(&addr) {
            return Err(InstanceError::Addr);
        }
        let bytes: usize = meta
            .iter()
            .map(|(name, text)| name.len() + text.len())
            .sum();
        if bytes > MAX_META_BYTES {
            return Err(InstanceError::Meta);
        }
        Ok(Self {
            id: InstanceId::of(&proto, &addr),
            addr,
            proto,
            meta,
        })
    }

    /// The same, where the caller has said which id it must have.
    ///
    /// # Errors
    /// When it has another one, or is no instance.
    pub fn named(self, id: &str) -> Result<Self, InstanceError> {
        match InstanceId::parse(id) {
            Some(id) if id == self.id => Ok(self),
            _ => Err(InstanceError::Id(self.id)),
        }
    }
}

/// Whether a text is a host, maybe in brackets, and a port. The host may be empty:
/// the field's clients send that where no address is configured.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let inner = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']'),
        None => Some(host).filter(|host| !host.contains(':')),
    };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'[' | b']' | b'/');
    text.len() <= MAX_ADDR_BYTES
        && inner.is_some_and(|host| host.bytes().all(is_plain))
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok()
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            id: InstanceId,
            addr: String,
            proto: String,
            #[serde(default)]
            meta: BTreeMap<String, String>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let instance =
            Self::new(raw.addr, raw.proto, raw.meta).map_err(serde::de::Error::custom)?;
        if instance.id != raw.id {
            return Err(serde::de::Error::custom(InstanceError::Id(instance.id)));
        }
        Ok(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(addr: &str, proto: &str) -> Result<Instance, InstanceError> {
        Instance::new(addr.into(), proto.into(), BTreeMap::new())
    }

    #[test]
    fn the_id_is_the_hash_of_how_it_is_reached() {
        // As `printf tcp-127.0.0.1:80 | md5sum` tells.
        let text = "cb6ddf019e39bc41371b307e22939e3d";
        let known = at("127.0.0.1:80", "tcp").unwrap();
        assert_eq!(known.id.to_string(), text);
        assert_eq!(InstanceId::parse(text), Some(known.id));
        assert_eq!(InstanceId::parse(&text.to_uppercase()), None);
        assert!(known.clone().named(text).is_ok());
        let wrong = known.clone().named(&text.replace('c', "d"));
        assert_eq!(wrong, Err(InstanceError::Id(known.id)));
    }

    #[test]
    fn addresses_and_protocols_are_checked_and_kept_as_given() {
        for addr in ["10.0.0.1:80", "[::1]:80", "db.local:5432", ":80", "h:0"] {
            assert_eq!(at(addr, "tcp").unwrap().addr, addr);
        }
        let long = format!("{}:80", "h".repeat(MAX_ADDR_BYTES));
        for addr in [
            "", "h", "h:", "h:x", "h:65536", "::1:80", "[::1:80", "h h:80", "h:+1", "a/b:80", &long,
        ] {
            let expected = Err(InstanceError::Addr);
            // An empty port is none.
            assert_eq!(at(addr, "tcp"), expected, "{addr}");
        }
        for proto in ["", "TCP", "t-p", "tcp ", &"x".repeat(63)] {
            assert_eq!(at("h:80", proto), Err(InstanceError::Proto), "{proto}");
        }
    }

    #[test]
    fn attributes_are_bounded() {
        let meta = |bytes: usize| BTreeMap::from([("k".to_owned(), "v".repeat(bytes - 1))]);
        let new = |bytes| Instance::new("h:80".into(), "tcp".into(), meta(bytes));
        assert!(new(MAX_META_BYTES).is_ok());
        assert_eq!(new(MAX_META_BYTES + 1), Err(InstanceError::Meta));
    }

    #[test]
    fn what_was_stored_is_checked_when_it_is_read() {
        let instance = at("h:80", "tcp").unwrap();
        let json = serde_json::to_string(&instance).unwrap();
        assert!(!json.contains("meta"), "{json}");
        assert_eq!(serde_json::from_str::<Instance>(&json).unwrap(), instance);
        let bad = json.replace("h:80", "h:81");
        assert!(serde_json::from_str::<Instance>(&bad).is_err());
    }
}
