//! Real tunnels through the registry: tunnel servers, their clients, local
//! services behind those, and visitors.
//!
//! Each scenario runs with the real gost (`GOST_BIN`, or `gost` on the PATH;
//! skipped without either) and everywhere with a simulated one that calls the
//! registry exactly as the real one does; and each over gRPC and over HTTP.

mod deaths;
mod outages;
pub mod real;
mod routing;
pub mod simulated;
pub mod web;
pub mod world;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use world::Place;

/// A tunnel: the host name that visitors ask for, and its ID.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pub host: String,
    pub id: String,
}

/// Makes tunnel servers and clients.
pub trait Gost: Sized {
    type Server: Server;
    /// The clients behind it; ends when dropped, as by `kill -9`.
    type Client;

    /// How often each connector is renewed (`tunnel.ttl`).
    const TTL: Duration;

    /// How long the registry is away in the scenario of that name.
    const OUTAGE: Duration;

    /// None, and a line that says so, if there is no gost here.
    fn new(place: Place) -> Option<Self>;

    /// A tunnel server at the n-th host, ready for clients and visitors.
    fn server(&self, n: u8) -> impl Future<Output = Self::Server>;

    /// A client with one connector for each of `tunnels` to `server`, in front
    /// of a local service.
    fn client(
        &self,
        server: &Self::Server,
        tunnels: &[Tunnel],
        service: SocketAddr,
    ) -> Self::Client;
}

/// A tunnel server.
pub trait Server {
    /// Where visitors come in.
    fn entrypoint(&self) -> SocketAddr;

    /// How many files (the simulated one: connections) it has open.
    fn open_files(&self) -> usize;

    /// `kill -9`.
    fn kill(self) -> impl Future<Output = ()>;
}

/// The four tests of a scenario: a function that takes a [`world::World`].
macro_rules! scenario {
    ($name:ident) => {
        mod $name {
            use crate::sd::Protocol;
            use crate::tunnels::real::Real;
            use crate::tunnels::simulated::Simulated;
            use crate::tunnels::world::World;

            #[tokio::test(flavor = "multi_thread")]
            async fn simulated_over_grpc() {
                if let Some(world) = World::<Simulated>::new(Protocol::Grpc) {
                    super::$name(world).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn simulated_over_http() {
                if let Some(world) = World::<Simulated>::new(Protocol::Http) {
                    super::$name(world).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn gost_over_grpc() {
                if let Some(world) = World::<Real>::new(Protocol::Grpc) {
                    super::$name(world).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn gost_over_http() {
                if let Some(world) = World::<Real>::new(Protocol::Http) {
                    super::$name(world).await;
                }
            }
        }
    };
}
use scenario;
