//! The registry: what every way in calls, whatever the store is.

use std::net::IpAddr;
use std::sync::Arc;

use crate::record::{Endpoint, EndpointKey, EndpointRecord, Name};

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

/// The registry.
#[derive(Debug)]
pub struct Registry {}

impl Registry {
    /// Registers an endpoint, or renews it when it is known as it is. Waits at
    /// most the register bound for the store; the write goes on regardless.
    ///
    /// # Errors
    /// When a limit is reached.
    pub async fn register(&self, _caller: &Caller, _endpoint: Endpoint) -> Result<Kept, Refusal> {
        Ok(Kept::Stored)
    }

    /// Notes that an endpoint lives. Answers from memory, whatever the store does.
    pub fn renew(&self, _caller: &Caller, _key: &EndpointKey) {}

    /// Withdraws an endpoint: it is not offered from now on. Waits like
    /// [`Registry::register`] for the store.
    pub async fn deregister(&self, _caller: &Caller, _key: &EndpointKey) -> Kept {
        Kept::Stored
    }

    /// Who holds a tunnel, in the order of routing. Does no I/O.
    ///
    /// # Errors
    /// [`Refusal::NotReady`] before the store was read: an empty answer would be a lie.
    pub fn get(
        &self,
        _caller: &Caller,
        _tunnel: &Name,
    ) -> Result<Vec<Arc<EndpointRecord>>, Refusal> {
        Ok(Vec::new())
    }

    /// A connection has ended.
    pub fn closed(&self, _connection: ConnectionId, _by: ClosedBy) {}
}
