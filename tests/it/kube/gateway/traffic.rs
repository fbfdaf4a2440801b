//! Requests through a real Traefik that has the API server's Gateway API for its
//! provider. Skipped, with a line that says so, without a Traefik.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::super::ports::Port;
use super::super::product::Product;
use super::super::program::Program;
use super::super::tools::{self, say};
use super::world::World;
use crate::process::until;
use crate::testenv::PATIENCE;

/// A backend that answers with its name and what it was asked for.
struct Backend {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Backend {
    async fn start(ip: IpAddr, name: &'static str, status: &'static str) -> Self {
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

    fn url(&self) -> String {
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
async fn ask(at: SocketAddr, host: &str, path: &str) -> Result<(u16, String, String), String> {
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

/// A Traefik, and the Gateway `web` that it serves in the test's namespace.
struct Proxy {
    at: SocketAddr,
    ip: IpAddr,
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

    async fn backend(&self, name: &'static str) -> Backend {
        Backend::start(self.ip, name, "200 OK").await
    }

    /// Waits until a request is answered so.
    async fn answers(&self, host: &str, path: &str, expected: (u16, &str)) -> String {
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
    async fn shares(&self, host: &str, count: usize) -> Result<BTreeMap<String, usize>, String> {
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
    async fn shared(&self, host: &str, expected: &[(&str, usize)]) {
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

fn at(domain: &str, path: &str, backend: &str) -> Value {
    json!([{ "domains": [domain], "path": path, "backend": backend }])
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_find_their_backends() {
    let Some(world) = World::start().await else {
        return;
    };
    let Some(proxy) = Proxy::start(&world).await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    let [root, v2, based] = [
        proxy.backend("root").await,
        proxy.backend("v2").await,
        proxy.backend("based").await,
    ];
    let headers = json!([{ "name": "X-By", "value": "registry" }]);
    let spec = json!({ "routes": at("a.example.com", "/", &root.url()), "headers": headers });
    world.session("root", "root", spec).await;
    world
        .session(
            "v2",
            "v2",
            json!({ "routes": at("a.example.com", "/v2", &v2.url()) }),
        )
        .await;
    let url = format!("{}/base", based.url());
    world
        .session(
            "based",
            "based",
            json!({ "routes": at("*.b.example.com", "/x", &url) }),
        )
        .await;
    let head = proxy.answers("a.example.com", "/y", (200, "root /y")).await;
    assert!(
        head.contains("x-by: registry") && !head.contains("x-by: backend"),
        "{head}"
    );
    let head = proxy
        .answers("a.example.com", "/v2/y", (200, "v2 /v2/y"))
        .await;
    assert!(head.contains("x-by: backend"), "{head}");
    proxy
        .answers("a.example.com", "/v2x", (200, "root /v2x"))
        .await;
    proxy
        .answers("c.b.example.com", "/x/y", (200, "based /base/x/y"))
        .await;
    proxy
        .answers("c.b.example.com", "/y", (404, "404 page not found"))
        .await;
    world.says("root", "RoutesAccepted", "True/Accepted").await;
    world.says("root", "Ready", "True/Static").await;
    world.end("v2").await;
    proxy
        .answers("a.example.com", "/v2/y", (200, "root /v2/y"))
        .await;
    world.end("root").await;
    proxy
        .answers("a.example.com", "/y", (404, "404 page not found"))
        .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_service_share_requests_by_their_weights() {
    let Some(world) = World::start().await else {
        return;
    };
    let Some(proxy) = Proxy::start(&world).await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    let names = ["one", "two", "three"];
    let mut backends = Vec::new();
    for name in names {
        backends.push(proxy.backend(name).await);
    }
    let serve = async |n: usize, options: Value| {
        let routes = at("a.example.com", "/", &backends[n].url());
        let spec = json!({ "routes": routes, "options": options });
        world.session(names[n], "api", spec).await;
    };
    // All are at one address, with a port each.
    serve(0, json!({})).await;
    proxy.shared("a.example.com", &[("one", 4)]).await;
    serve(1, json!({})).await;
    proxy
        .shared("a.example.com", &[("one", 4), ("two", 4)])
        .await;
    serve(2, json!({ "weight": 2 })).await;
    proxy
        .shared("a.example.com", &[("one", 4), ("two", 4), ("three", 8)])
        .await;
    world
        .change("one", json!({ "options": { "weight": 0 } }))
        .await;
    proxy
        .shared("a.example.com", &[("two", 4), ("three", 8)])
        .await;
    world.end("three").await;
    proxy.shared("a.example.com", &[("two", 8)]).await;
    // Of one that drains alone there is nothing left.
    world.end("two").await;
    until("the last one drains", async || {
        let (status, ..) = ask(proxy.at, "a.example.com", "/").await?;
        match status {
            503 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_is_answered_503() {
    let Some(world) = World::start().await else {
        return;
    };
    let Some(proxy) = Proxy::start(&world).await else {
        return;
    };
    let product = Product::new(&world.env);
    let backend = proxy.backend("works").await;
    let other = proxy.backend("other").await;
    world
        .serve("one", "api", "a.example.com", &backend.url())
        .await;
    world
        .serve("two", "web", "b.example.com", &other.url())
        .await;
    // Without a responder the Gateway answers by itself.
    let controller = world.controller(&product, "--gateway web").await;
    proxy.answers("a.example.com", "/", (200, "works /")).await;
    world.change("one", json!({ "maintenance": true })).await;
    until("it is answered 503", async || {
        let (status, ..) = ask(proxy.at, "a.example.com", "/").await?;
        (status == 503).then_some(()).ok_or(status.to_string())
    })
    .await;
    proxy.answers("b.example.com", "/", (200, "other /")).await;
    world
        .says("one", "Ready", "False/NoMaintenanceService")
        .await;
    controller.stop().await;
    // A responder of a Service that is not ours.
    let page = Backend::start(proxy.ip, "page", "503 Service Unavailable").await;
    let port = page.address.port();
    world
        .env
        .apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "page" },
            "spec": { "clusterIP": "None", "ports": [{ "name": "http", "port": 8080 }] },
        }))
        .await;
    world
        .env
        .apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "page", "labels": { "kubernetes.io/service-name": "page" } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [proxy.ip.to_string()], "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "port": port }],
        }))
        .await;
    let flags = "--gateway web --maintenance-service page:8080";
    let controller = world.controller(&product, flags).await;
    proxy.answers("a.example.com", "/x", (503, "page /x")).await;
    world.says("one", "Ready", "False/Maintenance").await;
    world.change("one", json!({ "maintenance": false })).await;
    proxy.answers("a.example.com", "/", (200, "works /")).await;
    assert!(
        world.made::<Service>().await.len() == 2,
        "the responder's is not ours"
    );
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_come_and_go_and_no_request_fails() {
    let Some(world) = World::start().await else {
        return;
    };
    let Some(proxy) = Proxy::start(&world).await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    let stays = proxy.backend("stays").await;
    let comes = proxy.backend("comes").await;
    world
        .serve("stays", "api", "a.example.com", &stays.url())
        .await;
    proxy.answers("a.example.com", "/", (200, "stays /")).await;
    let look = async {
        loop {
            let answer = ask(proxy.at, "a.example.com", "/").await.unwrap();
            assert_eq!(answer.0, 200, "{answer:?}");
        }
    };
    let change = async {
        for _ in 0..3 {
            world
                .serve("comes", "api", "a.example.com", &comes.url())
                .await;
            proxy
                .shared("a.example.com", &[("stays", 2), ("comes", 2)])
                .await;
            // What announces another domain as well has another Service.
            let both = json!([{ "domains": ["a.example.com", "b.example.com"], "path": "/", "backend": comes.url() }]);
            world.change("comes", json!({ "routes": both })).await;
            proxy.answers("b.example.com", "/", (200, "comes /")).await;
            proxy
                .shared("a.example.com", &[("stays", 2), ("comes", 2)])
                .await;
            world.end("comes").await;
            proxy.shared("a.example.com", &[("stays", 4)]).await;
        }
    };
    tokio::select! {
        () = look => {}
        () = change => {}
    }
    controller.stop().await;
}
