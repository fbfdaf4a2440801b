//! How an endpoint's object is named and labelled.
//!
//! Both are functions of the identity, so that whoever creates an endpoint
//! creates the same object: the second to do so is told that it exists.

use data_encoding::BASE32_DNSSEC;
use ring::digest::{Context, SHA256};

use crate::record::{EndpointKey, Name};

/// The most bytes of the tunnel's name at the front of an object's name; three
/// groups of a UUID.
const PREFIX: usize = 18;

/// How many bytes of a hash are used: nobody can make two identities collide
/// in less than 2⁶⁴ tries, nor meet a given one in less than 2¹²⁸.
const HASH_BYTES: usize = 16;

/// The longest name, in bytes: the prefix, a hyphen, the hash in base 32.
pub const MAX_BYTES: usize = PREFIX + 1 + (HASH_BYTES * 8).div_ceil(5);

/// The name of the object for `key`: what is readable of the tunnel's name and
/// a hash of the whole identity. A DNS label (RFC 1123), so at most 63 bytes.
#[must_use]
pub fn object_name(key: &EndpointKey) -> String {
    let hash = hash(&[&key.tunnel, &key.node, &key.connector]);
    match readable(&key.tunnel.to_string()) {
        prefix if prefix.is_empty() => hash,
        prefix => format!("{prefix}-{hash}"),
    }
}

/// The value of the label [`super::TUNNEL_LABEL`] for `tunnel`.
#[must_use]
pub fn tunnel_hash(tunnel: &Name) -> String {
    hash(&[tunnel])
}

/// The letters and digits of `text` in lower case, a hyphen for whatever is
/// between them, cut to [`PREFIX`] bytes.
fn readable(text: &str) -> String {
    let words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut prefix = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    prefix.truncate(PREFIX);
    prefix.truncate(prefix.trim_end_matches('-').len());
    prefix
}

fn hash(names: &[&Name]) -> String {
    let mut context = Context::new(&SHA256);
    for name in names {
        let text = name.to_string();
        // Printable text has no zero byte, so where a name ends is plain.
        context.update(text.as_bytes());
        context.update(&[0]);
    }
    BASE32_DNSSEC.encode(&context.finish().as_ref()[..HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tunnel: &str, node: &str, connector: &str) -> EndpointKey {
        EndpointKey {
            tunnel: tunnel.parse().unwrap(),
            node: node.parse().unwrap(),
            connector: connector.parse().unwrap(),
        }
    }

    #[test]
    fn names_never_change_between_releases() {
        let uuids = key(
            "C9EF8F8C-d687-4dca-be7a-1467b6565404",
            "db670b91-61a5-4f7c-8014-3bbe994446ea",
            "c23d4f42-c892-42b3-8b74-88ab6455d33a",
        );
        assert_eq!(
            object_name(&uuids),
            "c9ef8f8c-d687-4dca-ofq7cmasgt6gvevggv0ds9qbjo"
        );
        assert_eq!(tunnel_hash(&uuids.tunnel), "121pvsbh9jtddho8c9hc9kpcc4");
    }

    #[test]
    fn what_is_readable_is_at_the_front() {
        for (tunnel, prefix) in [
            ("office", "office-"),
            ("Office Printer", "office-printer-"),
            ("--a..B--", "a-b-"),
            ("seventeen-letters-x", "seventeen-letters-"),
            ("%%%", ""),
        ] {
            let name = object_name(&key(tunnel, "n", "c"));
            let hash = name.strip_prefix(prefix).unwrap();
            assert_eq!(hash.len(), 26, "{tunnel}: {name}");
        }
    }

    #[test]
    fn where_one_name_ends_matters() {
        let name = object_name(&key("t", "ab", "c"));
        for other in [
            key("t", "a", "bc"),
            key("t", "abc", "c"),
            key("t", "c", "ab"),
        ] {
            assert_ne!(name, object_name(&other));
        }
    }
}
