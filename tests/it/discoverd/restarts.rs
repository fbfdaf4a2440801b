//! The registry ends and starts again.

use std::time::Duration;

use tunnel_registry::time::Now;

use super::env::{Env, Plan, instance};
use super::places::{Place, on_every_store};

on_every_store! { lasting:
    a_restart_loses_nothing
    nothing_goes_for_a_while_after_a_restart
}

async fn a_restart_loses_nothing(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", r#"{"leader_type":"manual"}"#)
        .await;
    for addr in ["b:1", "a:1"] {
        env.register("db", addr, "x").await;
    }
    let (_, a) = instance("db", "a:1", "");
    env.done("PUT", "/services/db/leader", &a).await;
    env.done("PUT", "/services/db/meta", r#"{"data":1,"index":0}"#)
        .await;
    let paths = ["instances", "leader", "meta"].map(|path| format!("/services/db/{path}"));
    let mut before = Vec::new();
    for path in &paths {
        before.push(env.done("GET", path, "").await);
    }
    let env = env.again(Plan::usual()).await;
    for (path, before) in paths.iter().zip(&before) {
        assert_eq!(env.done("GET", path, "").await, *before);
    }
    // Heartbeats go on, and indexes rise.
    let mut events = env.subscribe("/services/db", None).await;
    events
        .are(&[
            "up b:1 x",
            "up a:1 x",
            "leader a:1 x",
            "service_meta  1",
            "current",
        ])
        .await;
    env.register("db", "a:1", "x").await;
    env.register("db", "c:1", "").await;
    events.are(&["up c:1"]).await;
    let all = env.done("GET", "/services/db/instances", "").await;
    assert!(all[2]["index"].as_u64() > all[1]["index"].as_u64());
}

async fn nothing_goes_for_a_while_after_a_restart(place: Place) {
    let ttl = Duration::from_secs(2);
    let plan = || Plan {
        ttl,
        ..Plan::usual()
    };
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", "{}").await;
    env.register("db", "a:1", "").await;
    env.register("db", "b:1", "").await;
    let begun = Now::read().mono;
    let env = env.again(plan()).await;
    let mut events = env.subscribe("/services/db", None).await;
    events
        .are(&["up a:1", "up b:1", "leader a:1", "current"])
        .await;
    // Who beats nowhere goes, but had the time to find the registry again.
    let gone = [events.short().await, events.short().await];
    let waited = begun.elapsed();
    assert!(waited >= 2 * ttl, "{waited:?}: {gone:?}");
    assert!(
        gone.iter().any(|event| event.starts_with("down")),
        "{gone:?}"
    );
}
