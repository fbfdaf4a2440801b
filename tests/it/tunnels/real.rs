//! The real gost, one process a server and one a client.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{Process, until};
use crate::sd::Protocol;
use crate::tunnels::world::Place;
use crate::tunnels::{Gost, Server, Tunnel};

/// Names a gost v3 binary.
const BINARY: &str = "GOST_BIN";

pub struct Real {
    binary: PathBuf,
    place: Place,
}

static SKIPPED: Once = Once::new();

/// Said past what the test harness captures.
fn skipped() {
    let line = format!(
        "SKIPPED: every test `gost_over_…`: no gost here; name one with {BINARY}, or put it on the PATH\n"
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// `GOST_BIN`, or `gost` on the PATH.
fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("gost"))
        .find(|file| file.is_file())
}

impl Gost for Real {
    type Server = RealServer;
    type Client = Process;

    const TTL: Duration = Duration::from_secs(1);
    const OUTAGE: Duration = Duration::from_secs(30);

    fn new(place: Place) -> Option<Self> {
        let Some(binary) = binary() else {
            SKIPPED.call_once(skipped);
            return None;
        };
        Some(Self { binary, place })
    }

    async fn server(&self, n: u8) -> RealServer {
        let place = &self.place;
        let (entrypoint, tunnels) = (place.entrypoint(n), place.tunnel_port(n));
        let rules: Vec<_> = place
            .tunnels
            .iter()
            .map(|tunnel| json!({"hostname": tunnel.host, "endpoint": tunnel.id}))
            .collect();
        let registry = place.registry;
        let plugin = match place.protocol {
            Protocol::Grpc => json!({"type": "grpc", "addr": registry.to_string()}),
            Protocol::Http => json!({"type": "http", "addr": format!("http://{registry}/sd")}),
        };
        let metadata = json!({
            "entrypoint": entrypoint.to_string(),
            "ingress": "ingress-0",
            "sd": "sd-0",
            "tunnel.ttl": format!("{}s", Self::TTL.as_secs()),
        });
        let process = self.start(json!({
            "services": [{
                "name": "tunnel-srv",
                "addr": tunnels.to_string(),
                "handler": {"type": "tunnel", "metadata": metadata},
                "listener": {"type": "tcp"},
            }],
            "ingresses": [{"name": "ingress-0", "rules": rules}],
            "sds": [{"name": "sd-0", "plugin": plugin}],
        }));
        for address in [entrypoint, tunnels] {
            let open = async || TcpStream::connect(address).await;
            drop(until(&format!("gost listens on {address}"), open).await);
        }
        RealServer {
            process,
            entrypoint,
            tunnels,
        }
    }

    fn client(&self, server: &RealServer, tunnels: &[Tunnel], service: SocketAddr) -> Process {
        let each = |make: &dyn Fn(usize, &Tunnel) -> Value| -> Vec<_> {
            tunnels
                .iter()
                .enumerate()
                .map(|(n, tunnel)| make(n, tunnel))
                .collect()
        };
        let services = each(&|n, _| {
            json!({
                "name": format!("rtcp-{n}"),
                "addr": ":0",
                "handler": {"type": "rtcp"},
                "listener": {"type": "rtcp", "chain": format!("chain-{n}")},
                "forwarder": {"nodes": [{"name": "target", "addr": service.to_string()}]},
            })
        });
        let chains = each(&|n, tunnel| {
            let node = json!({
                "name": "node",
                "addr": server.tunnels.to_string(),
                "connector": {"type": "tunnel", "metadata": {"tunnel.id": tunnel.id}},
                "dialer": {"type": "tcp"},
            });
            json!({"name": format!("chain-{n}"), "hops": [{"name": "hop", "nodes": [node]}]})
        });
        self.start(json!({"services": services, "chains": chains}))
    }
}

impl Real {
    /// Starts a gost with a configuration.
    fn start(&self, mut configuration: Value) -> Process {
        configuration["log"] = json!({"level": "info", "format": "json", "output": "stderr"});
        let name = self.place.new_id();
        let file = self.place.folder.join(format!("{name}.json"));
        fs::write(&file, configuration.to_string()).unwrap();
        let log = self.place.folder.join(format!("{name}.log"));
        Process::start(Command::new(&self.binary).arg("-C").arg(file), log)
    }
}

pub struct RealServer {
    process: Process,
    entrypoint: SocketAddr,
    tunnels: SocketAddr,
}

impl Server for RealServer {
    fn entrypoint(&self) -> SocketAddr {
        self.entrypoint
    }

    fn open_files(&self) -> usize {
        self.process.open_files()
    }

    async fn kill(mut self) {
        self.process.kill().await;
    }
}
