//! Registrations and watches over a registry that goes and comes.

use std::fs;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, timeout};
use tunnel_registry::client::{Client, Event, Instance, LeaderType, Register, Registration, State};

use super::told::{are, next, short};
use crate::process::{Net, PATIENCE, Setup, folder, until};

/// After so long without a heartbeat an instance goes.
const TTL: Duration = Duration::from_secs(10);

fn client_of(setup: &Setup) -> Client {
    Client::new(&format!("http://{}", setup.listen)).unwrap()
}

/// Often, so that tests are quick.
fn register(client: &Client, addr: &str) -> Register {
    client
        .register("db", Instance::new(addr).with_meta("k", "x"))
        .create(LeaderType::Oldest)
        .every(Duration::from_millis(200))
}

async fn reaches(registration: &Registration, what: impl FnMut(&State) -> bool) {
    let mut states = registration.states();
    let reached = timeout(PATIENCE, states.wait_for(what)).await;
    reached.expect("the state stays as it is").unwrap();
}

fn is_failing(state: &State) -> bool {
    matches!(state, State::Failing(error) if error.is_temporary())
}

#[tokio::test]
async fn a_kill_is_no_flap_and_everything_goes_on() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let client = client_of(&registry.setup);
    let kept = register(&client, "a:1").await.unwrap();
    let mut watch = client.watch("db");
    are(&mut watch, &["up a:1 x", "leader a:1", "current"]).await;
    let mut leaders = client.follow_leader("db");
    assert_eq!(next(&mut leaders).await.unwrap().addr, "a:1");
    let before = client.instances("db").await.unwrap();

    let setup = registry.kill().await;
    are(&mut watch, &["lost"]).await;
    reaches(&kept, is_failing).await;
    // What was told stands.
    assert_eq!(watch.present().leader(), before.first());
    let registry = setup.start().await;
    // Nothing but that it is current again.
    are(&mut watch, &["current"]).await;
    reaches(&kept, |state| *state == State::Registered).await;
    assert_eq!(client.instances("db").await.unwrap(), before);
    kept.update([("k".to_owned(), "y".to_owned())].into())
        .await
        .unwrap();
    are(&mut watch, &["update a:1 y"]).await;
    // Who follows the leader has heard of no other meanwhile.
    assert_eq!(next(&mut leaders).await.unwrap().meta["k"], "y");

    // Dropped, its task ends; the registry knows it until it has been silent.
    let mut states = kept.states();
    drop(kept);
    let ended = async { while states.changed().await.is_ok() {} };
    timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(client.instances("db").await.unwrap().len(), 1);
    registry.stop().await;
}

#[tokio::test]
async fn an_outage_longer_than_instances_last_takes_only_the_dead() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let client = client_of(&registry.setup);
    let kept = register(&client, "a:1").await.unwrap();
    client
        .register_once("db", &Instance::new("dead:1"))
        .await
        .unwrap();
    let mut watch = client.watch("db");
    are(
        &mut watch,
        &["up a:1 x", "up dead:1", "leader a:1", "current"],
    )
    .await;

    let setup = registry.kill().await;
    are(&mut watch, &["lost"]).await;
    reaches(&kept, is_failing).await;
    let end = Instant::now() + TTL + TTL / 10;
    until(
        "nobody was heard for longer than instances last",
        async || (Instant::now() > end).then_some(()),
    )
    .await;
    let registry = setup.start().await;
    are(&mut watch, &["current", "down dead:1"]).await;
    assert_eq!(kept.state(), State::Registered);
    registry.stop().await;
}

#[tokio::test]
async fn a_registry_that_has_forgotten_everything_is_told_again() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let client = client_of(&registry.setup);
    let kept = register(&client, "a:1").await.unwrap();
    let unmade = client
        .register("db", Instance::new("b:1"))
        .every(Duration::from_millis(200))
        .await
        .unwrap();
    let mut watch = client.watch("db");
    are(&mut watch, &["up a:1 x", "up b:1", "leader a:1", "current"]).await;
    let setup = registry.kill().await;
    reaches(&kept, is_failing).await;
    reaches(&unmade, is_failing).await;
    fs::remove_file(folder.path().join("registry.redb")).unwrap();
    let registry = setup.start().await;
    reaches(&kept, |state| *state == State::Registered).await;
    reaches(&unmade, |state| *state == State::Registered).await;
    until("both are registered", async || {
        let all = client.instances("db").await.unwrap_or_default();
        (all.len() == 2).then_some(())
    })
    .await;
    let truth = client.instances("db").await.unwrap();
    // Whatever the watch found meanwhile, it ends with what is true.
    let told = async {
        loop {
            let all: Vec<Instance> = watch.present().instances().into_iter().cloned().collect();
            if all == truth && watch.present().leader() == truth.first() {
                return;
            }
            next(&mut watch).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    registry.stop().await;
}

#[tokio::test]
async fn one_may_begin_before_the_registry_does() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let client = client_of(&setup);
    let mut kept = register(&client, "a:1").start();
    let mut watch = client.watch("db");
    let mut leaders = client.follow_leader("db");
    are(&mut watch, &["lost"]).await;
    reaches(&kept, is_failing).await;
    let registry = setup.start().await;
    timeout(PATIENCE, kept.registered()).await.unwrap().unwrap();
    let mut told = Vec::new();
    while watch.present().leader().is_none() {
        told.push(short(&next(&mut watch).await));
    }
    told.retain(|event| event != "current");
    assert_eq!(told, ["up a:1 x", "leader a:1"]);
    let mut leader = next(&mut leaders).await;
    if leader.is_none() {
        leader = next(&mut leaders).await;
    }
    assert_eq!(leader.unwrap().addr, "a:1");
    registry.stop().await;
}

#[tokio::test]
async fn what_can_never_be_told_is_an_error_and_the_end() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let client = client_of(&registry.setup);
    let mut watch = client.watch("No Name");
    let ended = timeout(PATIENCE, watch.next()).await.unwrap();
    assert!(ended.unwrap().is_err());
    assert!(timeout(PATIENCE, watch.next()).await.unwrap().is_none());
    // The admin port has no services.
    let wrong = Client::new(&format!("http://{}", registry.setup.admin)).unwrap();
    let error = wrong.instances("db").await.unwrap_err().to_string();
    assert!(error.contains("--listen"), "{error}");
    let ended = timeout(PATIENCE, wrong.watch("db").next()).await.unwrap();
    assert!(!matches!(ended, Some(Ok(Event::Current))), "{ended:?}");
    registry.stop().await;
}
