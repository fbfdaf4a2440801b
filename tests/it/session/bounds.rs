//! What the session listener bounds, and how it stops.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tunnel_registry::session::engine::view::State;
use tunnel_registry::writeback::Source as _;

use crate::process::until;
use crate::session::env::{Client, Env, REGISTER, SOON};

#[tokio::test]
async fn connections_are_bounded_in_all_and_for_each_address() {
    for (total, per_peer, limit) in [(2, 10, "total"), (10, 2, "peer")] {
        let env = Env::one(|plan| {
            plan.config.limits.connections = total;
            plan.config.limits.connections_per_peer = per_peer;
        })
        .await;
        let (mut first, sid) = env.registered().await;
        let mut second = env.client().await;
        second.gets("VALIDATE|x", "ERROR|Invalid session").await;
        for _ in 0..3 {
            env.client().await.ended().await;
        }
        let name = "tunnel_registry_session_connections_refused_total";
        assert_eq!(env.metric(&format!(r#"{name}{{limit="{limit}"}}"#)), 3);
        first.gets(&format!("MAINT_EXIT|{sid}"), "MAINT_OK").await;
        // Room is made by leaving.
        drop(second);
        env.closed("peer", 1).await;
        let open = "tunnel_registry_session_connections";
        assert_eq!(env.metric(open), 1);
        let mut third = env.client().await;
        third.gets("VALIDATE|x", "ERROR|Invalid session").await;
    }
}

#[tokio::test]
async fn sessions_are_bounded() {
    let env = Env::one(|plan| plan.setup.sessions = 1).await;
    let (mut first, sid) = env.registered().await;
    let mut second = env.client().await;
    second.gets("REGISTER|b|h|1|0", "ERROR|Unavailable").await;
    first.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;
    second.register("REGISTER|b|h|1|0").await;
}

#[tokio::test]
async fn a_silent_connection_without_a_session_is_closed_without_a_word() {
    let env = Env::one(|plan| plan.config.limits.idle = SOON).await;
    env.client().await.ended().await;
    // Blank lines are no commands.
    let mut blank = env.client().await;
    blank.send("\n").await;
    blank.ended().await;
    env.closed("idle", 2).await;
}

#[tokio::test]
async fn a_connection_that_lost_its_session_is_closed_for_its_silence() {
    let env = Env::one(|plan| plan.config.limits.idle = Duration::from_secs(1)).await;
    let (mut old, _) = env.registered().await;
    let (_new, _) = env.registered().await;
    old.ended().await;
    env.closed("idle", 1).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_not_waited_for() {
    let env = Env::one(|plan| plan.config.limits.write = SOON).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1_024).unwrap();
    let mut client = Client(socket.connect(env.address).await.unwrap());
    let sid = client.register(REGISTER).await;
    // Short questions with longer answers, until both ways are full.
    let questions = "OPTIONS|x|y|\n".repeat(1_000);
    while client.0.write_all(questions.as_bytes()).await.is_ok() {}
    env.closed("write_timeout", 1).await;
    env.until(&sid, Some(State::Silent)).await;
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_begins_no_grace() {
    let mut env = Env::hanging(|_| {}).await;
    let (mut busy, sid) = env.registered().await;
    let mut silent = env.client().await;
    let other = silent.register("REGISTER|b|h|1|0").await;
    env.hangs.send_replace(true);
    let route = format!("ROUTE|{sid}|a.com|/|http://h\n");
    busy.send(route).await;
    until("the write is under way", async || {
        (env.sessions.waiting_writes() == 1).then_some(())
    })
    .await;
    env.stop();
    silent.ended().await;
    env.hangs.send_replace(false);
    assert_eq!(busy.line().await.as_deref(), Some("ROUTE_OK"));
    busy.ended().await;
    env.stopped().await;
    for sid in [sid, other] {
        assert_eq!(env.state(&sid), Some(State::Connected));
    }
    assert!(tokio::net::TcpStream::connect(env.address).await.is_err());
    env.closed("shutdown", 2).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_it_may() {
    let mut env = Env::hanging(|plan| plan.config.limits.drain = SOON).await;
    let (mut busy, sid) = env.registered().await;
    env.hangs.send_replace(true);
    busy.send(format!("ROUTE|{sid}|a.com|/|http://h\n")).await;
    until("the write is under way", async || {
        (env.sessions.waiting_writes() == 1).then_some(())
    })
    .await;
    env.stop();
    env.stopped().await;
    busy.ended().await;
}
