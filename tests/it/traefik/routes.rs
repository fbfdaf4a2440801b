use http::StatusCode;

use crate::process::{fetch, folder, until};
use crate::traefik::World;
use crate::traefik::backend::header;

#[tokio::test]
async fn a_request_goes_to_the_closest_place() {
    let Some(world) = World::new().await else {
        return;
    };
    let names = ["web", "v2", "wild", "deep", "exact", "odd"];
    let mut backends = Vec::new();
    let mut sessions = Vec::new();
    for (n, name) in (3..).zip(names) {
        let backend = world.backend(n, name).await;
        sessions.push(world.session(name, &backend).await);
        backends.push(backend);
    }
    for (name, domains, path) in [
        ("web", "a.example.com, A2.example.com", "/"),
        ("v2", "a.example.com", "/v2"),
        ("wild", "*.b.example.com", "/"),
        ("deep", "*.c.b.example.com", "/"),
        ("exact", "x.b.example.com", "/here"),
        ("odd", "o.example.com", "/a%20b%60%29+"),
    ] {
        let n = names.iter().position(|other| *other == name).unwrap();
        let url = backends[n].url();
        sessions[n].route(domains, path, &url).await;
        assert_eq!(sessions[n].ask("VALIDATE", "").await, "OK");
    }
    // The last one that was announced: then all of them are there.
    world
        .reaches(("o.example.com", "/a%20b%60%29+"), "odd")
        .await;
    for (host, path, backend) in [
        ("a.example.com", "/", Some("web")),
        ("A.EXAMPLE.COM:8080", "/x?y=/v2", Some("web")),
        ("a2.example.com", "/v2", Some("web")),
        ("a.example.com", "/v2", Some("v2")),
        ("a.example.com", "/v2/", Some("v2")),
        ("a.example.com", "/v2/x", Some("v2")),
        ("a.example.com", "/v2?x", Some("v2")),
        ("a.example.com", "/v2x", Some("web")),
        ("a.example.com", "/V2", Some("web")),
        ("x.y.b.example.com", "/", Some("wild")),
        ("z.c.b.example.com", "/here", Some("deep")),
        ("c.b.example.com", "/", Some("wild")),
        ("x.b.example.com", "/here/too", Some("exact")),
        ("x.b.example.com", "/there", Some("wild")),
        ("b.example.com", "/", None),
        ("xb.example.com", "/", None),
        ("o.example.com", "/a%20b%60%29+/c", Some("odd")),
        ("o.example.com", "/a%20b%60%29+c", None),
        ("nobody.example.com", "/", None),
    ] {
        let answer = world.visit(host, path).await;
        assert_eq!(answer.from(), backend, "{host}{path}: {answer:?}");
        if backend.is_none() {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
        } else {
            // As the visitor has said it.
            assert_eq!(header(&answer.body, "host"), Some(host));
        }
    }
    world.is_content();
}

#[tokio::test]
async fn the_path_of_a_backend_comes_first() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.session("api", &backend).await;
    let url = backend.url() + "/base/";
    session.route("a.example.com", "/v2", &url).await;
    let answer = world.reaches(("a.example.com", "/v2/x%20y"), "api").await;
    assert!(
        answer.body.starts_with("GET /base/v2/x%20y HTTP/1.1\r\n"),
        "{}",
        answer.body
    );
    world.is_content();
}

#[tokio::test]
async fn one_service_does_not_take_the_place_of_another() {
    let Some(world) = World::new().await else {
        return;
    };
    let (first, second) = (world.backend(3, "api").await, world.backend(4, "web").await);
    let _api = world.serving("api", &first, "a.example.com").await;
    world.reaches(("a.example.com", "/"), "api").await;
    let mut web = world.session("web", &second).await;
    let route = format!("a.example.com|/|{}", second.url());
    let reply = web.ask("ROUTE", &route).await;
    assert!(reply.starts_with("ERROR|Route conflict: "), "{reply}");
    // Below it there is room, as beside it.
    web.route("a.example.com,b.example.com", "/web", &second.url())
        .await;
    world.reaches(("b.example.com", "/web"), "web").await;
    world.reaches(("a.example.com", "/web"), "web").await;
    world.reaches(("a.example.com", "/"), "api").await;
    world.is_content();
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let folder = folder();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "a-token\n").unwrap();
    let flags = format!("--token-file={}", file.display());
    let Some(world) = World::with(&flags).await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let _session = world.serving("api", &backend, "a.example.com").await;
    let (status, body) = fetch(world.registry.setup.listen, "/traefik")
        .await
        .unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    // Traefik has none, and says what it was answered.
    let told = async || {
        let said = world.traefik.said();
        said.contains("received non-ok response code: 401")
            .then_some(())
    };
    until("Traefik was refused", told).await;
    assert_eq!(world.visit("a.example.com", "/").await.status, 404);
}
