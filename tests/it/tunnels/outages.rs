//! A registry that is away, and a store that takes nothing.

mod hung;

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::process::{Registry, calls, until};
use crate::tunnels::world::{World, healths};
use crate::tunnels::{Gost, Server, scenario};

/// How many tunnels there are in an outage of the registry.
const TUNNELS: usize = 5;

/// How each endpoint is stored.
async fn stored(registry: &Registry) -> Vec<String> {
    let rows = registry.rows().await;
    let words = rows.iter().map(|row| row["stored"].as_str().unwrap());
    words.map(ToOwned::to_owned).collect()
}

/// Overrides how many seconds the registry is away ([`Gost::OUTAGE`]).
const SECONDS: &str = "OUTAGE_SECONDS";

scenario!(a_killed_registry_routes_again);

async fn a_killed_registry_routes_again<G: Gost>(world: World<G>) {
    let outage = std::env::var(SECONDS).map_or(G::OUTAGE, |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    });
    let world = world.grown(TUNNELS);
    let registry = world.setup.start().await;
    let (holder, other) = (world.gost.server(11).await, world.gost.server(12).await);
    let service = world.service(21, "here").await;
    let _client = (world.gost).client(&holder, &world.place.tunnels, service.address);
    for tunnel in 0..TUNNELS {
        world.reached(other.entrypoint(), tunnel).await;
    }
    until("all are stored", async || {
        (stored(&registry).await == ["stored"; TUNNELS]).then_some(())
    })
    .await;
    let before = registry.rows().await;

    let setup = registry.kill().await;
    // That time passes is what happens here.
    tokio::time::sleep(outage).await;
    for tunnel in 0..TUNNELS {
        let local = world.visit(holder.entrypoint(), tunnel).await;
        assert_eq!(local.as_deref(), Ok("here"), "while the registry is away");
    }
    let registry = setup.start().await;
    for tunnel in 0..TUNNELS {
        assert_eq!(world.reached(other.entrypoint(), tunnel).await, "here");
    }
    until("all are healthy", async || {
        (healths(&registry.rows().await) == ["healthy"].into()).then_some(())
    })
    .await;
    let connectors = |rows: &[serde_json::Value]| -> Vec<_> {
        rows.iter().map(|row| row["connector"].clone()).collect()
    };
    assert_eq!(connectors(&registry.rows().await), connectors(&before));
    // No client has connected again.
    let (_, metrics) = registry.admin("/metrics").await;
    for line in metrics
        .lines()
        .filter(|line| line.starts_with(r#"tunnel_registry_requests_total{method="register""#))
    {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

/// The most bytes of a file while the disk is full: nothing but the very
/// beginning of the store could be written.
const FULL: u64 = 1;

/// Ignores the signal that comes with a write beyond the limit, and logs
/// nowhere: the log would be beyond it too.
const WRAPPER: [&str; 3] = ["sh", "-c", r#"trap "" XFSZ; exec "$0" "$@" 2>/dev/null"#];

fn limit_files(registry: &Registry, bytes: Option<u64>) {
    let process = Pid::from_raw(registry.process.id().try_into().unwrap());
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(process, Resource::Fsize, limit).unwrap();
}

scenario!(a_full_disk_loses_nothing);

async fn a_full_disk_loses_nothing<G: Gost>(world: World<G>) {
    let world = world.grown(2);
    let mut registry = world.setup.spawn_under(&WRAPPER);
    registry.ready().await;
    let (holder, other) = (world.gost.server(11).await, world.gost.server(12).await);
    let (one, two) = (
        world.service(21, "one").await,
        world.service(22, "two").await,
    );
    let (first, second) = world.place.tunnels.split_at(1);
    let _first = world.gost.client(&holder, first, one.address);
    assert_eq!(world.reached(other.entrypoint(), 0).await, "one");

    until("the first is stored", async || {
        (stored(&registry).await == ["stored"]).then_some(())
    })
    .await;

    limit_files(&registry, Some(FULL));
    let _second = world.gost.client(&holder, second, two.address);
    assert_eq!(world.reached(other.entrypoint(), 1).await, "two");
    let protocol = world.place.protocol.name();
    let pending = calls("register", protocol, "pending");
    until("the registration is answered as pending", async || {
        (registry.metric(&pending).await == 1).then_some(())
    })
    .await;
    assert_eq!(stored(&registry).await, ["stored", "pending"]);
    let renewals = calls("renew", protocol, "ok");
    let before = registry.metric(&renewals).await;
    until("renewals go on", async || {
        assert_eq!(
            world.visit(holder.entrypoint(), 0).await.as_deref(),
            Ok("one")
        );
        assert_eq!(
            world.visit(other.entrypoint(), 1).await.as_deref(),
            Ok("two")
        );
        (registry.metric(&renewals).await >= before + 4).then_some(())
    })
    .await;

    limit_files(&registry, None);
    until("what waited is stored", async || {
        let stored = stored(&registry).await;
        (stored == ["stored", "stored"]).then_some(())
    })
    .await;
    let registry = registry.kill().await.start().await;
    assert_eq!(registry.rows().await.len(), 2);
}
