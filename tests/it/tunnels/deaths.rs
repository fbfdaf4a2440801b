//! Servers that are killed.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::process::{Registry, calls, until, until_within};
use crate::sd::{Protocol, Sd};
use crate::tunnels::web::knock;
use crate::tunnels::world::{World, health};
use crate::tunnels::{Gost, Server, scenario};

/// What is promised over gRPC: an entry of a killed server is suspect by then.
const SUSPECT_WITHIN: Duration = Duration::from_secs(1);
/// What a released endpoint has left in these scenarios.
const RELEASED_FOR: Duration = Duration::from_secs(1);
/// A renewal is not to the millisecond.
const JITTER: Duration = Duration::from_millis(200);
/// Visitors of whom none may be refused.
const VISITORS: usize = 50;

/// Waits until each of `connectors` was renewed at least twice, so that its
/// interval is known and its connection counts.
async fn renewed<G: Gost>(world: &World<G>, registry: &Registry, connectors: u64) {
    let metric = calls("renew", world.place.protocol.name(), "ok");
    let before = registry.metric(&metric).await;
    until("every connector was renewed twice", async || {
        (registry.metric(&metric).await >= before + 3 * connectors).then_some(())
    })
    .await;
}

/// The health of whatever is at a server: `gone` if nothing is.
fn health_at(rows: &[Value], server: &impl ToString) -> String {
    let address = server.to_string();
    let found = rows.iter().find(|row| row["address"] == address);
    found.map_or("gone", health).to_owned()
}

scenario!(nobody_is_sent_to_a_killed_server);

async fn nobody_is_sent_to_a_killed_server<G: Gost>(world: World<G>) {
    let world = world.impatient();
    let registry = world.setup.start().await;
    let (doomed, living) = (world.gost.server(11).await, world.gost.server(12).await);
    let other = world.gost.server(13).await;
    let (one, two) = (
        world.service(21, "doomed").await,
        world.service(22, "living").await,
    );
    let tunnels = &world.place.tunnels;
    let _clients = (
        world.gost.client(&doomed, tunnels, one.address),
        world.gost.client(&living, tunnels, two.address),
    );
    until("both servers are offered", async || {
        (registry.rows().await.len() == 2).then_some(())
    })
    .await;
    let other = other.entrypoint();
    for server in ["doomed", "living"] {
        until(&format!("a visitor meets the {server} one"), async || {
            (world.visit(other, 0).await.as_deref() == Ok(server)).then_some(())
        })
        .await;
    }
    renewed(&world, &registry, 2).await;

    let address = doomed.entrypoint();
    let killed = Instant::now();
    doomed.kill().await;
    if world.place.protocol == Protocol::Grpc {
        let suspect = async || {
            let health = health_at(&registry.rows().await, &address);
            (health == "suspect").then_some(())
        };
        until_within(SUSPECT_WITHIN, "the killed server is suspect", suspect).await;
        for _ in 0..VISITORS {
            assert_eq!(world.visit(other, 0).await.as_deref(), Ok("living"));
        }
    }
    // Its last renewal may have been that long before.
    let silent = || killed.elapsed() + G::TTL + JITTER;
    until("the killed server is released", async || {
        let health = health_at(&registry.rows().await, &address);
        matches!(health.as_str(), "released" | "gone").then_some(())
    })
    .await;
    assert!(silent() >= world.base_time(), "after {:?}", silent());
    until("the killed server is gone", async || {
        (health_at(&registry.rows().await, &address) == "gone").then_some(())
    })
    .await;
    assert!(
        silent() >= world.base_time() + RELEASED_FOR,
        "after {:?}",
        silent()
    );
    for _ in 0..VISITORS {
        assert_eq!(world.visit(other, 0).await.as_deref(), Ok("living"));
    }
    let rows = registry.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(health(&rows[0]), "healthy");
}

/// Visitors at a server that must not be sent to itself. One is enough to make
/// gost dial itself until it has no more files.
const LOST_VISITORS: usize = 100;
/// Files that are open for a visitor who has just gone, and gost's own.
const FEW_FILES: usize = 20;

scenario!(a_server_restarted_alone_is_not_sent_to_itself);

async fn a_server_restarted_alone_is_not_sent_to_itself<G: Gost>(world: World<G>) {
    let registry = world.setup.start().await;
    let server = world.gost.server(11).await;
    let service = world.service(21, "here").await;
    let client = world
        .gost
        .client(&server, &world.place.tunnels, service.address);
    assert_eq!(world.reached(server.entrypoint(), 0).await, "here");
    renewed(&world, &registry, 1).await;

    let entrypoint = server.entrypoint();
    tokio::join!(server.kill(), async { drop(client) });
    let again = world.gost.server(11).await;
    if world.place.protocol == Protocol::Http {
        // Where connections tell nothing, silence must: for two intervals.
        let sd = Sd::new(Protocol::Http, registry.setup.listen);
        let tunnel = &world.place.tunnels[0].id;
        until(
            "the killed server is not offered on its own host",
            async || sd.get(tunnel).await.unwrap().is_empty().then_some(()),
        )
        .await;
    }
    let before = again.open_files();
    for visitor in 0..LOST_VISITORS {
        let answer = world.visit(entrypoint, 0).await;
        assert!(answer.is_err(), "visitor {visitor}: {answer:?}");
        let answer = knock(entrypoint, &world.place.tunnels[0].host).await;
        assert!(answer.is_err(), "visitor {visitor}: {answer:?}");
        let open = again.open_files();
        assert!(
            open <= before + FEW_FILES,
            "visitor {visitor}: {open} files are open, and {before} were before"
        );
    }
    // It still stands in the list: only the dead server's own host is not sent there.
    let rows = registry.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
}
