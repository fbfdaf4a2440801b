//! What the registry keeps: domain types, validated when they are made.
//!
//! A [`Record`] is one thing in a store, under its [`Key`]. Stores treat every
//! kind alike; today there is one, the endpoint. Sessions, services and
//! replicas join as further variants.

pub mod address;
pub mod endpoint;
pub mod name;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError, Host};
pub use endpoint::{Endpoint, EndpointKey, EndpointRecord, Network};
pub use name::{Name, NameError};

/// Identifies a record in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "key", rename_all = "snake_case")]
pub enum Key {
    /// A connector of a tunnel at a node.
    Endpoint(EndpointKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(key) => write!(f, "endpoint {key}"),
        }
    }
}

/// One thing in a store. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "record", rename_all = "snake_case")]
pub enum Record {
    /// Where a connector is reached, and who maintains that.
    Endpoint(Arc<EndpointRecord>),
}

impl Record {
    /// The key under which the record is stored.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Endpoint(record) => Key::Endpoint(record.endpoint.key.clone()),
        }
    }
}
