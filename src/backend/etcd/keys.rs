//! Which key of etcd holds which record: `PREFIX<kind>/<identity>`, with the parts
//! of an identity between slashes. Pure.
//!
//! What is no letter, no digit and none of `-._~:@` is percent-encoded (RFC 3986
//! §2.1), so no two records have one key, and `etcdctl get --prefix` shows names.

use std::fmt::Write as _;

use crate::discoverd::{InstanceId, InstanceKey, ServiceName};
use crate::record::{EndpointKey, Key, Kind, Name};
use crate::session::SessionKey;

/// The keys under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    prefix: String,
}

/// All keys from the first one to, and without, the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl Keys {
    /// Under `prefix`, which ends in a slash.
    pub fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// All keys of the registry.
    pub fn all(&self) -> Span {
        span(&self.prefix)
    }

    /// All keys of a kind.
    pub fn of_kind(&self, kind: Kind) -> Span {
        span(&format!("{}{}/", self.prefix, word(kind)))
    }

    /// The prefix alone: a key under which nothing is kept.
    pub fn nothing(&self) -> Vec<u8> {
        self.prefix.clone().into_bytes()
    }

    /// Where a record is kept.
    pub fn of(&self, key: &Key) -> Vec<u8> {
        let mut path = format!("{}{}", self.prefix, word(key.kind()));
        let mut add = |part: &str| {
            path.push('/');
            encode(part, &mut path);
        };
        match key {
            Key::Endpoint(key) => {
                for name in [&key.tunnel, &key.node, &key.connector] {
                    add(&name.to_string());
                }
            }
            Key::Replica(identity) => add(identity),
            Key::Session(key) => add(&key.to_string()),
            Key::Service(name) => add(&name.to_string()),
            Key::Instance(key) => {
                add(&key.service.to_string());
                add(&key.id.to_string());
            }
        }
        path.into_bytes()
    }

    /// Of which kind the record under a key should be.
    pub fn kind(&self, path: &[u8]) -> Option<Kind> {
        let rest = std::str::from_utf8(path).ok()?.strip_prefix(&self.prefix)?;
        let (first, _) = rest.split_once('/')?;
        Kind::ALL.into_iter().find(|kind| word(*kind) == first)
    }

    /// Whose key this is; none when a record is never kept there.
    pub fn read(&self, path: &[u8]) -> Option<Key> {
        let kind = self.kind(path)?;
        let rest = std::str::from_utf8(path).ok()?.strip_prefix(&self.prefix)?;
        let parts: Option<Vec<String>> = rest.split('/').skip(1).map(decode).collect();
        let key = match (kind, parts?.as_slice()) {
            (Kind::Endpoint, [tunnel, node, connector]) => Key::Endpoint(EndpointKey {
                tunnel: Name::parse(tunnel).ok()?,
                node: Name::parse(node).ok()?,
                connector: Name::parse(connector).ok()?,
            }),
            (Kind::Replica, [identity]) => Key::Replica(identity.as_str().into()),
            (Kind::Session, [key]) => Key::Session(SessionKey::parse(key)?),
            (Kind::Service, [name]) => Key::Service(ServiceName::parse(name).ok()?),
            (Kind::Instance, [service, id]) => Key::Instance(InstanceKey {
                service: ServiceName::parse(service).ok()?,
                id: InstanceId::parse(id)?,
            }),
            _ => return None,
        };
        // Of two ways to write a name one is the key.
        (self.of(&key) == path).then_some(key)
    }
}

/// Everything that begins with `prefix`, which ends in a slash: up to what would
/// begin with the character after that.
fn span(prefix: &str) -> Span {
    let from = prefix.as_bytes().to_vec();
    let mut to = from.clone();
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    Span { from, to }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Endpoint => "endpoint",
        Kind::Replica => "replica",
        Kind::Session => "session",
        Kind::Service => "service",
        Kind::Instance => "instance",
    }
}

fn encode(part: &str, path: &mut String) {
    for byte in part.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
        match plain {
            true => path.push(byte.into()),
            // Writing to a text cannot fail.
            false => drop(write!(path, "%{byte:02X}")),
        }
    }
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::contract;

    fn keys() -> Keys {
        Keys::new("/a/".into())
    }

    #[test]
    fn every_key_is_read_back() {
        let names = [
            "a/b", "a b", "%2F", "a", "A", "~", "{}", "a:b@c", "é", "\u{1}",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let mut records = vec![
                contract::replica(name, 1).key(),
                contract::session("h", 1).key(),
                contract::service("s", 1).key(),
                contract::instance("s", "h", 1).key(),
            ];
            if Name::parse(name).is_ok() {
                records.push(contract::record(name, "c", 1).key());
            }
            for key in records {
                let path = keys().of(&key);
                assert_eq!(keys().read(&path).as_ref(), Some(&key));
                assert_eq!(keys().kind(&path), Some(key.kind()));
                let Span { from, to } = keys().of_kind(key.kind());
                assert!(from < path && path < to);
                seen.insert(path);
            }
        }
        let Span { from, to } = keys().all();
        assert!(seen.iter().all(|path| from < *path && *path < to));
        assert!(seen.contains(&b"/a/endpoint/a%2Fb/node/c"[..]));
    }

    #[test]
    fn what_is_no_key_is_none() {
        for path in [
            "/a/",
            "/a/endpoint",
            "/a/endpoint/",
            "/a/endpoint/a/b",
            "/a/endpoint/a/b/c/d",
            "/a/endpoint/a/b/%",
            "/a/endpoint/a/b/%zz",
            // Another way to write a/b/c.
            "/a/endpoint/a/b/%63",
            "/a/session/x",
            "/a/instance/s/x",
            "/a/tunnel/x",
            "/b/endpoint/a/b/c",
        ] {
            assert_eq!(keys().read(path.as_bytes()), None, "{path}");
        }
        assert_eq!(keys().read(b"/a/replica/\xff"), None);
        assert_eq!(keys().kind(b"/a/tunnel/x"), None);
    }
}
