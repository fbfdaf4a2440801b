//! `ProxySession`: what a backend announces to a proxy, as a Kubernetes object.
//!
//! [`convert`] turns it into a [`crate::session::SessionRecord`] and back. Who
//! keeps its connection is in annotations, as the lease of
//! [`crate::resources::lease`]; the spec is what is announced. An object without
//! `spec.session` was made by hand: a static service, without a connection.

#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type are not duplicates"
)]

pub mod convert;
mod schema;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use convert::{Malformed, Oversize};

use crate::resources::status;

/// What of the session's id may be shown: `hostname-port-unixtime`.
pub const SESSION: &str = "tunnelregistry.io/session";
/// When the session was opened: RFC 3339, UTC, with microseconds. Of two
/// services that want one domain and path the earlier has it.
pub const REGISTERED: &str = "tunnelregistry.io/registered-at";
/// The sessions that this one took the place of, by the hashes of their ids,
/// separated by commas; at most [`MAX_SUPERSEDES`].
pub const SUPERSEDES: &str = "tunnelregistry.io/supersedes";
/// The replica that last wrote the object.
pub const WRITTEN_BY: &str = "tunnelregistry.io/written-by";
/// The most sessions that one takes the place of. Each of a client's sessions
/// supersedes the one before, so it is one; more were opened at the same time.
pub const MAX_SUPERSEDES: usize = 64;

/// What a backend announces to a proxy.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "tunnelregistry.io",
    version = "v1alpha1",
    kind = "ProxySession",
    plural = "proxysessions",
    shortname = "psn",
    category = "tunnels",
    namespaced,
    status = "ProxySessionStatus",
    derive = "PartialEq",
    doc = "ProxySession says which domains and paths a backend serves, and how. Registries make one for each backend that registers with them, and remove it when its connection has been lost for a minute. One without spec.session is made by hand: a static service, which stays until it is deleted.",
    selectable = ".spec.service",
    selectable = ".spec.hostname",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.service",
        description = "The service"
    ),
    printcolumn(
        name = "Hostname",
        type_ = "string",
        json_path = ".spec.hostname",
        description = "The host that the backend runs on"
    ),
    printcolumn(
        name = "Domains",
        type_ = "string",
        json_path = ".spec.routes[0].domains",
        description = "The domains of its first route"
    ),
    printcolumn(
        name = "Path",
        type_ = "string",
        json_path = ".spec.routes[0].path",
        description = "The path of its first route"
    ),
    printcolumn(
        name = "Backend",
        type_ = "string",
        json_path = ".spec.routes[0].backend",
        description = "Who serves its first route"
    ),
    printcolumn(
        name = "Maintenance",
        type_ = "boolean",
        json_path = ".spec.maintenance",
        description = "Whether its routes answer 503"
    ),
    printcolumn(
        name = "Holder",
        type_ = "string",
        json_path = r".metadata.annotations.tunnelregistry\.io/holder-identity",
        description = "The replica that has its connection; none once that was lost"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether its routes are served"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago it was made"
    ),
    printcolumn(
        name = "Port",
        type_ = "integer",
        json_path = ".spec.servicePort",
        description = "The port that the backend serves at",
        priority = 1
    ),
    printcolumn(
        name = "Session",
        type_ = "string",
        json_path = r".metadata.annotations.tunnelregistry\.io/session",
        description = "What of the session's id may be shown; none for one made by hand",
        priority = 1
    ),
    printcolumn(
        name = "Renewed",
        type_ = "date",
        json_path = r".metadata.annotations.tunnelregistry\.io/renew-time",
        description = "When its lease was last written",
        priority = 1
    ),
    printcolumn(
        name = "Weight",
        type_ = "integer",
        json_path = ".spec.options.weight",
        description = "Its share among the sessions of its service; 1 unless it says otherwise",
        priority = 1
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="RoutesAccepted")].status"#,
        description = "Whether a gateway has taken its routes",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready, or not",
        priority = 1
    ),
    printcolumn(
        name = "Routes",
        type_ = "string",
        json_path = ".spec.routes",
        description = "All its routes",
        priority = 1
    )
)]
#[schemars(transform = schema::identity)]
pub struct ProxySessionSpec {
    /// The hash of the session's id, of a backend that registered; absent for
    /// one made by hand. Cannot be changed, nor can who registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::session")]
    pub session: Option<String>,
    /// The service. Its sessions share the requests for the domains and paths
    /// that several of them serve; no other service can have these.
    #[schemars(schema_with = "schema::service")]
    pub service: String,
    /// The host that the backend runs on: a DNS name or an IP address.
    #[schemars(schema_with = "schema::hostname")]
    pub hostname: String,
    /// The port that the backend serves at.
    #[schemars(schema_with = "schema::service_port")]
    pub service_port: u16,
    /// The port of hostname with the page that is shown during maintenance; 0
    /// or absent for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "schema::maintenance_port")]
    pub maintenance_port: u16,
    /// What it serves: at most 64 domains with a path each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::routes")]
    pub routes: Vec<SessionRoute>,
    /// What is added to its responses: at most 16 headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::headers")]
    pub headers: Vec<SessionHeader>,
    /// What it asks the proxy for.
    #[serde(default, skip_serializing_if = "SessionOptions::is_empty")]
    #[schemars(schema_with = "schema::options")]
    pub options: SessionOptions,
    /// Whether all its routes answer 503, with the page of the maintenance port.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(schema_with = "schema::maintenance")]
    pub maintenance: bool,
}

/// Domains and a path that a backend serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRoute {
    /// DNS names, or `*.` and one.
    pub domains: Vec<String>,
    /// The front of the paths.
    pub path: String,
    /// The URL of the backend.
    pub backend: String,
}

/// A header that is added to responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a session asks a proxy for; none where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionOptions {
    /// How long a request may take, such as `60s`; `0s` is without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How often the backend's health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_interval: Option<String>,
    /// How long a check may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_timeout: Option<String>,
    /// What a check asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_path: Option<String>,
    /// The most bytes of a request's body; 0 is without bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_size: Option<u64>,
    /// Whether websockets are let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<bool>,
    /// Whether responses are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<bool>,
    /// Whether HTTP/2 is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<bool>,
    /// Whether HTTP/3 is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http3: Option<bool>,
    /// Its share of the requests among the sessions of its service, in relation
    /// to theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

impl SessionOptions {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known about a session. Written seldom: it may lag behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxySessionStatus {
    /// The metadata.generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "status::generation")]
    pub observed_generation: Option<i64>,
    /// Conditions, one of a type. Ready sums them up: it is True while the
    /// session is kept and its routes are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "status::conditions")]
    pub conditions: Vec<Condition>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(port: &u16) -> bool {
    *port == 0
}
