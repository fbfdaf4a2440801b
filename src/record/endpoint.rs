//! Endpoints: where a connector of a tunnel is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lease::Lease;
use crate::record::{Address, Name};

/// What identifies an endpoint. gost calls the three `name`, `node` and `id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The tunnel.
    pub tunnel: Name,
    /// The tunnel handler of the gost server that holds the connector; a new
    /// one each time the server starts.
    pub node: Name,
    /// The connector: one client connection of the tunnel.
    pub connector: Name,
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tunnel, self.node, self.connector)
    }
}

/// The network that a connector carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Network {
    /// `tcp` or `udp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A network that is neither `tcp` nor `udp`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"tcp\" or \"udp\"")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(NetworkError),
        }
    }
}

/// A connector of a tunnel and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its identity.
    #[serde(flatten)]
    pub key: EndpointKey,
    /// What it carries.
    pub network: Network,
    /// Where other servers dial it. Never empty, never host-less.
    pub address: Address,
    /// The host that registered it, as the registry saw it: the peer's IP, or
    /// the pod's own for a peer on loopback in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<IpAddr>,
    /// The uid of the pod that registered it, where that is known for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Uuid>,
    /// Free-form attributes. gost has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// An endpoint as it is stored, with its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Who maintains it.
    pub lease: Lease,
    /// Whether it is kept by hand: served, and never written or collected by us.
    #[serde(default, rename = "static", skip_serializing_if = "std::ops::Not::not")]
    pub is_static: bool,
}
