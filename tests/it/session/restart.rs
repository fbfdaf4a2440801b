//! The whole program: sessions over its restarts, and what it writes about them.

use std::net::SocketAddr;

use crate::process::{Net, Registry, Setup, folder, until};
use crate::session::env::{Client, REGISTER};

/// A registry on its file store, and where it takes sessions.
fn setup(folder: &std::path::Path) -> (Setup, SocketAddr) {
    let net = Net::take();
    let at = net.at(1, 8181);
    let mut setup = Setup::new(net, folder);
    setup.sessions = Some(at);
    (setup, at)
}

/// How many sessions live so.
async fn count(registry: &Registry, state: &str) -> u64 {
    let metric = format!(r#"tunnel_registry_sessions{{state="{state}"}}"#);
    registry.metric(&metric).await
}

#[tokio::test]
async fn a_session_outlasts_the_registrys_restarts() {
    let folder = folder();
    let (setup, at) = setup(folder.path());
    let mut registry = setup.start().await;
    let mut client = Client::at(at).await;
    let sid = client.register(REGISTER).await;
    let route = format!("ROUTE|{sid}|a.com|/|http://h");
    client.gets(&route, "ROUTE_OK").await;
    client.gets(&format!("MAINT_ENTER|{sid}"), "MAINT_OK").await;
    for kills in [true, false] {
        let setup = match kills {
            true => registry.kill().await,
            false => registry.stop().await,
        };
        // Its client is told of nothing but the end.
        client.ended().await;
        registry = setup.start().await;
        assert_eq!(count(&registry, "silent").await, 1);
        client = Client::at(at).await;
        client.gets(&format!("RECONNECT|{sid}"), "OK").await;
        client.gets(&format!("VALIDATE|{sid}"), "OK").await;
        assert_eq!(count(&registry, "connected").await, 1);
    }
    client.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;
    let registry = registry.kill().await.start().await;
    let mut client = Client::at(at).await;
    client.gets(&format!("RECONNECT|{sid}"), "REREGISTER").await;
    client.register(REGISTER).await;
    registry.stop().await;
}

#[tokio::test]
async fn who_does_not_come_back_after_a_restart_is_gone() {
    let folder = folder();
    let (setup, at) = setup(folder.path());
    let setup = setup.flags("--session-grace 1s");
    let registry = setup.start().await;
    let mut client = Client::at(at).await;
    let sid = client.register(REGISTER).await;
    let registry = registry.kill().await.start().await;
    // Its grace began anew, and ends.
    registry
        .process
        .says("[registry] Session expired: api-service at api-v2:9000 (session: api-v2-9000-")
        .await;
    until("it is gone from the store", async || {
        let waiting = "tunnel_registry_session_write_queue_length";
        (registry.metric(waiting).await == 0).then_some(())
    })
    .await;
    let registry = registry.kill().await.start().await;
    assert_eq!(count(&registry, "silent").await, 0);
    let mut client = Client::at(at).await;
    client.gets(&format!("RECONNECT|{sid}"), "REREGISTER").await;
}

#[tokio::test]
async fn a_memory_store_forgets_sessions() {
    let folder = folder();
    let (mut setup, at) = setup(folder.path());
    setup.store = Some("memory".into());
    let registry = setup.start().await;
    let mut client = Client::at(at).await;
    let sid = client.register(REGISTER).await;
    let registry = registry.stop().await.start().await;
    let mut client = Client::at(at).await;
    client.gets(&format!("RECONNECT|{sid}"), "REREGISTER").await;
    client.register(REGISTER).await;
    registry.stop().await;
}

#[tokio::test]
async fn where_no_sessions_are_taken_that_is_said() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let registry = setup.start().await;
    let (status, text) = registry.admin("/sessions").await;
    assert_eq!(status.as_u16(), 404);
    assert!(text.contains("--session-listen"), "{text}");
    registry.stop().await;
}

#[tokio::test]
async fn decision_17_the_lines_that_the_field_greps_for_and_no_secret() {
    for format in ["text", "json"] {
        let folder = folder();
        let (mut setup, at) = setup(folder.path());
        setup.arguments.push(format!("--log-format={format}"));
        // Everything, but for what the runtime itself says.
        setup
            .arguments
            .push("--log-level=debug,tunnel_registry=trace".into());
        let registry = setup.start().await;
        let mut client = Client::at(at).await;
        let sid = client.register(REGISTER).await;
        let (front, secret) = sid.rsplit_once('-').unwrap();
        for (command, reply) in [
            (
                "ROUTE|SID|api.example.com|/v2|http://api-v2:9000",
                "ROUTE_OK",
            ),
            ("ROUTE|SID|a.com,b.com|/|http://api-v2:9000", "ROUTE_OK"),
            ("HEADER|SID|X-API-Version|2.0", "HEADER_OK"),
            ("OPTIONS|SID|timeout|60s", "OPTIONS_OK"),
            ("VALIDATE|SID", "OK"),
            ("MAINT_ENTER|SID", "MAINT_OK"),
            ("MAINT_EXIT|SID", "MAINT_OK"),
            ("RECONNECT|SID", "OK"),
        ] {
            client.gets(&command.replace("SID", &sid), reply).await;
        }
        let (_, ready) = registry.admin("/readyz").await;
        assert!(ready.contains("sessions"), "{ready}");
        let (_, metrics) = registry.admin("/metrics").await;
        let accepted = "tunnel_registry_session_connections_accepted_total";
        assert_eq!(crate::process::value(&metrics, accepted), 1);
        let (_, listed) = registry.admin("/sessions?format=json").await;
        assert!(listed.contains(front), "{listed}");
        let (_, table) = registry.admin("/sessions?state=connected").await;
        assert!(table.contains(front), "{table}");
        client.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;
        client.ended().await;
        // The reply comes after the line.
        let said = registry.process.said();
        for line in [
            &*format!(
                "[registry] Service registered: api-service at api-v2:9000 (session: {front})"
            ),
            "[registry] Route added: api-service at [api.example.com]/v2 -> http://api-v2:9000",
            "[registry] Route added: api-service at [a.com b.com]/ -> http://api-v2:9000",
            "[registry] Header added: X-API-Version = 2.0 for api-service",
            "[registry] Maintenance entered: api-service at api-v2:9000",
            "[registry] Maintenance left: api-service at api-v2:9000",
            "[registry] Session reconnected: api-service at api-v2:9000",
            "[registry] Session ended: api-service at api-v2:9000",
        ] {
            let with: Vec<_> = said.lines().filter(|told| told.contains(line)).collect();
            assert_eq!(with.len(), 1, "{line} is not in\n{said}");
            assert!(with[0].contains("INFO"), "{}", with[0]);
        }
        for text in [said, metrics, ready, listed, table] {
            assert!(!text.contains(secret));
        }
        registry.stop().await;
    }
}
