//! Streams of events.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tunnel_registry::discoverd::hub::BUFFER;
use tunnel_registry::server;

use super::env::{Env, Plan};
use super::places::{Place, on_every_store};
use crate::testenv::PATIENCE;

on_every_store! {
    first_what_is_there_then_every_change
    an_event_has_what_clients_look_for
    who_is_silent_goes_and_who_lives_stays
    one_that_does_not_read_is_ended_and_delays_nobody
}

const STREAM: Option<&str> = Some("text/event-stream");

async fn first_what_is_there_then_every_change(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", "{}").await;
    for addr in ["b:1", "a:1"] {
        env.register("db", addr, "x").await;
    }
    env.done("PUT", "/services/db/meta", r#"{"data":{"a":1},"index":0}"#)
        .await;
    // Any `Accept` will do.
    let mut all = env.subscribe("/services/db", None).await;
    all.are(&["up b:1 x", "up a:1 x", "leader b:1 x"]).await;
    all.are(&[r#"service_meta  {"a":1}"#, "current"]).await;
    let mut instances = env.subscribe("/services/db/instances", STREAM).await;
    instances.are(&["up b:1 x", "up a:1 x"]).await;
    let mut leaders = env.subscribe("/services/db/leader", STREAM).await;
    leaders.are(&["leader b:1 x"]).await;

    // Heartbeats are no events; other attributes are one.
    for _ in 0..3 {
        env.register("db", "b:1", "x").await;
    }
    env.register("db", "a:1", "y").await;
    // The oldest goes, and another leads: each once.
    env.unregister("db", "b:1").await;
    env.register("db", "b:1", "x").await;
    env.unregister("db", "a:1").await;
    env.done("DELETE", "/services/db", "").await;
    let instance = [
        "update a:1 y",
        "down b:1 x",
        "up b:1 x",
        "down a:1 y",
        "down b:1 x",
    ];
    instances.are(&instance).await;
    leaders
        .are(&["leader a:1 y", "leader b:1 x", "leader"])
        .await;
    all.are(&["update a:1 y", "down b:1 x", "leader a:1 y", "up b:1 x"])
        .await;
    all.are(&["down a:1 y", "leader b:1 x", "down b:1 x", "leader"])
        .await;

    // Who subscribes to what is not there is told when it is.
    env.done("PUT", "/services/db", "{}").await;
    env.register("db", "c:1", "").await;
    all.are(&["up c:1", "leader c:1"]).await;
}

async fn an_event_has_what_clients_look_for(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", r#"{"leader_type":"manual"}"#)
        .await;
    let mut events = env.subscribe("/services/db", STREAM).await;
    events.are(&["current"]).await;
    env.register("db", "a:1", "x").await;
    let event = events.event().await;
    let listed = env.done("GET", "/services/db/instances", "").await;
    let expected = serde_json::json!({ "service": "db", "kind": "up", "instance": listed[0] });
    assert_eq!(event, expected);
    // Both change in one write, the meta data first.
    let meta = serde_json::json!({ "data": [1], "index": 0, "leader_id": listed[0]["id"] });
    let meta = env
        .done("PUT", "/services/db/meta", &meta.to_string())
        .await;
    let event = events.event().await;
    let expected =
        serde_json::json!({ "service": "db", "kind": "service_meta", "service_meta": meta });
    assert_eq!(event, expected);
    events.are(&["leader a:1 x"]).await;
}

async fn who_is_silent_goes_and_who_lives_stays(place: Place) {
    // Far longer than any pause between two beats.
    let plan = || Plan {
        ttl: Duration::from_secs(8),
        ..Plan::usual()
    };
    let env = Env::on(place, plan()).await;
    env.done("PUT", "/services/db", "{}").await;
    env.register("db", "a:1", "").await;
    env.register("db", "b:1", "").await;
    let mut events = env.subscribe("/services/db", None).await;
    events
        .are(&["up a:1", "up b:1", "leader a:1", "current"])
        .await;
    let told = async {
        // The one that does not beat goes, and the other one leads.
        let beats = async {
            loop {
                env.register("db", "b:1", "").await;
            }
        };
        tokio::select! {
            () = beats => {}
            () = events.are(&["down a:1", "leader b:1"]) => {}
        }
    };
    told.await;
    assert_eq!(env.addrs("db").await, ["b:1"]);
    events.are(&["down b:1", "leader"]).await;
}

async fn one_that_does_not_read_is_ended_and_delays_nobody(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", "{}").await;
    let mut slow = env.http().await;
    slow.raw(b"GET /services/db HTTP/1.1\r\nhost: registry\r\n\r\n")
        .await;
    let mut quick = env.subscribe("/services/db", None).await;
    quick.are(&["current"]).await;
    env.register("db", "a:1", "").await;
    quick.are(&["up a:1", "leader a:1"]).await;
    let subscribed = async {
        while env.services.figures().subscribers < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, subscribed).await.unwrap();
    // More than the buffers of a socket take.
    let filled = "x".repeat(16_000);
    let mut told = 0;
    while env.services.figures().ended == 0 {
        told += 1;
        assert!(told < 10_000, "nobody was ended");
        let meta = format!("{told}-{filled}");
        env.register("db", "a:1", &meta).await;
        assert_eq!(quick.short().await, format!("update a:1 {meta}"));
    }
    assert!(told > BUFFER);
    assert_eq!(env.services.figures().subscribers, 1);
    let text = env.metrics.encode().unwrap();
    assert!(text.contains("tunnel_registry_service_subscribers_ended_total 1"));
    // What was kept for it comes, then the error, then the end of the stream.
    let mut rest = Vec::new();
    let mut piece = vec![0; 65_536];
    while !rest.ends_with(b"0\r\n\r\n") {
        let read = timeout(PATIENCE, slow.0.read(&mut piece))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "the stream was cut off");
        rest.extend_from_slice(&piece[..read]);
    }
    let end = String::from_utf8_lossy(&rest[rest.len() - 200..]).into_owned();
    assert!(
        end.contains("event: error\ndata: the events were not read"),
        "{end}"
    );
}

#[tokio::test]
async fn a_quiet_stream_has_comments_and_is_not_idle() {
    let idle = Duration::from_secs(1);
    let env = Env::one(Plan {
        comment: idle / 20,
        limits: server::Limits {
            idle,
            drain: idle / 10,
            ..server::Limits::default()
        },
        ..Plan::usual()
    })
    .await;
    let mut events = env.subscribe("/services/db", None).await;
    events.are(&["current"]).await;
    for _ in 0..60 {
        // A line, and no empty one: that would be an event to the field's clients.
        assert_eq!(events.line().await.as_deref(), Some(":"));
    }
    env.done("PUT", "/services/db", "{}").await;
    env.register("db", "a:1", "").await;
    let mut line = events.line().await.unwrap();
    while line == ":" {
        line = events.line().await.unwrap();
    }
    assert!(line.contains(r#""kind":"up""#), "{line}");
}

#[tokio::test]
async fn there_are_only_so_many_subscribers() {
    let env = Env::one(Plan {
        subscribers: 2,
        ..Plan::usual()
    })
    .await;
    let one = env.subscribe("/services/a", None).await;
    let _two = env.subscribe("/services/b", None).await;
    let full = env.fails("GET", "/services/c", "").await;
    assert_eq!(full, (429, "unknown_error".to_owned()));
    drop(one);
    let room = async {
        while env.services.figures().subscribers == 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, room).await.unwrap();
    env.subscribe("/services/c", None)
        .await
        .are(&["current"])
        .await;
}

#[tokio::test]
async fn a_stop_ends_the_streams_in_order() {
    let env = Env::one(Plan::usual()).await;
    let mut events = env.subscribe("/services/db", None).await;
    events.are(&["current"]).await;
    env.stop.cancel();
    assert_eq!(events.line().await, None);
}
