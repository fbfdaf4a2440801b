use std::net::SocketAddr;

use crate::traefik::backend::header;
use crate::traefik::{Answer, Backend, Client, World};

const HERE: (&str, &str) = ("a.example.com", "/");

/// A session with a page for maintenance at a port of its host.
async fn with_page(world: &World, backend: &Backend, port: u16) -> Client {
    let mut session = Client::register(world.sessions(), "api", backend, port).await;
    session.route(HERE.0, "/", &backend.url()).await;
    world.reaches(HERE, "api").await;
    session
}

fn page_of(backend: &Backend) -> SocketAddr {
    (backend.address.ip(), 9001).into()
}

fn is_page(answer: &Answer) -> bool {
    answer.status == 503 && answer.body.starts_with("GET /")
}

#[tokio::test]
async fn maintenance_shows_the_page_and_leaves_others_alone() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let _page = Backend::start(page_of(&backend), "page").await;
    let mut session = with_page(&world, &backend, 9001).await;
    session.does("HEADER", "X-A|1").await;
    let web = world.backend(4, "web").await;
    let _web = world.serving("web", &web, "b.example.com").await;

    for _ in 0..2 {
        assert_eq!(session.ask("MAINT_ENTER", "").await, "MAINT_OK");
    }
    let place = ("a.example.com", "/x?y=z");
    let answer = world.visited("the page is shown", place, is_page).await;
    assert!(answer.body.starts_with("GET /x?y=z HTTP/1.1\r\n"));
    assert_eq!(header(&answer.body, "host"), Some("a.example.com"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("x-a"), Some("1"));
    // It is not the backend's own answer.
    assert_eq!(answer.from(), None);
    world.reaches(("b.example.com", "/"), "web").await;
    // A route that comes later is covered, too.
    session.route("c.example.com", "/", &backend.url()).await;
    let later = ("c.example.com", "/");
    world.visited("the page is shown", later, is_page).await;

    assert_eq!(session.ask("MAINT_EXIT", "").await, "MAINT_OK");
    world.reaches(HERE, "api").await;
    world.reaches(later, "api").await;
    world.is_content();
}

#[tokio::test]
async fn without_a_page_maintenance_is_503_all_the_same() {
    let Some(world) = World::new().await else {
        return;
    };
    let backend = world.backend(3, "api").await;
    let mut session = with_page(&world, &backend, 9001).await;
    session.does("MAINT_ENTER", "").await;
    // Nobody listens at the page's port.
    let answer = world.answers(HERE, 503).await;
    assert!(answer.body.contains("Service unavailable"), "{answer:?}");
    let page = Backend::start(page_of(&backend), "page").await;
    world.visited("the page is shown", HERE, is_page).await;
    drop(page);
    world
        .visited("the page is gone", HERE, |answer| {
            answer.body.contains("Service unavailable")
        })
        .await;
    world.is_content();
}

#[tokio::test]
async fn one_of_two_in_maintenance_is_not_asked() {
    let Some(world) = World::new().await else {
        return;
    };
    let (one, two) = (world.backend(3, "one").await, world.backend(4, "two").await);
    let mut first = world.serving("api", &one, HERE.0).await;
    let mut second = world.serving("api", &two, HERE.0).await;
    world.reaches(HERE, "one").await;
    world.reaches(HERE, "two").await;
    let regular = world.regular(HERE.0);
    first.does("MAINT_ENTER", "").await;
    // A sign that Traefik knows.
    second.does("HEADER", "X-Sign|1").await;
    let signed = |answer: &Answer| answer.header("x-sign").is_some();
    world.visited("Traefik knows", HERE, signed).await;
    for _ in 0..6 {
        assert_eq!(world.visit(HERE.0, HERE.1).await.from(), Some("two"));
    }
    regular.asks(10).await;
    assert_eq!(regular.failures().await, Vec::<String>::new());
    second.does("MAINT_ENTER", "").await;
    world.answers(HERE, 503).await;
    first.does("MAINT_EXIT", "").await;
    world.reaches(HERE, "one").await;
    world.is_content();
}
