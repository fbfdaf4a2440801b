//! `DiscoveryService`: a service of discoverd, as a Kubernetes object.
//!
//! [`convert`] turns it into a [`crate::discoverd::ServiceRecord`] and back. One
//! that is made by hand needs `spec.service` only, and is a service like others.

#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type are not duplicates"
)]

pub mod convert;
pub(super) mod schema;
#[cfg(test)]
mod tests;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use convert::{Malformed, object_name};

use crate::discoverd::LeaderType;
use crate::resources::decimal;

/// What all instances of a service share.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "tunnelregistry.io",
    version = "v1alpha1",
    kind = "DiscoveryService",
    plural = "discoveryservices",
    shortname = "dsvc",
    category = "tunnels",
    namespaced,
    derive = "PartialEq",
    doc = "DiscoveryService is a service whose instances find each other and know who leads. Registries make one for each that a client makes with PUT /services/NAME. One made by hand needs spec.service only. Deleted, it ends for everybody, and its instances are removed.",
    selectable = ".spec.service",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.service",
        description = "The service"
    ),
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.leaderType",
        description = "Who leads: the oldest instance, or the one that was named"
    ),
    printcolumn(
        name = "Leader",
        type_ = "string",
        json_path = ".spec.leader",
        description = "Who was named as its leader, there or not"
    ),
    printcolumn(
        name = "Meta",
        type_ = "string",
        json_path = ".spec.meta.index",
        description = "The index of its meta data; none without any"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago it was made"
    ),
    printcolumn(
        name = "Counter",
        type_ = "string",
        json_path = ".spec.counter",
        description = "The last index that was given out",
        priority = 1
    ),
    printcolumn(
        name = "Data",
        type_ = "string",
        json_path = ".spec.meta.data",
        description = "Its meta data",
        priority = 1
    )
)]
pub struct DiscoveryServiceSpec {
    /// The name of the service: lower-case letters, digits and dashes. Cannot be
    /// changed.
    #[schemars(schema_with = "schema::service")]
    pub service: String,
    /// Who leads it: oldest, the instance that registered first of those that are
    /// there; or manual, the one that was named, while it is there.
    #[serde(default)]
    #[schemars(schema_with = "schema::leader_type")]
    pub leader_type: LeaderType,
    /// The id of the instance that was named as its leader, there or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::instance_id")]
    pub leader: Option<String>,
    /// Its meta data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::meta")]
    pub meta: Option<ServiceMeta>,
    /// Where its counter began. The registries write it; leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "decimal::schema")]
    pub born: Option<String>,
    /// The last index that was given out, to an instance or to meta data. The
    /// registries write it; leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "decimal::schema")]
    pub counter: Option<String>,
}

/// The meta data of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMeta {
    /// A JSON text.
    pub data: String,
    /// Another one with each change.
    pub index: String,
}
