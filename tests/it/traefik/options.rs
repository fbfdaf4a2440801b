use bytes::Bytes;
use http::Method;

use crate::process::until;
use crate::traefik::World;
use crate::traefik::backend::BIG;
use crate::traefik::visitor::{ask, websocket};

const HERE: (&str, &str) = ("a.example.com", "/");
const HOST: &str = "a.example.com";

#[tokio::test]
async fn headers_are_added_to_the_responses_of_all_routes() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.serving("api", &backend, HOST).await;
    session.does("HEADER", "X-API-Version|1.0").await;
    session.does("HEADER", "X.Odd!|`{{a}}` \"b\": <c>").await;
    session.does("HEADER", "x-api-version|2.0").await;
    session.route("b.example.com", "/", &backend.url()).await;
    for host in [HOST, "b.example.com"] {
        let answer = world
            .visited("the headers are there", (host, "/"), |answer| {
                answer.header("x-api-version") == Some("2.0")
            })
            .await;
        assert_eq!(answer.from(), Some("api"));
        assert_eq!(answer.header("x.odd!"), Some("`{{a}}` \"b\": <c>"));
    }
    world.is_content();
}

#[tokio::test]
async fn websockets_pass_unless_they_are_not_to() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.session("api", &backend).await;
    let url = format!("ws://{}", backend.address);
    session.route(HOST, "/", &url).await;
    let echoes = async |text| {
        until("a websocket echoes", async || {
            websocket(world.proxy(), HOST, text).await
        })
        .await
    };
    assert_eq!(echoes("hello").await, "hello");
    // With everything in between that there can be.
    for (key, value) in [
        ("websocket", "true"),
        ("compression", "true"),
        ("max_body_size", "1k"),
        ("timeout", "10s"),
    ] {
        session.option(key, value).await;
    }
    session.does("HEADER", "X-A|1").await;
    let other = world.backend(4, "api").await;
    let _other = world.serving("api", &other, HOST).await;
    world
        .visited("the header is there", HERE, |answer| {
            answer.header("x-a").is_some()
        })
        .await;
    assert_eq!(echoes("again").await, "again");
    session.option("websocket", "false").await;
    until(
        "websockets are answered as other requests",
        async || match websocket(world.proxy(), HOST, "hello").await {
            Ok(_) => Err("there is one".to_owned()),
            Err(head) if head.starts_with("HTTP/1.1 200 ") => Ok(()),
            Err(head) => Err(head),
        },
    )
    .await;
    world.is_content();
}

#[tokio::test]
async fn a_timeout_ends_requests_and_nothing_else() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.session("api", &backend).await;
    session.option("timeout", "500ms").await;
    session.route(HOST, "/", &backend.url()).await;
    world.reaches(HERE, "api").await;
    assert_eq!(world.visit(HOST, "/slow").await.status, 504);
    world.reaches(HERE, "api").await;
    world.is_content();
}

#[tokio::test]
async fn responses_are_compressed_on_demand() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.serving("api", &backend, HOST).await;
    let encoding = async || {
        let (place, gzip) = ((HOST, "/big"), [("accept-encoding", "gzip")]);
        let answer = ask(world.proxy(), Method::GET, place, &gzip, Bytes::new()).await;
        let answer = answer.unwrap();
        let encoding = answer.header("content-encoding").map(str::to_owned);
        (answer.from().is_some()).then_some((encoding, answer.body.len()))
    };
    assert_eq!(until("it is served", encoding).await, (None, BIG));
    session.option("compression", "true").await;
    let compressed = async || {
        let (encoding, length) = encoding().await?;
        encoding.map(|encoding| (encoding, length))
    };
    let (encoding, length) = until("it is compressed", compressed).await;
    assert_eq!(encoding, "gzip");
    assert!(length < BIG / 10, "{length}");
    world.is_content();
}

#[tokio::test]
async fn bodies_have_a_bound() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = world.session("api", &backend).await;
    session.option("max_body_size", "1k").await;
    session.route(HOST, "/", &backend.url()).await;
    world.reaches(HERE, "api").await;
    for (bytes, status) in [(1_024, 200), (1_025, 413)] {
        let body = Bytes::from(vec![b'x'; bytes]);
        let answer = ask(world.proxy(), Method::POST, HERE, &[], body).await;
        assert_eq!(answer.unwrap().status, status, "{bytes}");
    }
    world.is_content();
}

#[tokio::test]
async fn a_backend_that_is_sick_gets_no_requests() {
    let Some(world) = World::new().await else {
        return;
    };
    let (one, two) = (world.backend(3, "one").await, world.backend(4, "two").await);
    let mut first = world.serving("api", &one, HOST).await;
    first.option("health_check_path", "/healthz").await;
    first.option("health_check_interval", "100ms").await;
    let _second = world.serving("api", &two, HOST).await;
    world.reaches(HERE, "two").await;
    world.reaches(HERE, "one").await;
    two.is_sick(true);
    let look = async || {
        // In turn, so that of two one would be the other.
        let answers = [world.visit(HOST, "/").await, world.visit(HOST, "/").await];
        let all = answers.iter().all(|answer| answer.from() == Some("one"));
        all.then_some(())
    };
    until("only the other is asked", look).await;
    assert!(two.checks() > 0);
    one.is_sick(true);
    world.answers(HERE, 503).await;
    two.is_sick(false);
    world.reaches(HERE, "two").await;
    world.is_content();
}
