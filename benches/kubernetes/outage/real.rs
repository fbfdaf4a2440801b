//! A pair of real gosts with a registry replica each, a client at one of them,
//! and visitors at the other.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::common::Result;
use crate::common::process::Process;
use crate::it::process::Net;
use crate::it::tunnels::web::{Service, visit};

/// Names a gost v3 binary.
const BINARY: &str = "GOST_BIN";
/// How long a gost may take to start, and a tunnel to be there.
const START_WITHIN: Duration = Duration::from_secs(60);
/// What visitors ask for, and the tunnel that it is.
const HOST: &str = "app.example.com";
const TUNNEL: &str = "4d21094e-b74c-4916-86c1-d9fa36ea677b";
/// What the service behind the tunnel answers.
const ANSWER: &str = "here";

/// What the second host calls itself; nobody dials it (RFC 5737).
const OTHER_HOST: &str = "203.0.113.2";

/// Where a pair can run.
pub struct Plan {
    binary: PathBuf,
    /// Where visitors of the first server come in. Not on the loopback: all of
    /// that is one host, and no gost is sent to its own.
    host: IpAddr,
}

impl Plan {
    /// The binary that `GOST_BIN` names, and an address of this machine; else
    /// what is missing.
    pub fn find() -> std::result::Result<Self, &'static str> {
        let named = env::var_os(BINARY).filter(|path| !path.is_empty());
        let binary = named.ok_or("name a gost v3 binary with GOST_BIN")?.into();
        let host = own_address().ok_or("this machine has no address but its loopback's")?;
        Ok(Self { binary, host })
    }

    /// The hosts that the registries are to believe that they are on.
    pub fn hosts(&self) -> [String; 2] {
        [self.host.to_string(), OTHER_HOST.into()]
    }
}

/// The address from which this machine would send. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Two tunnel servers and a client of the first.
pub struct Pair {
    _servers: [Process; 2],
    _client: Process,
    _service: Service,
    _folder: TempDir,
    /// Where visitors of the second server come in.
    entrypoint: SocketAddr,
}

impl Pair {
    /// Starts everything and waits until a visitor is answered. Each server
    /// calls the registry of its own.
    pub async fn start(plan: &Plan, registries: [SocketAddr; 2]) -> Result<Self> {
        let Plan { binary, host } = plan;
        let folder = tempfile::tempdir()?;
        let net = Net::take();
        let service = Service::start(net.at(9, 9000), ANSWER).await;
        let mut first = Place::new(net, 1);
        first.entrypoint = TcpListener::bind((*host, 0))?.local_addr()?;
        let second = Place::new(net, 2);
        let mut servers = [
            gost(binary, &folder, "server-1", &first.server(registries[0]))?,
            gost(binary, &folder, "server-2", &second.server(registries[1]))?,
        ];
        for (server, place) in servers.iter_mut().zip([first, second]) {
            server
                .until("listening", START_WITHIN, async || {
                    drop(TcpStream::connect(place.entrypoint).await.ok()?);
                    TcpStream::connect(place.tunnels).await.ok().map(drop)
                })
                .await?;
        }
        let client = client(first.tunnels, service.address);
        let mut client = gost(binary, &folder, "client", &client)?;
        let entrypoint = second.entrypoint;
        client
            .until("reached by a visitor", START_WITHIN, async || {
                visit(entrypoint, HOST).await.ok()
            })
            .await?;
        Ok(Self {
            _servers: servers,
            _client: client,
            _service: service,
            _folder: folder,
            entrypoint,
        })
    }

    /// Asks the second server for what only the first one holds.
    pub async fn visit(&self) -> Result<()> {
        match visit(self.entrypoint, HOST).await? {
            answer if answer == ANSWER => Ok(()),
            other => Err(format!("a visitor was answered {other:?}").into()),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Copy)]
struct Place {
    entrypoint: SocketAddr,
    tunnels: SocketAddr,
}

impl Place {
    fn new(net: Net, n: u8) -> Self {
        Self {
            entrypoint: net.at(n, 8080),
            tunnels: net.at(n, 8443),
        }
    }

    /// A tunnel server, which renews as often as it does by default.
    fn server(self, registry: SocketAddr) -> Value {
        let metadata = json!({
            "entrypoint": self.entrypoint.to_string(),
            "ingress": "ingress-0",
            "sd": "sd-0",
        });
        json!({
            "services": [{
                "name": "tunnel-srv",
                "addr": self.tunnels.to_string(),
                "handler": { "type": "tunnel", "metadata": metadata },
                "listener": { "type": "tcp" },
            }],
            "ingresses": [{
                "name": "ingress-0",
                "rules": [{ "hostname": HOST, "endpoint": TUNNEL }],
            }],
            "sds": [{
                "name": "sd-0",
                "plugin": { "type": "grpc", "addr": registry.to_string() },
            }],
        })
    }
}

fn client(server: SocketAddr, service: SocketAddr) -> Value {
    let node = json!({
        "name": "node",
        "addr": server.to_string(),
        "connector": { "type": "tunnel", "metadata": { "tunnel.id": TUNNEL } },
        "dialer": { "type": "tcp" },
    });
    json!({
        "services": [{
            "name": "rtcp-0",
            "addr": ":0",
            "handler": { "type": "rtcp" },
            "listener": { "type": "rtcp", "chain": "chain-0" },
            "forwarder": { "nodes": [{ "name": "target", "addr": service.to_string() }] },
        }],
        "chains": [{ "name": "chain-0", "hops": [{ "name": "hop", "nodes": [node] }] }],
    })
}

fn gost(binary: &Path, folder: &TempDir, name: &str, configuration: &Value) -> Result<Process> {
    let file = folder.path().join(name).with_extension("json");
    let mut configuration = configuration.clone();
    configuration["log"] = json!({ "level": "info", "format": "json", "output": "stderr" });
    fs::write(&file, configuration.to_string())?;
    Process::start("gost", Command::new(binary).arg("-C").arg(file))
}
