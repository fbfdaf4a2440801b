use http::StatusCode;

use crate::process::{fetch, until};
use crate::traefik::{Client, World};

const HERE: (&str, &str) = ("a.example.com", "/");

#[tokio::test]
async fn a_shutdown_takes_the_routes_at_once() {
    // The grace is not what takes them.
    let Some(world) = World::with("--session-grace=1h").await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.serving("api", &backend, HERE.0).await;
    world.reaches(HERE, "api").await;
    assert_eq!(session.ask("SHUTDOWN", "").await, "GOODBYE");
    // The last route of all: an empty document, which Traefik must take.
    world.answers(HERE, 404).await;
    let (status, body) = fetch(world.registry.setup.listen, "/traefik")
        .await
        .unwrap();
    assert_eq!((status, body.as_str()), (StatusCode::OK, "{}"));
    world.is_content();
}

#[tokio::test]
async fn a_lost_session_is_served_through_its_grace() {
    let Some(world) = World::with("--session-grace=1h").await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let session = world.serving("api", &backend, HERE.0).await;
    world.reaches(HERE, "api").await;
    drop(session);
    until("the registry knows", async || {
        let (_, metrics) = world.registry.admin("/metrics").await;
        let silent = "tunnel_registry_sessions{state=\"silent\"} 1";
        metrics.contains(silent).then_some(())
    })
    .await;
    let mut other = world.session("web", &backend).await;
    other.route("b.example.com", "/", &backend.url()).await;
    // Traefik knows all that there is to know.
    world.reaches(("b.example.com", "/"), "api").await;
    assert_eq!(world.visit(HERE.0, HERE.1).await.from(), Some("api"));
    world.is_content();
}

#[tokio::test]
async fn a_lost_session_is_gone_after_its_grace() {
    let Some(world) = World::with("--session-grace=1s").await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let session = world.serving("api", &backend, HERE.0).await;
    world.reaches(HERE, "api").await;
    drop(session);
    // The backend lives: it is the session that is gone.
    world.answers(HERE, 404).await;
    let said = world.registry.process.said();
    assert!(said.contains("Session expired: api at"), "{said}");
    world.is_content();
}

#[tokio::test]
async fn a_crashed_backend_goes_after_its_grace_and_costs_the_others_nothing() {
    let Some(world) = World::with("--session-grace=1s").await else {
        return;
    };
    let (one, two) = (world.backend(3, "one").await, world.backend(4, "two").await);
    let mut first = world.serving("api", &one, HERE.0).await;
    // At a place of its own, to see when the session is gone.
    let alone = ("b.example.com", "/");
    first.route(alone.0, alone.1, &one.url()).await;
    let _second = world.serving("api", &two, HERE.0).await;
    world.reaches(HERE, "one").await;
    world.reaches(HERE, "two").await;
    world.reaches(alone, "one").await;
    let regular = world.regular(HERE.0);
    regular.asks(10).await;
    drop(one);
    world.answers(alone, 502).await;
    regular.asks(10).await;
    drop(first);
    world.answers(alone, 404).await;
    regular.asks(10).await;
    // What was under way at that very moment may have failed; nothing after it.
    let failures = regular.failures().await;
    assert!(failures.len() <= 1, "{failures:#?}");
    world.is_content();
}

#[tokio::test]
async fn a_restart_of_the_registry_costs_no_request() {
    let Some(mut world) = World::with("--session-grace=1h").await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let session = world.serving("api", &backend, HERE.0).await;
    world.reaches(HERE, "api").await;
    let regular = world.regular(HERE.0);
    regular.asks(5).await;
    world.registry.process.kill().await;
    regular.asks(5).await;
    let setup = world.registry.setup.clone();
    world.registry = setup.start().await;

    let mut again = Client::connect(world.sessions()).await;
    let reply = again.line(&format!("RECONNECT|{}", session.session)).await;
    assert_eq!(reply, "OK");
    again.session = session.session.clone();
    // What is new arrives, so Traefik listens to it again.
    again.route("b.example.com", "/", &backend.url()).await;
    world.reaches(("b.example.com", "/"), "api").await;
    regular.asks(5).await;
    assert_eq!(regular.failures().await, Vec::<String>::new());
    world.is_content();
}
