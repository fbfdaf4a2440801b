//! What the API server checks: the schema of each field.
//!
//! Every string, list and map has a bound, without which the cost of the rules
//! could not be estimated and the API server would refuse the definition. Rules
//! rather than patterns where a person may be wrong: a rule has a message.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES};
use crate::record::Name;

/// The longest address: a DNS name of 253 bytes, the dot that may end it, a
/// colon and five digits.
pub(super) const MAX_ADDRESS: usize = 253 + 1 + 1 + 5;

/// An IPv6 address in brackets, or an IPv4 address or DNS name, and a port from
/// 1 to 65535.
const HOST_PORT: &str = r"^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z_][0-9A-Za-z_.-]*):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";

/// A [`Name`] that stays as it is.
pub(super) fn identity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": Name::MAX_BYTES,
        "x-kubernetes-validations": [
            {
                "rule": "self.matches('^[!-~]([ -~]*[!-~])?$')",
                "message": "must be printable ASCII without a space at either end"
            },
            {
                "rule": "self == oldSelf",
                "message": "identifies the endpoint and cannot be changed; delete the object and make another"
            }
        ]
    })
}

pub(super) fn network(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["tcp", "udp"] , "default": "tcp" })
}

/// An [`crate::record::Address`] as it is stored: complete.
pub(super) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ADDRESS,
        "x-kubernetes-validations": [
            {
                "rule": format!("self.matches('{HOST_PORT}')"),
                "message": "must be host:port, such as 10.42.0.100:80, [fd00::1]:80 or gost.example.com:80"
            },
            {
                "rule": "!self.startsWith('0.0.0.0:') && !self.startsWith('[::]:')",
                "message": "has an unspecified host, which nobody can dial; write the host's own address"
            }
        ]
    })
}

pub(super) fn attributes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_ATTRIBUTES,
        "additionalProperties": { "type": "string", "maxLength": MAX_ATTRIBUTE_VALUE },
        "x-kubernetes-validations": [{
            "rule": format!("self.all(key, size(key) >= 1 && size(key) <= {MAX_ATTRIBUTE_KEY})"),
            "message": format!("keys must have 1 to {MAX_ATTRIBUTE_KEY} characters")
        }]
    })
}

pub(super) fn kept(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "boolean", "default": false })
}
