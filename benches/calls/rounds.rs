//! One round: a cell against a server.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::cells::{Cell, Op};
use super::nothing;
use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::load;
use crate::common::process::{Cpu, Process};
use crate::common::round::round;
use crate::common::servers::{Peer, Registry, Store};
use crate::common::wire::{Call, Endpoint, Protocol, Request};
use crate::common::{Error, Result};

pub use crate::common::round::Figures;
pub use crate::common::wire::CONNECTORS;

/// Registered throughout.
pub const TUNNELS: usize = 1_000;
/// The gost servers that hold them.
const NODES: usize = 10;
/// The gost servers of the connectors that are registered anew: enough that
/// none gets near a limit in a round.
const FRESH_NODES: usize = 100;
/// Calls at a time when a round is made ready.
const PIPELINE: usize = 64;

/// Under which heading a server's figures go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The registry.
    Ours,
    /// The do-nothing server.
    Nothing,
    /// Today's peer.
    Peer,
}

/// A server under measurement.
pub struct Subject {
    /// Under which heading its figures go.
    pub column: Column,
    at: SocketAddr,
    server: Server,
    /// Open throughout, as a gost's is: a node whose last connection closes
    /// would be suspect. None where nothing is remembered.
    keeper: Option<Client>,
    fresh: RefCell<Endpoints>,
}

enum Server {
    Registry(Registry),
    Nothing(Protocol, Process),
    Peer(Peer),
}

impl Subject {
    /// The registry with the memory store.
    pub async fn registry(binary: &Path) -> Result<Self> {
        let server = Registry::start(binary, &Store::Memory, &[]).await?;
        Self::new(Column::Ours, server.at, Server::Registry(server)).await
    }

    /// The do-nothing server of a protocol.
    pub async fn nothing(protocol: Protocol) -> Result<Self> {
        let (process, at) = nothing::start(protocol).await?;
        Self::new(Column::Nothing, at, Server::Nothing(protocol, process)).await
    }

    /// Today's peer.
    pub async fn peer(binary: &Path) -> Result<Self> {
        let server = Peer::start(binary).await?;
        Self::new(Column::Peer, server.at, Server::Peer(server)).await
    }

    async fn new(column: Column, at: SocketAddr, server: Server) -> Result<Self> {
        let keeper = match server {
            Server::Nothing(..) => None,
            _ => Some(Client::connect(Protocol::Grpc, at, PIPELINE, 1).await?),
        };
        Ok(Self {
            column,
            at,
            server,
            keeper,
            fresh: RefCell::new(Endpoints::new(2, FRESH_NODES)),
        })
    }

    /// Whether it can be called over a protocol.
    pub fn speaks(&self, protocol: Protocol) -> bool {
        match &self.server {
            Server::Registry(_) => true,
            Server::Nothing(own, _) => *own == protocol,
            Server::Peer(_) => protocol == Protocol::Grpc,
        }
    }

    fn cpu(&self) -> Result<Vec<Cpu>> {
        Ok(match &self.server {
            Server::Registry(server) => vec![server.process().cpu()?],
            Server::Nothing(_, process) => vec![process.cpu()?],
            Server::Peer(peer) => peer.cpu()?.into(),
        })
    }

    fn blamed(&self, error: Error) -> Error {
        match &self.server {
            Server::Registry(server) => server.process().blamed(error),
            Server::Nothing(_, process) => process.blamed(error),
            Server::Peer(peer) => peer.blamed(error),
        }
    }

    /// Makes `call` for each endpoint over the keeper, if it has one.
    async fn keep(&mut self, call: Call, endpoints: &[Endpoint]) -> Result<()> {
        if let Some(keeper) = &mut self.keeper {
            let requests = endpoints
                .iter()
                .map(|endpoint| Request::new(Protocol::Grpc, call, endpoint));
            load::each(&mut keeper.callers, requests).await?;
        }
        Ok(())
    }
}

/// The load of every round.
pub struct Load {
    /// Connections that the gRPC callers share.
    pub connections: usize,
    time: Duration,
    endpoints: Vec<Endpoint>,
}

impl Load {
    /// Rounds that are measured for `time`.
    pub fn new(time: Duration, connections: usize) -> Self {
        Self {
            connections,
            time,
            endpoints: Endpoints::new(1, NODES).tunnels(TUNNELS),
        }
    }

    /// Registers everything and asks for every tunnel: a server that answers
    /// wrongly is not worth measuring.
    pub async fn verify(&self, subject: &mut Subject) -> Result<()> {
        let verified = self.check(subject).await;
        verified.map_err(|error| subject.blamed(error))
    }

    async fn check(&self, subject: &mut Subject) -> Result<()> {
        subject.keep(Call::Register, &self.endpoints).await?;
        let Some(caller) = subject.keeper.as_mut().and_then(|k| k.callers.first_mut()) else {
            return Ok(());
        };
        for tunnel in self.endpoints.chunks(CONNECTORS) {
            let request = Request::new(Protocol::Grpc, Call::Get, &tunnel[0])?;
            let listed = caller.call(&request).await?;
            if tunnel.iter().any(|endpoint| !listed.contains(endpoint)) {
                return Err(format!("Get listed {listed:?} instead of {tunnel:?}").into());
            }
        }
        Ok(())
    }

    /// Measures a cell once.
    pub async fn round(&self, subject: &mut Subject, cell: Cell) -> Result<Figures> {
        let measured = self.measure(subject, cell).await;
        measured.map_err(|error| subject.blamed(format!("{cell}: {error}").into()))
    }

    async fn measure(&self, subject: &mut Subject, cell: Cell) -> Result<Figures> {
        // Also renews them: no round may begin with less than it should have.
        subject.keep(Call::Register, &self.endpoints).await?;
        let Cell {
            protocol,
            op,
            concurrency,
        } = cell;
        let known: Vec<Request> = self
            .endpoints
            .iter()
            .map(|endpoint| Request::new(protocol, op.call(), endpoint))
            .collect::<Result<_>>()?;
        let made = RefCell::new(Vec::new());
        let next = || {
            if op != Op::Register {
                return Ok(known[fastrand::usize(..known.len())].clone());
            }
            let endpoint = subject.fresh.borrow_mut().give();
            let request = Request::new(protocol, Call::Register, &endpoint);
            made.borrow_mut().push(endpoint);
            request
        };
        let mut client =
            Client::connect(protocol, subject.at, concurrency, self.connections).await?;
        let figures = round(&mut client.callers, next, self.time, || subject.cpu()).await?;
        drop(client);
        // What was registered anew goes again, so that every round is alike.
        subject.keep(Call::Deregister, &made.into_inner()).await?;
        Ok(figures)
    }
}
