//! Whole numbers of 64 bits as texts: JSON's numbers are exact to 2⁵³ only, those
//! of the API server to 2⁶³.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The most digits.
const MAX_DIGITS: usize = 20;

/// What a field with a number must be.
pub const EXPECTED: &str = "a whole number from 0 to 18446744073709551615, as text";

/// The schema of a field with a number.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_DIGITS,
        "pattern": "^(0|[1-9][0-9]*)$"
    })
}

/// Reads a number.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_text() {
        for number in [0, 1, 1 << 53, u64::MAX] {
            let text = number.to_string();
            assert!(text.len() <= MAX_DIGITS);
            assert_eq!(parse(&text), Some(number));
        }
        for text in ["", "-1", "+1", "1.0", "1e3", "x", "18446744073709551616"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
