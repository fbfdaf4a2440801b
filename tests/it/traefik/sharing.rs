use std::collections::BTreeMap;

use crate::traefik::{Answer, World};

const HERE: (&str, &str) = ("a.example.com", "/");

/// Who answers how many of so many requests.
async fn shares(world: &World, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = world.visit(HERE.0, HERE.1).await;
        let name = answer.from().unwrap_or_else(|| panic!("{answer:?}"));
        *shares.entry(name.to_owned()).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn blue_gives_way_to_green_without_a_failure() {
    let Some(world) = World::new().await else {
        return;
    };
    let blue = world.backend(3, "blue").await;
    let mut old = world.serving("api", &blue, HERE.0).await;
    world.reaches(HERE, "blue").await;
    let regular = world.regular(HERE.0);
    let green = world.backend(4, "green").await;
    let mut new = world.serving("api", &green, HERE.0).await;
    world.reaches(HERE, "green").await;
    // Both at once, in turn.
    world.reaches(HERE, "blue").await;
    assert_eq!(old.ask("SHUTDOWN", "").await, "GOODBYE");
    new.does("HEADER", "X-Sign|1").await;
    let signed = |answer: &Answer| answer.header("x-sign").is_some();
    world.visited("Traefik knows", HERE, signed).await;
    assert_eq!(
        shares(&world, 6).await,
        BTreeMap::from([("green".into(), 6)])
    );
    drop(blue);
    regular.asks(5).await;
    assert_eq!(regular.failures().await, Vec::<String>::new());
    world.is_content();
}

#[tokio::test]
async fn a_canary_gets_its_share() {
    let Some(world) = World::new().await else {
        return;
    };
    let (stable, canary) = (
        world.backend(3, "stable").await,
        world.backend(4, "canary").await,
    );
    let mut first = world.session("api", &stable).await;
    first.option("weight", "9").await;
    first.route(HERE.0, HERE.1, &stable.url()).await;
    let mut second = world.serving("api", &canary, HERE.0).await;
    world.reaches(HERE, "canary").await;
    world.reaches(HERE, "stable").await;
    let shared = shares(&world, 100).await;
    // Traefik deals out exactly; where in its round it was is open.
    assert!((9..=11).contains(&shared["canary"]), "{shared:?}");

    for (weight, servers) in [("0", vec!["stable"]), ("9", vec!["canary", "stable"])] {
        second.option("weight", weight).await;
        let sign = format!("X-Sign|{weight}");
        first.does("HEADER", &sign).await;
        let signed = |answer: &Answer| answer.header("x-sign") == Some(weight);
        world.visited("Traefik knows", HERE, signed).await;
        let shared = shares(&world, 20).await;
        assert_eq!(shared.keys().collect::<Vec<_>>(), servers, "{shared:?}");
    }
    // With none that is to be asked there is the responder.
    first.option("weight", "0").await;
    second.option("weight", "0").await;
    let answer = world.answers(HERE, 503).await;
    assert!(answer.body.contains("Service unavailable"), "{answer:?}");
    world.is_content();
}

#[tokio::test]
async fn who_refuses_connections_fails_no_request() {
    let Some(world) = World::new().await else {
        return;
    };
    let (one, two) = (world.backend(3, "one").await, world.backend(4, "two").await);
    let _first = world.serving("api", &one, HERE.0).await;
    let _second = world.serving("api", &two, HERE.0).await;
    world.reaches(HERE, "one").await;
    world.reaches(HERE, "two").await;
    // Its session goes on.
    drop(two);
    assert_eq!(
        shares(&world, 10).await,
        BTreeMap::from([("one".into(), 10)])
    );
    world.is_content();
}
