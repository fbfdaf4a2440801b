//! How objects are named: readable at the front, unmistakable at the end.
//!
//! A name is a function of an identity, so that whoever creates an object for it
//! creates the same one: the second to do so is told that it exists.

use data_encoding::BASE32_DNSSEC;
use ring::digest::{Context, SHA256};

/// The most bytes of readable text in a name; three groups of a UUID.
const READABLE: usize = 18;

/// How many bytes of a hash are used: nobody can make two identities collide
/// in less than 2⁶⁴ tries, nor meet a given one in less than 2¹²⁸.
const HASH_BYTES: usize = 16;

/// The longest name, in bytes: readable text, a hyphen, the hash in base 32.
pub const MAX_BYTES: usize = READABLE + 1 + (HASH_BYTES * 8).div_ceil(5);

/// A name with what is readable of `text` and a hash of the whole `identity`. A
/// DNS label (RFC 1123), so at most 63 bytes.
#[must_use]
pub fn object_name(text: &str, identity: &[&str]) -> String {
    let hash = hash(identity);
    match readable(text) {
        prefix if prefix.is_empty() => hash,
        prefix => format!("{prefix}-{hash}"),
    }
}

/// A hash of texts without zero bytes: letters and digits, fit for a label.
#[must_use]
pub fn hash(texts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(text.as_bytes());
        // Where a text ends is plain.
        context.update(&[0]);
    }
    BASE32_DNSSEC.encode(&context.finish().as_ref()[..HASH_BYTES])
}

/// The letters and digits of `text` in lower case, a hyphen for whatever is
/// between them, cut to [`READABLE`] bytes.
fn readable(text: &str) -> String {
    let words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut prefix = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    prefix.truncate(READABLE);
    prefix.truncate(prefix.trim_end_matches('-').len());
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_readable_is_at_the_front() {
        for (text, prefix) in [
            ("office", "office-"),
            ("Office Printer", "office-printer-"),
            ("--a..B--", "a-b-"),
            ("seventeen-letters-x", "seventeen-letters-"),
            ("%%%", ""),
        ] {
            let name = object_name(text, &[text]);
            let hash = name.strip_prefix(prefix).unwrap();
            assert_eq!(hash.len(), 26, "{text}: {name}");
            assert!(name.len() <= MAX_BYTES);
        }
    }

    #[test]
    fn where_one_text_ends_matters() {
        let first = hash(&["t", "ab", "c"]);
        for other in [["t", "a", "bc"], ["t", "abc", "c"], ["t", "c", "ab"]] {
            assert_ne!(first, hash(&other));
        }
    }
}
