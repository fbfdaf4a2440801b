//! gost's tunnels, shown as services.

use serde_json::json;
use tunnel_registry::server::auth::{Access, Tokens};

use super::env::{Env, Plan, failure, instance};
use super::places::{Place, on_every_store};
use crate::testenv::{CONNECTOR, TUNNEL, service};

on_every_store! {
    a_tunnel_is_followed_as_a_service_is
    a_service_goes_before_a_tunnel_of_its_name
}

const STREAM: Option<&str> = Some("text/event-stream");

fn path(rest: &str) -> String {
    format!("/services/{TUNNEL}{rest}")
}

/// A second connector of the tunnel, at the same server.
fn other(body: &str) -> String {
    body.replace(CONNECTOR, "a6c0b4bd-30a6-4bd0-9c38-2b8bb2ba3d9c")
}

async fn a_tunnel_is_followed_as_a_service_is(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    let unknown = (404, "object_not_found".to_owned());
    assert_eq!(env.fails("GET", &path("/instances"), "").await, unknown);
    let mut early = env.subscribe(&path(""), None).await;
    early.are(&["current"]).await;

    let body = service("tcp", "10.42.0.100:80");
    env.done("POST", "/sd", &body).await;
    early.are(&["up 10.42.0.100:80"]).await;
    let all = env.done("GET", &path("/instances"), "").await;
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["proto"], "tcp");
    assert_eq!(all[0]["meta"]["connectors"], "1");
    // Who subscribes now is told what is there, and then the same as everybody.
    let mut late = env.subscribe(&path("/instances"), STREAM).await;
    late.are(&["up 10.42.0.100:80"]).await;
    env.done("POST", "/sd", &other(&body)).await;
    for events in [&mut early, &mut late] {
        let event = events.event().await;
        assert_eq!(event["kind"], "update");
        assert_eq!(event["instance"]["meta"]["connectors"], "2");
        assert_eq!(event["instance"]["id"], all[0]["id"]);
    }
    env.done("DELETE", "/sd", &body).await;
    env.done("DELETE", "/sd", &other(&body)).await;
    // What went between two looks may be told at once.
    let mut last = late.short().await;
    while last.starts_with("update") {
        last = late.short().await;
    }
    assert_eq!(last, "down 10.42.0.100:80");

    // It is to be read only, and has no leader.
    let (write, body) = instance(TUNNEL, "10.0.0.66:80", "");
    assert_eq!(env.fails("PUT", &write, &body).await, unknown);
    assert_eq!(env.fails("DELETE", &path(""), "").await, unknown);
    assert_eq!(env.fails("GET", &path("/leader"), "").await, unknown);
}

async fn a_service_goes_before_a_tunnel_of_its_name(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("POST", "/sd", &service("tcp", "10.42.0.100:80"))
        .await;
    let mut events = env.subscribe(&path("/instances"), STREAM).await;
    events.are(&["up 10.42.0.100:80"]).await;
    env.done("PUT", &path(""), "{}").await;
    events.are(&["down 10.42.0.100:80"]).await;
    env.register(TUNNEL, "10.0.0.66:80", "").await;
    events.are(&["up 10.0.0.66:80"]).await;
    assert_eq!(env.addrs(TUNNEL).await, ["10.0.0.66:80"]);
    // And gost is told of the tunnel all the same.
    let get = format!("/sd?name={TUNNEL}");
    let found = env.done("GET", &get, "").await;
    assert_eq!(found["services"][0]["address"], "10.42.0.100:80");
    env.done("DELETE", &path(""), "").await;
    events
        .are(&["down 10.0.0.66:80", "up 10.42.0.100:80"])
        .await;
}

#[tokio::test]
async fn tunnels_are_not_for_those_without_the_token() {
    let env = Env::one(Plan {
        access: Access::tokens(Tokens::from_environment("secret").unwrap()),
        ..Plan::usual()
    })
    .await;
    let token = [("authorization", "Bearer secret")];
    let body = service("tcp", "10.42.0.100:80");
    let made = env.http().await.send("POST", "/sd", &token, &body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let strange = env.send("GET", &path("/instances"), "").await;
    assert_eq!(failure(&strange).0, 404);
    let known = env
        .http()
        .await
        .send("GET", &path("/instances"), &token, "")
        .await;
    let known: serde_json::Value = serde_json::from_str(&known.body).unwrap();
    assert_eq!(known[0]["addr"], json!("10.42.0.100:80"));
    let mut events = env.subscribe(&path(""), None).await;
    events.are(&["current"]).await;
}
