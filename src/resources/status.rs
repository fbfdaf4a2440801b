//! What the statuses of all kinds have in common: their schema.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The condition that sums all others up.
pub const READY: &str = "Ready";
/// The most conditions in a status.
pub const MAX_CONDITIONS: usize = 8;

/// RFC 3339 with nanoseconds and an offset is 35 bytes long.
const MAX_TIME: usize = 64;

/// `metadata.generation`, as a status is about it.
pub fn generation(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// `[]metav1.Condition` with the bounds and patterns of its Go type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "What is said, in CamelCase.",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                },
                "status": {
                    "type": "string",
                    "description": "Whether it is so: True, False or Unknown.",
                    "enum": ["True", "False", "Unknown"]
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that the condition is about."
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "maxLength": MAX_TIME,
                    "description": "When the status last changed."
                },
                "reason": {
                    "type": "string",
                    "description": "Why, as a word in CamelCase.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": {
                    "type": "string",
                    "description": "Why, for people.",
                    "maxLength": 32768
                }
            }
        }
    })
}
