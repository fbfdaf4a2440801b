//! A real Traefik that has the API server's Gateway API for its provider, backends
//! behind it, and visitors before it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use kube::api::Api;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::super::ports::Port;
use super::super::program::Program;
use super::super::tools::{self, say};
use super::world::World;
use crate::process::until;
use crate::testenv::PATIENCE;

/// A backend that answers with its name and what it was asked for.
pub struct Backend {
    pub address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Backend {
    pub async fn start(ip: IpAddr, name: &'static str, status: &'static str) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut visitors = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                visitors.spawn(answer(stream, name, status));
                while visitors.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            _serving: serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn answer(mut stream: TcpStream, name: &str, status: &str) -> Option<()> {
    loop {
        let asked = head(&mut stream).await?;
        let path = asked.split(' ').nth(1)?;
        let body = format!("{name} {path}");
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nx-by: backend\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.ok()?;
    }
}

/// An answer's status, head and body.
pub async fn ask(at: SocketAddr, host: &str, path: &str) -> Result<(u16, String, String), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.ok()?;
        String::from_utf8(all).ok()
    };
    let all = timeout(PATIENCE, exchange)
        .await
        .map_err(|_| "no answer in time")?;
    let all = all.ok_or("no answer")?;
    let (head, body) = all.split_once("\r\n\r\n").ok_or("no head")?;
    let status = head
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .ok_or("no status")?;
    Ok((status, head.to_ascii_lowercase(), body.into()))
}

/// An address of this machine that is not a loopback one: no EndpointSlice takes
/// those. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

fn traefik() -> Option<PathBuf> {
    let path = tools::traefik().unwrap()?;
    if own_address().is_none() {
        say("SKIPPED: kube::gateway::traffic: this machine has no address but the loopback");
        return None;
    }
    Some(path)
}

/// A namespace, and a Traefik that serves its Gateway `web`; none, and a line that
/// says so, without the Gateway API or without a Traefik.
pub async fn served() -> Option<(World, Proxy)> {
    let world = World::start().await?;
    let proxy = Proxy::start(&world).await?;
    Some((world, proxy))
}

/// A Traefik, and the Gateway `web` that it serves in the test's namespace.
pub struct Proxy {
    pub at: SocketAddr,
    pub ip: IpAddr,
    _program: Program,
    _ports: [Port; 2],
}

impl Proxy {
    async fn start(world: &World) -> Option<Self> {
        let path = spawn_blocking(traefik).await.unwrap()?;
        let env = &world.env;
        let ports = [Port::reserve().unwrap(), Port::reserve().unwrap()];
        let [web, admin] = [0, 1].map(|n: usize| ports[n].number);
        let class = format!("traefik-{}", env.namespace);
        let definition = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": { "name": class },
            "spec": { "controllerName": "traefik.io/gateway-controller" },
        });
        let classes = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "gateway.networking.k8s.io",
            "v1",
            "GatewayClass",
        ));
        let classes = Api::<kube::core::DynamicObject>::all_with(env.client.clone(), &classes);
        let apply = kube::api::PatchParams::apply("tests");
        let patch = kube::api::Patch::Apply(&definition);
        classes.patch(&class, &apply, &patch).await.unwrap();
        env.apply(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": "web" },
            "spec": {
                "gatewayClassName": class,
                "listeners": [{ "name": "http", "protocol": "HTTP", "port": web }],
            },
        }))
        .await;
        let folder = env.site.folder.join(format!("traefik-{}", env.namespace));
        std::fs::create_dir_all(&folder).unwrap();
        let kubeconfig = env.kubeconfig().display().to_string();
        let arguments = vec![
            format!("KUBECONFIG={kubeconfig}"),
            path.display().to_string(),
            "--global.checknewversion=false".into(),
            "--global.sendanonymoususage=false".into(),
            "--log.level=INFO".into(),
            "--ping=true".into(),
            "--ping.entrypoint=admin".into(),
            format!("--entrypoints.admin.address=127.0.0.1:{admin}"),
            format!("--entrypoints.web.address=127.0.0.1:{web}"),
            "--entrypoints.web.reuseport=true".into(),
            "--entrypoints.admin.reuseport=true".into(),
            "--providers.providersthrottleduration=50ms".into(),
            "--providers.kubernetesgateway=true".into(),
            format!("--providers.kubernetesgateway.namespaces={}", env.namespace),
        ];
        // A variable before a program's name is for `env`.
        let program = Program::start(std::path::Path::new("env"), arguments, &folder).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], web));
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        until("Traefik answers", async || {
            match ask(admin, "traefik", "/ping").await {
                Ok((200, ..)) => Ok(()),
                other => Err(format!("{other:?}\n{}", program.tail())),
            }
        })
        .await;
        Some(Self {
            at,
            ip: own_address()?,
            _program: program,
            _ports: ports,
        })
    }

    pub async fn backend(&self, name: &'static str) -> Backend {
        Backend::start(self.ip, name, "200 OK").await
    }

    /// Waits until a request is answered so.
    pub async fn answers(&self, host: &str, path: &str, expected: (u16, &str)) -> String {
        until(&format!("{host}{path} is {expected:?}"), async || {
            let (status, head, body) = ask(self.at, host, path).await?;
            match (status, body.trim()) == expected {
                true => Ok(head),
                false => Err(format!("{status} {body}")),
            }
        })
        .await
    }

    /// How many of so many requests each backend answers.
    pub async fn shares(
        &self,
        host: &str,
        count: usize,
    ) -> Result<BTreeMap<String, usize>, String> {
        let mut shares = BTreeMap::new();
        for _ in 0..count {
            let (status, _, body) = ask(self.at, host, "/").await?;
            if status != 200 {
                return Err(format!("{status} {body}"));
            }
            *shares
                .entry(body.trim_end_matches(" /").to_owned())
                .or_default() += 1;
        }
        Ok(shares)
    }

    /// Waits until the requests are shared so.
    pub async fn shared(&self, host: &str, expected: &[(&str, usize)]) {
        let expected: BTreeMap<String, usize> = expected
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        let count = expected.values().sum();
        until(&format!("requests are shared {expected:?}"), async || {
            let shares = self.shares(host, count).await?;
            match shares == expected {
                true => Ok(()),
                false => Err(format!("{shares:?}")),
            }
        })
        .await;
    }
}
