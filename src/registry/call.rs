//! Who calls, and what a call may come to.

use std::net::IpAddr;

/// One connection to the registry; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Who closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The other side: it ended, or was ended.
    Peer,
    /// The registry itself: idle, out of bounds, shutting down. Says nothing
    /// about the other side.
    Registry,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The connection that carries the call.
    pub connection: ConnectionId,
    /// The peer's address, IPv4-mapped ones unmapped.
    pub peer: IpAddr,
    /// The host that the caller is on: the peer's address, or the pod's own
    /// when the peer is on loopback in a pod.
    pub host: IpAddr,
    /// Whether the connection lasts as long as the caller does (gRPC), so that
    /// its end tells something; over HTTP connections come and go.
    pub lasting: bool,
}

impl Caller {
    /// The caller behind a connection from `peer`, where this process runs in a
    /// pod with `pod_ips` (or in none).
    #[must_use]
    pub fn new(connection: ConnectionId, peer: IpAddr, pod_ips: &[IpAddr]) -> Self {
        let peer = peer.to_canonical();
        let own = pod_ips.first().filter(|_| peer.is_loopback());
        Self {
            connection,
            peer,
            host: own.copied().unwrap_or(peer),
            lasting: false,
        }
    }
}

/// Whether a write has reached the store when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The store has it.
    Stored,
    /// It is kept in memory and written as soon as the store takes it.
    Pending,
}

/// Why a call was refused. Nothing that was stored before is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tunnel has as many endpoints as it may have.
    #[error(
        "the tunnel already has {0} endpoints; raise --max-endpoints-per-tunnel or end connectors"
    )]
    TunnelFull(usize),
    /// The node has as many endpoints as it may have.
    #[error(
        "the node already has {0} endpoints; raise --max-endpoints-per-node or spread the tunnels"
    )]
    NodeFull(usize),
    /// The registry has as many endpoints as it may have.
    #[error("the registry already has {0} endpoints; raise --max-endpoints")]
    Full(usize),
    /// The store takes no writes and as many as may wait do.
    #[error("{0} writes already wait for the store; mend the store, or raise --max-queue")]
    QueueFull(usize),
    /// The store has not been read yet.
    #[error("the store has not been read yet; try again soon")]
    NotReady,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Endpoints in all.
    pub endpoints: usize,
    /// Endpoints of one tunnel.
    pub per_tunnel: usize,
    /// Endpoints of one node.
    pub per_node: usize,
    /// Writes that wait for the store.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            endpoints: 500_000,
            per_tunnel: 1_024,
            per_node: 65_536,
            queue: 100_000,
        }
    }
}
