//! Without the Gateway API, without rights, without a Gateway.

use super::super::accounts::{Account, GATEWAY};
use super::super::cluster::Cluster;
use super::super::env::Env;
use super::super::product::Product;
use super::super::rights::granted;
use super::world::{ROUTES, World, install, is_so};
use crate::process::until;

const API: &str = "tunnel_registry_gateway_api";

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_api_may_come_later() {
    // Its definitions are those of a whole cluster.
    let cluster = Cluster::own().await;
    let world = World::of(Env::of(&cluster).await).await;
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    let text = world.says("one", "Ready", "False/GatewayApiMissing").await;
    assert!(text.ends_with("install the Gateway API"), "{text}");
    assert!(!is_so(&controller, API).await);
    if install(&cluster).await {
        world.counts(1, 1, 1).await;
        world.says("one", "RoutesAccepted", "Unknown/Pending").await;
        assert!(is_so(&controller, API).await);
    }
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_the_rights_that_it_ships_with_and_no_others() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    world.counts(1, 1, 1).await;
    world.says("one", "Ready", "False/Pending").await;
    world.end("one").await;
    world.counts(0, 0, 0).await;
    let granted = granted(GATEWAY, Account::Controller.name());
    until("all rights are used", async || {
        let deeds = world.env.deeds(Account::Controller);
        assert!(deeds.forbidden.is_empty(), "{deeds:?}");
        let unused: Vec<_> = granted.difference(&deeds.used).collect();
        match unused.is_empty() {
            true => Ok(()),
            false => Err(format!("{unused:?}")),
        }
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_may_come_later() {
    let Some(world) = World::start().await else {
        return;
    };
    world.revoke(ROUTES).await;
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    let text = world.says("one", "Ready", "False/Forbidden").await;
    assert!(text.contains("bind a Role"), "{text}");
    assert!(!is_so(&controller, API).await);
    world.grant(ROUTES).await;
    world.counts(1, 1, 1).await;
    world.says("one", "RoutesAccepted", "Unknown/Pending").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_that_is_told_and_without_the_flag_nothing_is() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let setup = world.controller(&product, "").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    until("it leads", async || {
        let leads = is_so(&setup, "tunnel_registry_controller_leader").await;
        leads.then_some(())
    })
    .await;
    let (_, text) = setup.admin("/metrics").await;
    assert!(!text.contains("tunnel_registry_gateway_"), "{text}");
    setup.stop().await;
    let controller = world.controller(&product, "--sessions").await;
    let text = world.says("one", "Ready", "False/NoGateway").await;
    assert!(text.contains("--gateway"), "{text}");
    world.counts(0, 0, 0).await;
    controller.stop().await;
}
