//! What Kubernetes' garbage collector takes with a session, without a controller.

use k8s_openapi::api::core::v1::Service;

use super::super::cluster::lent;
use super::super::env::Env;
use super::super::garbage::GarbageCollector;
use super::super::product::Product;
use super::world::{World, install};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_takes_what_is_its_own_with_it_while_no_controller_runs() {
    let cluster = lent().await;
    if !install(&cluster).await {
        return;
    }
    let Some(_collector) = GarbageCollector::start(&cluster).await else {
        return;
    };
    let world = World::of(Env::of(&cluster).await).await;
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    for n in 1..=2 {
        let backend = format!("http://10.0.0.{n}:9000");
        world
            .serve(&format!("s{n}"), "api", "a.example.com", &backend)
            .await;
    }
    world.counts(1, 2, 2).await;
    crate::process::until("the Service has both owners", async || {
        let service = world.made::<Service>().await.remove(0);
        (service.metadata.owner_references.unwrap().len() == 2).then_some(())
    })
    .await;
    controller.stop().await;
    world.end("s1").await;
    world.counts(1, 1, 1).await;
    assert!(world.route_of("s2").await.is_some());
    world.end("s2").await;
    world.counts(0, 0, 0).await;
}
