//! `DiscoveryInstance`: an instance of a service of discoverd, as a Kubernetes
//! object.
//!
//! [`convert`] turns it into a [`crate::discoverd::InstanceRecord`] and back. Who
//! hears its heartbeats is in annotations, as the lease of
//! [`crate::resources::lease`]. It has no owner. The service's object as its owner
//! would be right for one life of the service only: the garbage collector, which
//! decides by what it read earlier, could delete an instance that has meanwhile
//! registered with the service's next life. The registries remove what is left of
//! a former one.

#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type are not duplicates"
)]

pub mod convert;
mod schema;
#[cfg(test)]
mod tests;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use convert::{Malformed, object_name};

use crate::resources::decimal;
use crate::resources::discovery_service::schema as service;

/// The label with the name of the service's object.
pub const SERVICE_LABEL: &str = "tunnelregistry.io/service";

/// Where one instance of a service is reached.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[kube(
    group = "tunnelregistry.io",
    version = "v1alpha1",
    kind = "DiscoveryInstance",
    plural = "discoveryinstances",
    shortname = "dinst",
    category = "tunnels",
    namespaced,
    derive = "PartialEq",
    doc = "DiscoveryInstance says where one instance of a DiscoveryService is reached. Registries make one for each that a client registers, and remove it when they hear no heartbeats of it any more; one made by hand goes at once.",
    selectable = ".spec.service",
    selectable = ".spec.id",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.service",
        description = "The service"
    ),
    printcolumn(
        name = "Addr",
        type_ = "string",
        json_path = ".spec.addr",
        description = "Where it is reached"
    ),
    printcolumn(
        name = "Proto",
        type_ = "string",
        json_path = ".spec.proto",
        description = "How it is reached"
    ),
    printcolumn(
        name = "Index",
        type_ = "string",
        json_path = ".spec.index",
        description = "The order in which instances first registered"
    ),
    printcolumn(
        name = "Holder",
        type_ = "string",
        json_path = r".metadata.annotations.tunnelregistry\.io/holder-identity",
        description = "The replica that hears its heartbeats; none once it was released"
    ),
    printcolumn(
        name = "Renewed",
        type_ = "date",
        json_path = r".metadata.annotations.tunnelregistry\.io/renew-time",
        description = "When its lease was last written; heartbeats write nothing"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago it was made"
    ),
    printcolumn(
        name = "Id",
        type_ = "string",
        json_path = ".spec.id",
        description = "Its id",
        priority = 1
    ),
    printcolumn(
        name = "Attributes",
        type_ = "string",
        json_path = ".spec.meta",
        description = "Its attributes",
        priority = 1
    )
)]
pub struct DiscoveryInstanceSpec {
    /// The name of its service. Cannot be changed, nor can the id, the address and
    /// the protocol.
    #[schemars(schema_with = "service::service")]
    pub service: String,
    /// Its id: the MD5 of proto-addr.
    #[schemars(schema_with = "schema::id")]
    pub id: String,
    /// Where it is reached: host:port, as the client gave it.
    #[schemars(schema_with = "schema::addr")]
    pub addr: String,
    /// How: lower-case letters and digits, such as tcp, udp or http.
    #[schemars(schema_with = "schema::proto")]
    pub proto: String,
    /// Its attributes: at most 16 KiB of text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::meta")]
    pub meta: Vec<Attribute>,
    /// The order in which instances were first registered.
    #[schemars(schema_with = "decimal::schema")]
    pub index: String,
    /// Of which life of the service it is, as that one's born.
    #[schemars(schema_with = "decimal::schema")]
    pub born: String,
}

/// An attribute of an instance. They are a list, because a merge patch replaces a
/// list as a whole and would leave those in a map that it does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}
