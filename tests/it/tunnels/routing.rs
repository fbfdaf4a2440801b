//! Visitors find the right server, and all of a tunnel's connectors.

use std::collections::BTreeSet;

use crate::process::{calls, until};
use crate::tunnels::world::{World, health};
use crate::tunnels::{Gost, Server, scenario};

scenario!(a_visitor_at_the_other_server_arrives);

async fn a_visitor_at_the_other_server_arrives<G: Gost>(world: World<G>) {
    let registry = world.setup.start().await;
    let (holder, other) = (world.gost.server(11).await, world.gost.server(12).await);
    assert!(world.visit(other.entrypoint(), 0).await.is_err());
    let service = world.service(21, "here").await;
    let client = (world.gost).client(&holder, &world.place.tunnels, service.address);
    assert_eq!(world.reached(other.entrypoint(), 0).await, "here");
    for _ in 0..20 {
        for entrypoint in [holder.entrypoint(), other.entrypoint()] {
            assert_eq!(world.visit(entrypoint, 0).await.as_deref(), Ok("here"));
        }
    }
    let rows = registry.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["tunnel"], world.place.tunnels[0].id);
    assert_eq!(rows[0]["address"], holder.entrypoint().to_string());
    assert_eq!(health(&rows[0]), "healthy");
    let protocol = world.place.protocol.name();
    // Visitors may come before the answer to it.
    let registered = calls("register", protocol, "ok");
    until("one registration is answered", async || {
        (registry.metric(&registered).await == 1).then_some(())
    })
    .await;

    // The server sees its client go and withdraws it.
    drop(client);
    until("the connector is withdrawn", async || {
        registry.rows().await.is_empty().then_some(())
    })
    .await;
    assert!(world.visit(other.entrypoint(), 0).await.is_err());
}

/// Tunnels, the servers that hold a connector of each, and the most visitors
/// until all three are met: that many miss one of three once in 10¹⁷ times.
const TUNNELS: usize = 200;
const HOLDERS: u8 = 3;
const VISITORS: usize = 100;

scenario!(load_spreads_over_all_connectors);

async fn load_spreads_over_all_connectors<G: Gost>(world: World<G>) {
    let world = world.grown(TUNNELS);
    let registry = world.setup.start().await;
    let other = world.gost.server(10).await;
    let mut running = Vec::new();
    for n in 1..=HOLDERS {
        let server = world.gost.server(10 + n).await;
        let service = world.service(20 + n, &format!("connector {n}")).await;
        let client = (world.gost).client(&server, &world.place.tunnels, service.address);
        running.push((server, service, client));
    }
    until("every connector is registered", async || {
        (registry.rows().await.len() == TUNNELS * usize::from(HOLDERS)).then_some(())
    })
    .await;
    for tunnel in 0..TUNNELS {
        let mut met = BTreeSet::new();
        for _ in 0..VISITORS {
            let answer = world.visit(other.entrypoint(), tunnel).await;
            met.insert(answer.unwrap_or_else(|error| panic!("tunnel {tunnel}: {error}")));
            if met.len() == usize::from(HOLDERS) {
                break;
            }
        }
        assert_eq!(
            met.len(),
            usize::from(HOLDERS),
            "{VISITORS} visitors of tunnel {tunnel} met only {met:?} of {:#?}",
            registry.rows_of(&world.place.tunnels[tunnel].id).await
        );
    }
}
