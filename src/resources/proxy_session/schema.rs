//! What the API server checks: the schema of each field.
//!
//! Patterns rather than rules for what may be there 4,096 times: rules have a
//! cost, which the API server bounds. What they let through is checked again
//! when the object is read.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::session::header::{HeaderName, HeaderValue};
use crate::session::host::HostName;
use crate::session::options::{HEAVIEST, LARGEST_BODY};
use crate::session::place::{Domain, Path};
use crate::session::record::{MAX_HEADERS, MAX_ROUTES};
use crate::session::registration::ServiceName;
use crate::session::route::BackendUrl;

/// The length of a hash in base 32.
const HASH: usize = 52;
/// The longest text of a duration: `86400000ms`, and room for `23h59m59s999ms`.
const MAX_DURATION: usize = 32;

/// A label of a DNS name, and a name of them.
const DNS_NAME: &str =
    r"[0-9A-Za-z]([-0-9A-Za-z]*[0-9A-Za-z])?(\.[0-9A-Za-z]([-0-9A-Za-z]*[0-9A-Za-z])?)*";

/// Who registered stays who registered.
pub(super) fn identity(schema: &mut Schema) {
    schema.insert(
        "x-kubernetes-validations".into(),
        json!([
            {
                "rule": "has(self.session) == has(oldSelf.session) && (!has(self.session) || self.session == oldSelf.session)",
                "message": "spec.session cannot be changed; delete the object and make another"
            },
            {
                "rule": "!has(oldSelf.session) || (self.service == oldSelf.service && self.hostname == oldSelf.hostname && self.servicePort == oldSelf.servicePort)",
                "message": "a backend registered with this service, hostname and servicePort; they cannot be changed"
            }
        ]),
    );
}

pub(super) fn session(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": HASH,
        "maxLength": HASH,
        "pattern": "^[0-9a-v]+$"
    })
}

pub(super) fn service(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": ServiceName::MAX_BYTES,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[!-{}~]([ -{}~]*[!-{}~])?$')",
            "message": "must be printable ASCII without |, and without a space at either end"
        }]
    })
}

pub(super) fn hostname(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": HostName::MAX_BYTES,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[0-9A-Za-z_.:-]+$')",
            "message": "must be a DNS name or an IP address, such as api-v2, 10.42.0.100 or fd00::1"
        }]
    })
}

pub(super) fn service_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 })
}

pub(super) fn maintenance_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 0, "maximum": 65535 })
}

pub(super) fn routes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ROUTES,
        "items": {
            "type": "object",
            "required": ["domains", "path", "backend"],
            "properties": {
                "domains": {
                    "type": "array",
                    "description": "The domains: DNS names such as api.example.com, or *.example.com for all below.",
                    "minItems": 1,
                    "maxItems": MAX_ROUTES,
                    "items": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": Domain::MAX_BYTES,
                        "pattern": format!(r"^(\*\.)?{DNS_NAME}$")
                    }
                },
                "path": {
                    "type": "string",
                    "description": "The front of the paths: /, or /a/b and what is below it.",
                    "minLength": 1,
                    "maxLength": Path::MAX_BYTES,
                    "pattern": "^/"
                },
                "backend": {
                    "type": "string",
                    "description": "Who serves it: http, https, ws or wss://, a host, perhaps a port and a path.",
                    "minLength": 1,
                    "maxLength": BackendUrl::MAX_BYTES,
                    "pattern": r"^([Hh][Tt][Tt][Pp]|[Ww][Ss])[Ss]?://[^/?#@]+(/[^?#@]*)?$"
                }
            }
        }
    })
}

pub(super) fn headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_HEADERS,
        "items": {
            "type": "object",
            "required": ["name", "value"],
            "properties": {
                "name": {
                    "type": "string",
                    "description": "The name of the header.",
                    "minLength": 1,
                    "maxLength": HeaderName::MAX_BYTES,
                    "pattern": r"^[0-9A-Za-z!#$%&'*+.^_`~-]+$"
                },
                "value": {
                    "type": "string",
                    "description": "Its value: printable ASCII.",
                    "minLength": 1,
                    "maxLength": HeaderValue::MAX_BYTES,
                    "pattern": "^[ -~]+$"
                }
            }
        }
    })
}

pub(super) fn options(_: &mut SchemaGenerator) -> Schema {
    let duration = |description: &str| {
        json!({
            "type": "string",
            "description": description,
            "maxLength": MAX_DURATION,
            "pattern": "^([0-9]+(ms|s|m|h))+$"
        })
    };
    let truth = |description: &str| json!({ "type": "boolean", "description": description });
    json_schema!({
        "type": "object",
        "properties": {
            "timeout": duration("How long a request may take, such as 60s; 0s is without end."),
            "healthCheckInterval": duration("How often the backend's health is checked: 100ms to 24h."),
            "healthCheckTimeout": duration("How long a check may take: 1ms to 24h."),
            "healthCheckPath": {
                "type": "string",
                "description": "What a check asks for.",
                "maxLength": Path::MAX_BYTES,
                "pattern": "^/"
            },
            "maxBodySize": {
                "type": "integer",
                "format": "int64",
                "description": "The most bytes of a request's body; 0 is without bound.",
                "minimum": 0,
                "maximum": LARGEST_BODY
            },
            "websocket": truth("Whether websockets are let through."),
            "compression": truth("Whether responses are compressed."),
            "http2": truth("Whether HTTP/2 is spoken."),
            "http3": truth("Whether HTTP/3 is spoken."),
            "weight": {
                "type": "integer",
                "format": "int32",
                "description": "Its share of the requests among the sessions of its service that serve the same domain and path, in relation to theirs; 1 unless it says otherwise, none with 0.",
                "minimum": 0,
                "maximum": HEAVIEST
            }
        }
    })
}

pub(super) fn maintenance(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "boolean", "default": false })
}
