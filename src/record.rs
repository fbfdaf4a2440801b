//! What the registry keeps: domain types, validated when they are made.
//!
//! A [`Record`] is one thing in a store, under its [`Key`]. Stores treat every
//! [`Kind`] alike.

pub mod address;
pub mod endpoint;
pub mod name;
pub mod replica;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError, Host};
pub use endpoint::{Endpoint, EndpointKey, EndpointRecord, Network};
pub use name::{Name, NameError};
pub use replica::ReplicaRecord;

use crate::discoverd::{InstanceKey, InstanceRecord, ServiceName, ServiceRecord};
use crate::session::{SessionKey, SessionRecord};

/// What there is to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Connectors of tunnels and where they are reached.
    Endpoint,
    /// The processes that maintain them.
    Replica,
    /// Backends of proxies and what they route.
    Session,
    /// Services of discoverd: their settings and meta data.
    Service,
    /// Their instances.
    Instance,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Endpoint,
        Self::Replica,
        Self::Session,
        Self::Service,
        Self::Instance,
    ];
}

/// Identifies a record in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "key", rename_all = "snake_case")]
pub enum Key {
    /// A connector of a tunnel at a node.
    Endpoint(EndpointKey),
    /// A replica, by its identity.
    Replica(Arc<str>),
    /// A proxy session, by the hash of its id.
    Session(SessionKey),
    /// A service of discoverd.
    Service(ServiceName),
    /// An instance of one.
    Instance(InstanceKey),
}

impl Key {
    /// Of which kind the record is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Replica(_) => Kind::Replica,
            Self::Session(_) => Kind::Session,
            Self::Service(_) => Kind::Service,
            Self::Instance(_) => Kind::Instance,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(key) => write!(f, "endpoint {key}"),
            Self::Replica(identity) => write!(f, "replica {identity}"),
            Self::Session(key) => write!(f, "session {key}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Instance(key) => write!(f, "instance {key}"),
        }
    }
}

/// One thing in a store. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "record", rename_all = "snake_case")]
pub enum Record {
    /// Where a connector is reached, and who maintains that.
    Endpoint(Arc<EndpointRecord>),
    /// Who maintains endpoints, and whether it still does.
    Replica(Arc<ReplicaRecord>),
    /// What a backend announces, and who keeps its connection.
    Session(Arc<SessionRecord>),
    /// A service's settings, leader and meta data.
    Service(Arc<ServiceRecord>),
    /// Where an instance of a service is reached, and who hears its heartbeats.
    Instance(Arc<InstanceRecord>),
}

impl Record {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Replica(_) => Kind::Replica,
            Self::Session(_) => Kind::Session,
            Self::Service(_) => Kind::Service,
            Self::Instance(_) => Kind::Instance,
        }
    }

    /// The key under which the record is stored.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Endpoint(record) => Key::Endpoint(record.endpoint.key.clone()),
            Self::Replica(record) => Key::Replica(Arc::clone(&record.identity)),
            Self::Session(record) => Key::Session(record.key),
            Self::Service(record) => Key::Service(record.name.clone()),
            Self::Instance(record) => Key::Instance(record.key()),
        }
    }
}
