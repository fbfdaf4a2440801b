//! What the API server checks: the schema of each field.

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::discoverd::meta;
use crate::discoverd::name::MAX_BYTES;
use crate::resources::decimal;

/// A name of a service that stays as it is.
pub(in crate::resources) fn service(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_BYTES,
        "x-kubernetes-validations": [
            {
                "rule": "self.matches('^[a-z0-9-]+$')",
                "message": "must have lower-case letters, digits and dashes only"
            },
            {
                "rule": "self == oldSelf",
                "message": "cannot be changed; delete the object and make another"
            }
        ]
    })
}

pub(super) fn leader_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["oldest", "manual"], "default": "oldest" })
}

/// The id of an instance.
pub(super) fn instance_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "pattern": "^[0-9a-f]{32}$" })
}

pub(super) fn meta(generator: &mut SchemaGenerator) -> Schema {
    let mut index = decimal::schema(generator);
    index.insert("description".into(), "Another one with each change.".into());
    json_schema!({
        "type": "object",
        "required": ["data", "index"],
        "properties": {
            "data": {
                "type": "string",
                "description": "Any JSON, as a text: so it stays what the client wrote, which the API server would not leave numbers beyond 64 bits and the order of keys.",
                "minLength": 1,
                "maxLength": meta::MAX_BYTES
            },
            "index": index
        }
    })
}
