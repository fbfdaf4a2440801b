//! A registry, and a Traefik beside it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use tempfile::TempDir;
use tokio::process::Command;

use crate::kube::tools;
use crate::process::{Net, Process, Registry, Setup, folder, until};
use crate::traefik::visitor::{self, Regular};
use crate::traefik::{Answer, Backend, Client};

/// A registry that is up, and a Traefik that asks it.
pub struct World {
    pub net: Net,
    pub registry: Registry,
    pub traefik: Process,
    _folder: TempDir,
}

/// What is said about the routes that a Traefik refuses, or cannot read.
const COMPLAINTS: [&str; 2] = ["\"level\":\"error\"", "\"level\":\"warn\""];
/// What it says of the world around it, which is no complaint: the registry is
/// away, a check has failed, a body is too large, paths may be odd.
const USUAL: [&str; 4] = [
    "cannot fetch configuration data",
    "Health check failed",
    "request body over limit",
    "encoded characters in the request path",
];

impl World {
    /// None, and a line that says so, without a Traefik.
    pub async fn new() -> Option<Self> {
        Self::with("").await
    }

    /// The registry has further flags.
    pub async fn with(flags: &str) -> Option<Self> {
        let binary = tools::traefik().unwrap_or_else(|error| panic!("{error}"))?;
        let (net, folder) = (Net::take(), folder());
        let mut setup = Setup::new(net, folder.path()).flags(flags);
        setup.sessions = Some(net.at(1, 8181));
        let registry = setup.start().await;
        let proxy = Self::at(net);
        let log = folder.path().join("traefik.log");
        let file = configuration(folder.path(), &log, setup.listen, proxy);
        let mut command = Command::new(&binary);
        command
            .env_clear()
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .arg(format!("--configFile={}", file.display()));
        let mut traefik = Process::start(&mut command, log);
        let up = async || {
            if let Some(status) = traefik.has_ended() {
                panic!("Traefik ended with {status} and said:\n{}", traefik.said());
            }
            visitor::ask(proxy, Method::GET, ("nobody", "/"), &[], Bytes::new()).await
        };
        until("Traefik listens", up).await;
        Some(Self {
            net,
            registry,
            traefik,
            _folder: folder,
        })
    }

    fn at(net: Net) -> SocketAddr {
        net.at(2, 8080)
    }

    /// Where visitors come in.
    pub fn proxy(&self) -> SocketAddr {
        Self::at(self.net)
    }

    /// Where backends register.
    pub fn sessions(&self) -> SocketAddr {
        self.registry.setup.sessions.unwrap()
    }

    /// The n-th backend.
    pub async fn backend(&self, n: u8, name: &str) -> Backend {
        Backend::start(self.net.at(n, 9000), name).await
    }

    /// A session of a backend, without a page for maintenance.
    pub async fn session(&self, service: &str, backend: &Backend) -> Client {
        Client::register(self.sessions(), service, backend, 0).await
    }

    /// A session of a backend that serves `/` of a domain.
    pub async fn serving(&self, service: &str, backend: &Backend, domain: &str) -> Client {
        let mut session = self.session(service, backend).await;
        session.route(domain, "/", &backend.url()).await;
        session
    }

    /// Visits once.
    pub async fn visit(&self, host: &str, path: &str) -> Answer {
        let place = (host, path);
        visitor::ask(self.proxy(), Method::GET, place, &[], Bytes::new())
            .await
            .unwrap_or_else(|error| panic!("{host}{path}: {error}"))
    }

    /// Visits until the answer is as it should be.
    pub async fn visited(
        &self,
        what: &str,
        (host, path): (&str, &str),
        is_right: impl Fn(&Answer) -> bool,
    ) -> Answer {
        until(what, async || {
            let answer = self.visit(host, path).await;
            if is_right(&answer) {
                Ok(answer)
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await
    }

    /// Visits until a backend answers.
    pub async fn reaches(&self, place: (&str, &str), backend: &str) -> Answer {
        let what = format!("{place:?} reaches {backend}");
        self.visited(&what, place, |answer| answer.from() == Some(backend))
            .await
    }

    /// Visits until the answer has this status, from no backend.
    pub async fn answers(&self, place: (&str, &str), status: u16) -> Answer {
        let what = format!("{place:?} is answered {status}");
        self.visited(&what, place, |answer| {
            answer.status == status && answer.from().is_none()
        })
        .await
    }

    /// One who visits all the time.
    pub fn regular(&self, host: &'static str) -> Regular {
        Regular::start(self.proxy(), host)
    }

    /// Whether Traefik took all that it was told.
    pub fn is_content(&self) {
        let said = self.traefik.said();
        let is_complaint = |line: &&str| {
            COMPLAINTS.iter().any(|level| line.contains(level))
                && !USUAL.iter().any(|usual| line.contains(usual))
        };
        let complaints: Vec<&str> = said.lines().filter(is_complaint).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// What Traefik is told: the example, at another place and in more of a hurry.
fn configuration(folder: &Path, log: &Path, registry: SocketAddr, listen: SocketAddr) -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/traefik/traefik.yml");
    let mut text = fs::read_to_string(example).unwrap();
    let log = format!("level: INFO\n  format: json\n  filePath: {}", log.display());
    for (from, to) in [
        ("127.0.0.1:8080", listen.to_string()),
        ("127.0.0.1:8000", registry.to_string()),
        ("pollInterval: 1s", "pollInterval: 50ms".into()),
        (
            "providersThrottleDuration: 500ms",
            "providersThrottleDuration: 0s".into(),
        ),
        ("level: INFO", log),
    ] {
        assert!(text.contains(from), "the example has no {from}");
        text = text.replace(from, &to);
    }
    let file = folder.join("traefik.yml");
    fs::write(&file, text).unwrap();
    file
}
