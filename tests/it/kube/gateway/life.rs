//! The main path, whole: backends announce themselves over TCP at replicas, the
//! controller makes routes of that, and a real Traefik carries requests by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::ports::Port;
use super::super::product::Product;
use super::super::sessions::taking;
use super::proxy::{Backend, Proxy, ask, served};
use super::world::World;
use crate::process::{Registry, Setup, until};
use crate::session::env::Client;

/// Short, so that a crash need not be waited for long; longer than any restart.
const GRACE: &str = "--session-grace 8s";

const HOST: &str = "api.example.com";

async fn replica(world: &World, product: &Product<'_>, n: u8) -> Setup {
    taking(&world.env, product, n).await.flags(GRACE)
}

async fn client(replica: &Registry) -> Client<TcpStream> {
    Client::at(replica.setup.sessions.unwrap()).await
}

/// A backend that has registered, with its connection and its session's id.
async fn announced(
    replica: &Registry,
    service: &str,
    host: &str,
    backend: &Backend,
) -> (Client<TcpStream>, String) {
    let mut client = client(replica).await;
    let (ip, port) = (backend.address.ip(), backend.address.port());
    let sid = client
        .register(&format!("REGISTER|{service}|{ip}|{port}|0"))
        .await;
    let route = format!("ROUTE|{sid}|{host}|/|{}", backend.url());
    client.gets(&route, "ROUTE_OK").await;
    (client, sid)
}

/// Somebody who asks again and again, and counts what is not answered with 200.
struct Visitor {
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    _asking: JoinSet<()>,
}

impl Visitor {
    fn of(proxy: &Proxy, host: &'static str) -> Self {
        let (asked, failed) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut asking = JoinSet::new();
        let (at, counts) = (proxy.at, (Arc::clone(&asked), Arc::clone(&failed)));
        asking.spawn(async move {
            loop {
                let answer = ask(at, host, "/").await;
                let is_fine = matches!(answer, Ok((200, ..)));
                counts.1.fetch_add(u64::from(!is_fine), Ordering::Relaxed);
                counts.0.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            asked,
            failed,
            _asking: asking,
        }
    }

    /// Waits for some more requests, none of which, nor any before, has failed.
    async fn is_content(&self) {
        let from = self.asked.load(Ordering::Relaxed);
        until("it asks on", async || {
            (self.asked.load(Ordering::Relaxed) > from + 50).then_some(())
        })
        .await;
        assert_eq!(self.failed.load(Ordering::Relaxed), 0);
    }
}

/// The Service by which Gateways reach a responder.
async fn responder(world: &World, setup: &Setup) {
    let at = setup.maintenance().unwrap();
    world
        .env
        .apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "page" },
            "spec": { "clusterIP": "None", "ports": [{ "name": "http", "port": 80, "targetPort": at.port() }] },
        }))
        .await;
    world
        .env
        .apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "page", "labels": { "kubernetes.io/service-name": "page" } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [at.ip()], "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "port": at.port() }],
        }))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_comes_changes_and_goes() {
    let Some((world, proxy)) = served().await else {
        return;
    };
    let product = Product::new(&world.env);
    let port = Port::reserve().unwrap();
    let mut setup = replica(&world, &product, 1).await;
    setup.responder = Some((proxy.ip, port.number).into());
    responder(&world, &setup).await;
    let replica = setup.start().await;
    let controller = world
        .controller(&product, "--gateway web --maintenance-service page:80")
        .await;
    let api = proxy.backend("api").await;
    let page = Backend::start(proxy.ip, "back soon", "200 OK").await;
    let (mut other, other_sid) = announced(&replica, "other", "other.example.com", &api).await;

    let mut client = self::client(&replica).await;
    let (ip, pages) = (proxy.ip, page.address.port());
    let register = format!("REGISTER|api|{ip}|{}|{pages}", api.address.port());
    let sid = client.register(&register).await;
    let route = format!("ROUTE|{sid}|{HOST},*.b.com|/v2|{}", api.url());
    client.gets(&route, "ROUTE_OK").await;
    client
        .gets(&format!("HEADER|{sid}|X-API-Version|2.0"), "HEADER_OK")
        .await;
    client
        .gets(&format!("OPTIONS|{sid}|timeout|60s"), "OPTIONS_OK")
        .await;
    let fine = (200, "api /v2/x");
    let head = until("the route has its header", async || {
        let head = proxy.answers(HOST, "/v2/x", fine).await;
        head.contains("x-api-version: 2.0").then_some(())
    });
    head.await;
    proxy.answers("x.b.com", "/v2/x", fine).await;
    let (status, ..) = ask(proxy.at, HOST, "/v2x").await.unwrap();
    assert_eq!(status, 404, "paths are whole segments");

    client.gets(&format!("MAINT_ENTER|{sid}"), "MAINT_OK").await;
    proxy.answers(HOST, "/v2/x", (503, "back soon /v2/x")).await;
    proxy
        .answers("other.example.com", "/", (200, "api /"))
        .await;
    drop(page);
    until("there is a plain page", async || {
        let (status, _, body) = ask(proxy.at, HOST, "/v2/x").await?;
        let plain = status == 503 && !body.contains("back soon");
        plain.then_some(()).ok_or(format!("{status} {body}"))
    })
    .await;
    client.gets(&format!("MAINT_EXIT|{sid}"), "MAINT_OK").await;
    proxy.answers(HOST, "/v2/x", fine).await;

    client.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;
    client.ended().await;
    until("its routes are gone", async || {
        let (status, ..) = ask(proxy.at, HOST, "/v2/x").await?;
        (status == 404).then_some(()).ok_or(status.to_string())
    })
    .await;
    other.gets(&format!("VALIDATE|{other_sid}"), "OK").await;
    controller.stop().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_crashes_cost_no_request_of_those_who_live() {
    let Some((world, proxy)) = served().await else {
        return;
    };
    let product = Product::new(&world.env);
    let mut first = replica(&world, &product, 1).await.start().await;
    let second = replica(&world, &product, 2).await.start().await;
    let controller = world.controller(&product, "--gateway web").await;
    let lives = proxy.backend("lives").await;
    let (_connection, sid) = announced(&first, "api", HOST, &lives).await;
    proxy.answers(HOST, "/", (200, "lives /")).await;
    let visitor = Visitor::of(&proxy, HOST);
    visitor.is_content().await;

    // The registry restarts, in order and not.
    for crashes in [false, true] {
        first = match crashes {
            false => first.stop().await,
            true => first.kill().await,
        }
        .start()
        .await;
        let mut again = client(&first).await;
        again.gets(&format!("RECONNECT|{sid}"), "OK").await;
        visitor.is_content().await;
    }
    // The replica that has the session is gone for good.
    first.kill().await;
    let mut again = client(&second).await;
    again.gets(&format!("RECONNECT|{sid}"), "OK").await;
    visitor.is_content().await;

    // A backend of the same service crashes: its connection ends with it.
    let crashes = proxy.backend("crashes").await;
    let (connection, _) = announced(&second, "api", "crash.example.com", &crashes).await;
    proxy
        .answers("crash.example.com", "/", (200, "crashes /"))
        .await;
    drop(connection);
    until("it is gone after its grace", async || {
        let (status, ..) = ask(proxy.at, "crash.example.com", "/").await?;
        (status == 404).then_some(()).ok_or(status.to_string())
    })
    .await;
    visitor.is_content().await;
    again.gets(&format!("VALIDATE|{sid}"), "OK").await;
    controller.stop().await;
    second.stop().await;
}
