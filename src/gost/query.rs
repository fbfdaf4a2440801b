//! The query of a Get: `?name=…`.

use std::borrow::Cow;

use crate::gost::denial::Denial;

/// The tunnel's name in a query, as it is written by HTML forms (WHATWG URL
/// §5.1): `+` and `%20` are spaces.
pub(super) fn tunnel(query: &str) -> Result<Cow<'_, str>, Denial> {
    let mut found = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key)? != "name" {
            continue;
        }
        if found.is_some() {
            return Err(Denial::Malformed(
                "`name` is given twice in the query; ask for one tunnel at a time".into(),
            ));
        }
        found = Some(decode(value)?);
    }
    match found {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Denial::Malformed(
            "`name` is missing or empty; ask with ?name=<tunnel>".into(),
        )),
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Denial> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (byte, after) = hex(rest).ok_or_else(bad_escape)?;
                rest = after;
                byte
            }
            other => other,
        });
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| bad_escape())
}

fn hex(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (&[high, low], rest) = text.split_first_chunk()?;
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    Some((byte, rest))
}

fn bad_escape() -> Denial {
    Denial::Malformed(
        "the query has a % that is not followed by two hexadecimal digits of UTF-8; write %25 for %"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_decoded() {
        for (query, name) in [
            ("name=a", "a"),
            ("name=a+b", "a b"),
            ("name=a%20b%2Bc", "a b+c"),
            ("name=%c3%A9", "é"),
            ("n%61me=a", "a"),
            ("x=1&name=a&y", "a"),
            ("name=a=b", "a=b"),
        ] {
            assert_eq!(tunnel(query).as_deref(), Ok(name), "{query}");
        }
    }

    #[test]
    fn exactly_one_name_is_asked_for() {
        for (query, says) in [
            ("", "missing"),
            ("name", "missing"),
            ("name=", "missing"),
            ("Name=a", "missing"),
            ("name=a&name=a", "twice"),
            ("name=&name=a", "twice"),
            ("name=%", "hexadecimal"),
            ("name=%4", "hexadecimal"),
            ("name=%zz", "hexadecimal"),
            ("name=%+1", "hexadecimal"),
            ("name=%ff", "UTF-8"),
            ("name=a&%=1", "hexadecimal"),
        ] {
            let error = tunnel(query).unwrap_err().to_string();
            assert!(error.contains(says), "{query}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(query in ".*") {
            let _ = tunnel(&query);
        }

        #[test]
        fn what_is_escaped_comes_back(name in "[ -~é]{1,50}") {
            let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let query = format!("name={escaped}");
            prop_assert_eq!(&*tunnel(&query).unwrap(), &*name);
        }
    }
}
