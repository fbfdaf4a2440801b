//! The servers that are measured, on free ports of 127.0.0.1.

use std::env;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use http::StatusCode;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::client::fetch;
use super::process::{Cpu, Process};
use super::{Error, Result};

/// How long a server may take to start.
const START_WITHIN: Duration = Duration::from_secs(120);

/// The flag that says where sessions are taken; off unless a program says so.
pub const SESSION_LISTEN: &str = "--session-listen";

/// Where a server keeps its data.
#[derive(Clone, Debug)]
pub enum Store {
    /// `--store memory`
    Memory,
    /// `--store file:PATH`
    File(PathBuf),
    /// `--store kubernetes`, in the cluster of this kubeconfig
    Kubernetes(PathBuf),
}

impl Store {
    fn argument(&self) -> OsString {
        match self {
            Self::Memory => "memory".into(),
            Self::File(path) => {
                let mut argument = OsString::from("file:");
                argument.push(path);
                argument
            }
            Self::Kubernetes(_) => "kubernetes".into(),
        }
    }
}

/// The registry's binary, as a command that settings of the caller's environment
/// do not reach.
fn own(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"TUNNEL_REGISTRY_") {
            command.env_remove(name);
        }
    }
    command
}

/// Waits for the first 200 of `/readyz`.
async fn ready(process: &mut Process, admin: SocketAddr) -> Result<()> {
    process
        .until("ready", START_WITHIN, async || {
            let answered = fetch(admin, "/readyz").await;
            answered
                .is_ok_and(|(s, _)| s == StatusCode::OK)
                .then_some(())
        })
        .await
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// Where it speaks gost's protocol.
    pub at: SocketAddr,
    admin: SocketAddr,
    process: Process,
    /// From exec to the first 200 of `/readyz`.
    pub started_in: Duration,
}

impl Registry {
    /// Starts a registry and waits until it is ready. Settings of the caller's
    /// environment do not reach it.
    pub async fn start(binary: &Path, store: &Store, flags: &[&str]) -> Result<Self> {
        let (at, admin) = (free_port()?, free_port()?);
        let mut command = own(binary);
        command
            .args(["--listen", &at.to_string()])
            .args(["--admin-listen", &admin.to_string()])
            .arg("--store")
            .arg(store.argument())
            .args(flags);
        if !flags.contains(&SESSION_LISTEN) {
            command.args([SESSION_LISTEN, "off"]);
        }
        if let Store::Kubernetes(kubeconfig) = store {
            command.env("KUBECONFIG", kubeconfig);
        }
        let from = Instant::now();
        let mut process = Process::start("tunnel-registry", &mut command)?;
        ready(&mut process, admin).await?;
        Ok(Self {
            at,
            admin,
            process,
            started_in: from.elapsed(),
        })
    }

    /// How many endpoints it says it has.
    pub async fn endpoints(&self) -> Result<usize> {
        Ok(self.metric("tunnel_registry_endpoints").await? as usize)
    }

    /// The sum of a metric's series.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let (_, metrics) = fetch(self.admin, "/metrics").await?;
        Ok(gauge(&metrics, name).ok_or_else(|| format!("/metrics has no {name}"))?)
    }

    /// Waits until it says that it has exactly `count` endpoints.
    pub async fn holds(&mut self, count: usize, within: Duration) -> Result<()> {
        self.says("tunnel_registry_endpoints", count, within).await
    }

    /// Waits until a metric is exactly `count`.
    pub async fn says(&mut self, name: &str, count: usize, within: Duration) -> Result<()> {
        let admin = self.admin;
        self.process
            .until(&format!("at {count} {name}"), within, async || {
                let (_, metrics) = fetch(admin, "/metrics").await.ok()?;
                let now = gauge(&metrics, name)?;
                (now as usize == count).then_some(())
            })
            .await
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it in order.
    pub async fn stop(self) -> Result<()> {
        self.process.stop().await
    }

    /// Ends it with SIGKILL.
    pub fn kill(self) {
        self.process.kill();
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    process: Process,
    /// From exec to the first 200 of `/readyz`.
    pub started_in: Duration,
}

impl Controller {
    /// Starts a controller in a cluster and waits until it is ready.
    pub async fn start(binary: &Path, kubeconfig: &Path, flags: &[&str]) -> Result<Self> {
        let admin = free_port()?;
        let mut command = own(binary);
        command
            .args(["controller", "--admin-listen", &admin.to_string()])
            .args(flags)
            .env("KUBECONFIG", kubeconfig);
        let from = Instant::now();
        let mut process = Process::start("tunnel-registry controller", &mut command)?;
        ready(&mut process, admin).await?;
        Ok(Self {
            process,
            started_in: from.elapsed(),
        })
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// The sum of a metric's series in Prometheus' text format.
fn gauge(metrics: &str, name: &str) -> Option<f64> {
    metrics
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse::<f64>().ok()
        })
        .reduce(|sum, value| sum + value)
}

/// Today's peer: gost-plugins with a Redis of its own that keeps nothing.
#[derive(Debug)]
pub struct Peer {
    /// Where it speaks gRPC.
    pub at: SocketAddr,
    plugin: Process,
    redis: Process,
    _folder: TempDir,
}

impl Peer {
    /// The peer's binary, where `PEER_BIN` names it.
    pub fn named() -> Option<PathBuf> {
        env::var_os("PEER_BIN")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }

    /// Starts both and waits until they accept connections.
    pub async fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (at, redis_at) = (free_port()?, free_port()?);
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &redis_at.port().to_string(),
            ])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path());
        let redis = accepting("redis-server", &mut command, redis_at).await?;
        let mut command = Command::new(binary);
        command
            .args(["sd", "--addr", &at.to_string()])
            .args(["--redis.addr", &redis_at.to_string()])
            .args(["--redis.expiration", "1m"]);
        let plugin = accepting("the peer", &mut command, at).await?;
        Ok(Self {
            at,
            plugin,
            redis,
            _folder: folder,
        })
    }

    /// The processor time of both together.
    pub fn cpu(&self) -> Result<[Cpu; 2]> {
        Ok([self.plugin.cpu()?, self.redis.cpu()?])
    }

    /// An error with the end of the peer's log.
    pub fn blamed(&self, error: Error) -> Error {
        self.plugin.blamed(error)
    }
}

/// Starts a server that is ready when it accepts connections.
pub async fn accepting(
    name: &'static str,
    command: &mut Command,
    at: SocketAddr,
) -> Result<Process> {
    let mut process = Process::start(name, command)?;
    process
        .until("accepting connections", START_WITHIN, async || {
            TcpStream::connect(at).await.ok().map(drop)
        })
        .await?;
    Ok(process)
}

/// A port that nobody listens on just now.
pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
