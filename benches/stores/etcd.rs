//! A cluster of etcd on this machine, which writes to its disk as it does elsewhere.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep_until, timeout};
use tunnel_registry::backend::Backend as _;
use tunnel_registry::backend::etcd::{Etcd, Settings, TlsFiles, Url};

use crate::common::Result;
use crate::common::process::Process;
use crate::common::servers::{accepting, free_port};

/// How long the members may take to find each other.
const READY_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    clients: Vec<SocketAddr>,
    _members: Vec<Process>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts so many members; none where there is no etcd.
    pub async fn start(members: usize) -> Result<Option<Self>> {
        let Some(binary) = binary() else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let mut ports = Vec::new();
        for _ in 0..members {
            ports.push((free_port()?, free_port()?));
        }
        let all: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(number, (_, peer))| format!("m{number}=http://{peer}"))
            .collect();
        let mut processes = Vec::new();
        for (number, (client, peer)) in ports.iter().enumerate() {
            let mut command = Command::new(&binary);
            command
                .args(["--name", &format!("m{number}")])
                .arg("--data-dir")
                .arg(folder.path().join(format!("m{number}")))
                .args(["--log-level", "error"])
                .args(["--listen-client-urls", &format!("http://{client}")])
                .args(["--advertise-client-urls", &format!("http://{client}")])
                .args(["--listen-peer-urls", &format!("http://{peer}")])
                .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
                .args(["--initial-cluster", &all.join(",")]);
            // It accepts peers at once, and clients when it has found them.
            processes.push(accepting("etcd", &mut command, *peer).await?);
        }
        let cluster = Self {
            clients: ports.into_iter().map(|(client, _)| client).collect(),
            _members: processes,
            _folder: folder,
        };
        timeout(READY_WITHIN, cluster.ready()).await??;
        Ok(Some(cluster))
    }

    async fn ready(&self) -> Result<()> {
        let settings = Settings {
            urls: self.urls()?,
            prefix: "/ready/".into(),
            tls: TlsFiles::default(),
            user: None,
        };
        let store = Etcd::open(settings).await?;
        while store.ping().await.is_err() {
            sleep_until(Instant::now() + PAUSE).await;
        }
        Ok(())
    }

    /// Where clients reach it.
    pub fn urls(&self) -> Result<Vec<Url>> {
        let urls = self.clients.iter();
        urls.map(|at| Ok(format!("http://{at}").parse()?)).collect()
    }
}

/// The binary that the tests have built, or that is named.
fn binary() -> Option<PathBuf> {
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/kube-tools"));
    let named = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let folders = named.into_iter().chain([built]);
    folders
        .map(|folder| folder.join("etcd"))
        .find(|path| path.is_file())
}
