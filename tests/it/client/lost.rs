//! Several servers, of which some do not answer.

use std::time::Duration;

use tunnel_registry::client::{Client, Event, Instance, LeaderType};

use super::relay::Relay;
use super::told::{next, short};
use crate::process::{Net, Setup, folder};

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    let (folder, net) = (folder(), Net::take());
    let registry = Setup::new(net, folder.path()).start().await;
    let dead = net.at(2, 8000);
    let urls = format!("http://{dead}, http://{}", registry.setup.listen);
    let client = Client::builder()
        .server(&urls)
        .patience(Duration::ZERO)
        .build()
        .unwrap();
    client.create("db", LeaderType::Oldest).await.unwrap();
    let kept = client.register("db", Instance::new("a:1")).await.unwrap();
    let mut watch = client.watch("db");
    assert_eq!(short(&next(&mut watch).await), "up a:1");
    kept.unregister().await.unwrap();
    // With nobody there it is said who was asked, and why nobody answered.
    registry.stop().await;
    let error = client.services().await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    let error = error.to_string();
    assert!(
        error.contains(&urls) && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_left_for_another() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let direct = Client::new(&format!("http://{}", registry.setup.listen)).unwrap();
    direct.create("db", LeaderType::Oldest).await.unwrap();
    let kept = direct.register("db", Instance::new("a:1")).await.unwrap();
    let (first, second) = (
        Relay::to(registry.setup.listen).await,
        Relay::to(registry.setup.listen).await,
    );
    let client = Client::builder()
        .server(&format!(
            "http://{},http://{}",
            first.address, second.address
        ))
        .timeout(Duration::from_secs(1))
        .silence(Duration::from_secs(3))
        .build()
        .unwrap();
    let mut watch = client.watch("db");
    while !matches!(next(&mut watch).await, Event::Current) {}
    first.hang();
    let lost = next(&mut watch).await;
    match &lost {
        Event::Lost(error) => assert!(error.to_string().contains("silent"), "{error}"),
        other => panic!("{other:?}"),
    }
    // The other one tells that nothing has changed, and what changes.
    assert_eq!(short(&next(&mut watch).await), "current");
    let meta = [("k".to_owned(), "y".to_owned())];
    kept.update(meta.into()).await.unwrap();
    let event = loop {
        // It is silent for long itself when nothing happens.
        match next(&mut watch).await {
            Event::Lost(_) | Event::Current => {}
            event => break event,
        }
    };
    assert_eq!(short(&event), "update a:1 y");
    assert_eq!(client.instances("db").await.unwrap().len(), 1);
    registry.stop().await;
}
