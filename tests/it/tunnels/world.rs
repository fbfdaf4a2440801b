//! A registry, its tunnels, and a gost of one kind around it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Net, Setup, folder, until};
use crate::sd::{Protocol, uuid};
use crate::tunnels::web::{Service, visit};
use crate::tunnels::{Gost, Tunnel};

/// Where a scenario takes place.
#[derive(Clone, Debug)]
pub struct Place {
    pub net: Net,
    pub folder: PathBuf,
    pub protocol: Protocol,
    /// Where the registry listens.
    pub registry: SocketAddr,
    /// Where visitors of these hosts come in, instead of at the host's own address.
    pub entrypoints: BTreeMap<u8, SocketAddr>,
    /// The tunnels that every server routes to by host name.
    pub tunnels: Vec<Tunnel>,
}

impl Place {
    /// Where the n-th host's visitors come in.
    pub fn entrypoint(&self, n: u8) -> SocketAddr {
        let moved = self.entrypoints.get(&n).copied();
        moved.unwrap_or_else(|| self.net.at(n, 8080))
    }

    /// Where the n-th host's clients connect.
    pub fn tunnel_port(&self, n: u8) -> SocketAddr {
        self.net.at(n, 8443)
    }

    /// An id that nothing else has.
    pub fn new_id(&self) -> String {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        uuid(1, TAKEN.fetch_add(1, Ordering::Relaxed))
    }
}

pub struct World<G> {
    pub place: Place,
    /// The registry that is to be started.
    pub setup: Setup,
    pub gost: G,
    _folder: TempDir,
}

impl<G: Gost> World<G> {
    /// With one tunnel. None if there is no such gost.
    pub fn new(protocol: Protocol) -> Option<Self> {
        Self::with_tunnels(protocol, 1)
    }

    fn with_tunnels(protocol: Protocol, count: usize) -> Option<Self> {
        let (net, folder) = (Net::take(), folder());
        let setup = Setup::new(net, folder.path());
        let tunnel = |n| Tunnel {
            host: format!("app-{n:04}.example.com"),
            id: uuid(2, n),
        };
        let place = Place {
            net,
            folder: folder.path().to_owned(),
            protocol,
            registry: setup.listen,
            entrypoints: BTreeMap::new(),
            tunnels: (0..count).map(tunnel).collect(),
        };
        Some(Self {
            gost: G::new(place.clone())?,
            place,
            setup,
            _folder: folder,
        })
    }

    /// The same with more tunnels.
    pub fn grown(self, count: usize) -> Self {
        Self::with_tunnels(self.place.protocol, count).expect("there is such a gost")
    }

    /// A local service on the n-th host.
    pub async fn service(&self, n: u8, name: &str) -> Service {
        Service::start(self.place.net.at(n, 9000), name).await
    }

    /// Visits the n-th tunnel.
    pub async fn visit(&self, entrypoint: SocketAddr, n: usize) -> Result<String, String> {
        visit(entrypoint, &self.place.tunnels[n].host).await
    }

    /// Visits the n-th tunnel until it is there.
    pub async fn reached(&self, entrypoint: SocketAddr, n: usize) -> String {
        let what = format!("a visitor at {entrypoint} reaches tunnel {n}");
        until(&what, async || self.visit(entrypoint, n).await).await
    }

    /// The least silence until something is released, in these scenarios.
    pub fn base_time(&self) -> Duration {
        (4 * G::TTL).max(Duration::from_secs(1))
    }

    /// Shortens the times after which the silent go.
    pub fn impatient(mut self) -> Self {
        let flags = "--base-time=1s --released-for=1s --start-grace=0s";
        self.setup = self.setup.flags(flags);
        self
    }
}

/// Why an endpoint is doubted; `healthy` if it is not.
pub fn health(row: &Value) -> &str {
    row["reason"].as_str().unwrap_or("healthy")
}

/// The healths that there are.
pub fn healths(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().map(health).collect()
}
