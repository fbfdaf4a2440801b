//! `TunnelEndpoint`: a registration as a Kubernetes object.
//!
//! [`convert`] turns it into an [`crate::record::EndpointRecord`] and back;
//! [`name`] names it. The lease is in annotations, so that renewing it changes
//! neither the spec nor `metadata.generation`.

#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type are not duplicates"
)]

pub mod convert;
pub mod name;
mod patch;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use convert::{Malformed, Oversize};

pub use crate::resources::status::{MAX_CONDITIONS, READY};

use crate::resources::status;

pub use crate::resources::lease::{HOLDER, LEASE_DURATION, RELEASED, RENEW_INTERVAL, RENEW_TIME};

/// The uid of the pod that registered it, where that is known.
pub const POD_UID: &str = "tunnelregistry.io/pod-uid";
/// The IP address of the host that registered it, where that is known.
pub const ORIGIN: &str = "tunnelregistry.io/origin";
/// The label with a hash of the tunnel's name ([`name::tunnel_hash`]): the name
/// itself may have what a label's value must not.
pub const TUNNEL_LABEL: &str = "tunnelregistry.io/tunnel-hash";

/// The most attributes of an endpoint.
pub const MAX_ATTRIBUTES: usize = 16;
/// The longest key of an attribute, in characters: that of a label's name.
pub const MAX_ATTRIBUTE_KEY: usize = 63;
/// The longest value of an attribute, in characters: that of a DNS name.
pub const MAX_ATTRIBUTE_VALUE: usize = 253;
/// Where one connection of a tunnel can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "tunnelregistry.io",
    version = "v1alpha1",
    kind = "TunnelEndpoint",
    plural = "tunnelendpoints",
    shortname = "tep",
    category = "tunnels",
    namespaced,
    status = "TunnelEndpointStatus",
    derive = "PartialEq",
    doc = "TunnelEndpoint says where one connection (connector) of a tunnel can be reached. Registries make and renew it for the servers that register with them, and remove it when nobody maintains it any more. One with spec.static is kept by hand instead.",
    selectable = ".spec.tunnel",
    selectable = ".spec.node",
    printcolumn(
        name = "Tunnel",
        type_ = "string",
        json_path = ".spec.tunnel",
        description = "The tunnel"
    ),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".spec.node",
        description = "The server that holds the connector"
    ),
    printcolumn(
        name = "Network",
        type_ = "string",
        json_path = ".spec.network",
        description = "What the connector carries"
    ),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".spec.address",
        description = "Where other servers dial it"
    ),
    printcolumn(
        name = "Holder",
        type_ = "string",
        json_path = r".metadata.annotations.tunnelregistry\.io/holder-identity",
        description = "The replica that hears its renewals; none once it was released"
    ),
    printcolumn(
        name = "Renewed",
        type_ = "date",
        json_path = r".metadata.annotations.tunnelregistry\.io/renew-time",
        description = "When its lease was last written"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether it is maintained, or kept by hand"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago it was made"
    ),
    printcolumn(
        name = "Connector",
        type_ = "string",
        json_path = ".spec.connector",
        description = "The connector",
        priority = 1
    ),
    printcolumn(
        name = "Lease",
        type_ = "string",
        json_path = r".metadata.annotations.tunnelregistry\.io/lease-duration-seconds",
        description = "How long its lease is valid, in seconds",
        priority = 1
    ),
    printcolumn(
        name = "Origin",
        type_ = "string",
        json_path = r".metadata.annotations.tunnelregistry\.io/origin",
        description = "The host that registered it",
        priority = 1
    ),
    printcolumn(
        name = "Static",
        type_ = "boolean",
        json_path = ".spec.static",
        description = "Whether it is kept by hand",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready, or not",
        priority = 1
    )
)]
pub struct TunnelEndpointSpec {
    /// The tunnel: for gost its UUID, in lower case; else any printable ASCII.
    /// Together with node and connector it identifies the endpoint, and cannot
    /// be changed.
    #[schemars(schema_with = "schema::identity")]
    pub tunnel: String,
    /// The connector: one client connection of the tunnel. Cannot be changed.
    #[schemars(schema_with = "schema::identity")]
    pub connector: String,
    /// The server that holds the connector. gost makes a new one each time it
    /// starts. Cannot be changed.
    #[schemars(schema_with = "schema::identity")]
    pub node: String,
    /// What the connector carries: tcp or udp.
    #[serde(default = "tcp")]
    #[schemars(schema_with = "schema::network")]
    pub network: String,
    /// Where other servers dial the connector, as host:port. The host is an IP
    /// address (IPv6 in brackets) or a DNS name.
    #[schemars(schema_with = "schema::address")]
    pub address: String,
    /// Free-form attributes: at most 16, with keys of at most 63 characters and
    /// values of at most 253.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::attributes")]
    pub attributes: BTreeMap<String, String>,
    /// Whether the endpoint is kept by hand or from Git: it needs no renewals
    /// and is never removed by the controller.
    #[serde(default, rename = "static", skip_serializing_if = "is_false")]
    #[schemars(schema_with = "schema::kept")]
    pub is_static: bool,
}

/// What is known about an endpoint. Written seldom: it may lag behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelEndpointStatus {
    /// The metadata.generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "status::generation")]
    pub observed_generation: Option<i64>,
    /// Conditions, one of a type. Ready sums them up: it is True while the
    /// endpoint is maintained, or kept by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "status::conditions")]
    pub conditions: Vec<Condition>,
}

/// What an object without `spec.network` carries.
fn tcp() -> String {
    "tcp".into()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
