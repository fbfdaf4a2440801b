//! Requests through a real Traefik that has the API server's Gateway API for its
//! provider. Skipped, with a line that says so, without a Traefik.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::super::product::Product;
use super::proxy::{Backend, ask, served};
use crate::process::until;

fn at(domain: &str, path: &str, backend: &str) -> Value {
    json!([{ "domains": [domain], "path": path, "backend": backend }])
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_find_their_backends() {
    let Some((world, proxy)) = served().await else {
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
    let Some((world, proxy)) = served().await else {
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
    let Some((world, proxy)) = served().await else {
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
    let Some((world, proxy)) = served().await else {
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
