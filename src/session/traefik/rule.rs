//! Which requests are at a place, and whose they are when several fit.

use std::fmt::Write as _;

use crate::session::place::{Domain, Path, Place};

/// The rank of an exact domain: above that of any wildcard, which is its length.
const EXACT: u32 = 255;
/// Room for the length of a path below that of a domain.
const PATHS: u32 = 2_048;

/// The highest priority of all: routers of others that are to come first need a
/// higher one.
pub const HIGHEST_PRIORITY: u32 = EXACT * PATHS + Path::MAX_BYTES as u32;

/// The priority of a place: exact domains before wildcards, of those the longer
/// before the shorter, then longer paths before shorter ones. Wildcards that fit
/// one host end alike, and paths begin alike, so the longer is the closer.
pub(super) fn priority(place: &Place) -> u32 {
    let domain = place.domain.as_str();
    let rank = if domain.starts_with("*.") {
        bounded(domain.len(), Domain::MAX_BYTES)
    } else {
        EXACT
    };
    rank * PATHS + bounded(place.path.as_str().len(), Path::MAX_BYTES)
}

fn bounded(length: usize, most: usize) -> u32 {
    u32::try_from(length.min(most)).unwrap_or(u32::MAX)
}

/// The rule of a place, in Traefik's language.
pub(super) fn of(place: &Place) -> String {
    let host = host(&place.domain);
    match path(&place.path) {
        None => host,
        Some(path) => format!("{host} && {path}"),
    }
}

/// A text as a literal. There is no escape in one: neither [`Domain`] nor
/// [`Path`] has a backquote, and what is decoded of a path is written as code
/// points.
fn literal(text: &str) -> String {
    format!("`{text}`")
}

/// As in the Gateway API: a wildcard stands for one or more labels.
fn host(domain: &Domain) -> String {
    match domain.as_str().strip_prefix("*.") {
        None => format!("Host({})", literal(domain.as_str())),
        Some(rest) => {
            let rest = rest.replace('.', r"\.");
            // A host may end with the dot of the root; Traefik's Host allows it.
            let host = literal(&format!(r"^(?:[^.]+\.)+{rest}\.?$"));
            format!("HostRegexp({host})")
        }
    }
}

/// Whole segments: `/v2` is `/v2` and what begins with `/v2/`. None for all.
fn path(path: &Path) -> Option<String> {
    let text = path.as_str();
    if text == "/" {
        return None;
    }
    if text.contains('%') {
        let expression = literal(&format!("^{}(?:/|$)", decoded(text)));
        return Some(format!("PathRegexp({expression})"));
    }
    let (exact, below) = (literal(text), literal(&format!("{text}/")));
    Some(format!("(Path({exact}) || PathPrefix({below}))"))
}

/// An expression for a path with escapes. Traefik decodes what it compares, but
/// for RFC 3986's reserved characters and `%` when those are escaped in capital
/// letters.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut expression = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escape = rest.strip_prefix('%').and_then(|rest| rest.get(..2));
        let byte = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (byte, length) = match byte {
            Some(byte) => (byte, 3),
            None => (first as u8, 1),
        };
        if length == 3 && is_reserved(byte) {
            flush(&mut bytes, &mut expression);
            let _ = reserved(byte, &mut expression);
        } else {
            bytes.push(byte);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    flush(&mut bytes, &mut expression);
    expression
}

/// Whether Traefik keeps an escaped character as it is.
fn is_reserved(byte: u8) -> bool {
    b":/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// A reserved character that is escaped; Traefik decodes small letters.
fn reserved(byte: u8, expression: &mut String) -> std::fmt::Result {
    let escaped = format!("{byte:02X}");
    if escaped.bytes().all(|digit| digit.is_ascii_digit()) {
        write!(expression, "%{escaped}")
    } else {
        write!(expression, r"(?:%{escaped}|\x{{{escaped}}})")
    }
}

/// Writes what was decoded as code points, letters and slashes as they are. Go's
/// expressions take a byte that is no UTF-8 for U+FFFD.
fn flush(bytes: &mut Vec<u8>, expression: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii_alphanumeric() || c == '/' {
                expression.push(c);
            } else {
                // Writing to a String cannot fail.
                let _ = write!(expression, r"\x{{{:X}}}", u32::from(c));
            }
        }
        for _ in chunk.invalid() {
            expression.push_str(r"\x{FFFD}");
        }
    }
    bytes.clear();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(domain: &str, path: &str) -> Place {
        Place {
            domain: Domain::parse(domain).unwrap(),
            path: Path::parse(path).unwrap(),
        }
    }

    #[test]
    fn a_rule_is_a_host_and_whole_segments_of_a_path() {
        for (domain, path, rule) in [
            ("a.com", "/", "Host(`a.com`)"),
            (
                "a.com",
                "/v2",
                "Host(`a.com`) && (Path(`/v2`) || PathPrefix(`/v2/`))",
            ),
            ("*.b.com", "/", r"HostRegexp(`^(?:[^.]+\.)+b\.com\.?$`)"),
            (
                "a.com",
                "/a%20b%2c%60%C3%A9%FF%25",
                r"Host(`a.com`) && PathRegexp(`^/a\x{20}b(?:%2C|\x{2C})\x{60}\x{E9}\x{FFFD}%25(?:/|$)`)",
            ),
        ] {
            assert_eq!(of(&place(domain, path)), rule);
        }
    }

    #[test]
    fn the_closer_place_comes_first() {
        let order = [
            place("a.b.com", "/v2/x"),
            place("a.b.com", "/v2"),
            place("a.b.com", "/"),
            place("*.a.b.com", "/v2"),
            place("*.a.b.com", "/"),
            place("*.b.com", "/v2/very/long"),
            place("*.b.com", "/"),
        ];
        for pair in order.windows(2) {
            assert!(priority(&pair[0]) > priority(&pair[1]), "{pair:?}");
        }
        let longest = format!("*.{}", vec!["x".repeat(62); 4].join("."));
        assert_eq!(longest.len(), Domain::MAX_BYTES);
        let deepest = format!("/{}", "x".repeat(Path::MAX_BYTES - 1));
        assert!(priority(&place(&longest, &deepest)) < priority(&place("a", "/")));
        assert_eq!(priority(&place("a", &deepest)), HIGHEST_PRIORITY);
    }

    proptest! {
        /// Whatever is taken for a domain and a path.
        #[test]
        fn nothing_breaks_out_of_a_rule(
            domain in r"(\*\.)?[ -~]{1,12}",
            path in r"/([ -~]|%[0-9a-fA-F]{2}){0,12}",
        ) {
            let places = Domain::parse(&domain).ok().zip(Path::parse(&path).ok());
            if let Some((domain, path)) = places {
                let rule = of(&Place { domain, path });
                prop_assert!(rule.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                // Outside of literals there is nothing but Traefik's own words.
                let outside: String = rule.split('`').step_by(2).collect();
                let words = ["Host()", "HostRegexp()"];
                let paths = ["", " && (Path() || PathPrefix())", " && PathRegexp()"];
                let known = words
                    .iter()
                    .any(|host| paths.iter().any(|path| outside == format!("{host}{path}")));
                prop_assert!(known, "{}", rule);
            }
        }
    }
}
