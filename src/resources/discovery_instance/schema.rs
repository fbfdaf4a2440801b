//! What the API server checks: the schema of each field.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::discoverd::instance::{MAX_ADDR_BYTES, MAX_META_BYTES, MAX_PROTO_BYTES};

/// The most attributes: each but the empty one and the 128 of one byte has a name
/// of two bytes at least.
const MAX_ATTRIBUTES: usize = MAX_META_BYTES / 2 + 129;

/// A field that tells which instance it is.
fn fixed(max: usize, pattern: &str, message: &str) -> Schema {
    let stays: Value = json!({
        "rule": "self == oldSelf",
        "message": "cannot be changed; an instance is another one with another id, address or protocol"
    });
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": max,
        "x-kubernetes-validations": [
            { "rule": format!("self.matches('{pattern}')"), "message": message },
            stays
        ]
    })
}

pub(super) fn id(_: &mut SchemaGenerator) -> Schema {
    fixed(32, "^[0-9a-f]{32}$", "must be 32 hexadecimal digits")
}

pub(super) fn addr(_: &mut SchemaGenerator) -> Schema {
    fixed(
        MAX_ADDR_BYTES,
        "^[!-~]*:[0-9]+$",
        "must be host:port, such as 10.42.0.100:80 or [fd00::1]:80",
    )
}

pub(super) fn proto(_: &mut SchemaGenerator) -> Schema {
    fixed(
        MAX_PROTO_BYTES,
        "^[a-z0-9]+$",
        "must have lower-case letters and digits only, such as tcp or http",
    )
}

pub(super) fn meta(_: &mut SchemaGenerator) -> Schema {
    let text = |description: &str| {
        json!({
            "type": "string",
            "description": description,
            "maxLength": MAX_META_BYTES
        })
    };
    json_schema!({
        "type": "array",
        "maxItems": MAX_ATTRIBUTES,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name", "value"],
            "properties": {
                "name": text("Its name."),
                "value": text("Its value.")
            }
        }
    })
}
