//! Two gosts, each with a replica of its own beside it, and a visitor who comes
//! to the one that does not hold the tunnel.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use super::cluster::{Part, lent};
use super::env::Env;
use super::product::Product;
use crate::process::until;
use crate::sd::Protocol;
use crate::tunnels::real::Real;
use crate::tunnels::simulated::Simulated;
use crate::tunnels::world::{World, health};
use crate::tunnels::{Gost, Server};

/// The host with the tunnel, and the one that the visitor comes to.
const HOLDER: u8 = 11;
const OTHER: u8 = 12;
/// What the other host calls itself; nobody dials it (RFC 5737).
const OTHER_HOST: &str = "203.0.113.2";

/// An address of this machine that is not on its loopback: all of that is one
/// host, and no gost is sent to its own. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

fn free_port(host: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap()
}

async fn a_visitor_arrives_whatever_the_api_server_does<G: Gost>(protocol: Protocol) {
    let Some(host) = own_address() else {
        super::tools::say("SKIPPED: kube::pair: this machine has no address but its loopback's");
        return;
    };
    let Some(mut world) = World::<G>::new(protocol) else {
        return;
    };
    let mut cluster = lent().await;
    let env = Env::of(&cluster).await;
    let product = Product::new(&env);
    let first = product.replica(1).await.flags(&format!("--pod-ip {host}"));
    let second = product
        .replica(2)
        .await
        .flags(&format!("--pod-ip {OTHER_HOST}"));
    let (first, second) = (first.start().await, second.start().await);

    world.place.entrypoints.insert(HOLDER, free_port(host));
    world.place.registry = first.setup.listen;
    let (Some(here), Some(there)) = (G::new(world.place.clone()), {
        let mut place = world.place.clone();
        place.registry = second.setup.listen;
        G::new(place)
    }) else {
        return;
    };
    let (holder, other) = (here.server(HOLDER).await, there.server(OTHER).await);
    let service = world.service(21, "here").await;
    let client = here.client(&holder, &world.place.tunnels, service.address);
    assert_eq!(world.reached(other.entrypoint(), 0).await, "here");
    let row = &second.rows().await[0];
    assert_eq!(row["address"], holder.entrypoint().to_string());
    until(
        "the other replica has seen the first one live",
        async || (health(&second.rows().await[0]) == "healthy").then_some(()),
    )
    .await;

    cluster.kill(Part::ApiServer).await;
    for _ in 0..20 {
        let visit = world.visit(other.entrypoint(), 0).await;
        assert_eq!(visit.as_deref(), Ok("here"));
    }
    cluster.run(Part::ApiServer);
    cluster.ready().await;
    assert_eq!(world.reached(other.entrypoint(), 0).await, "here");

    drop(client);
    until("the connector is withdrawn everywhere", async || {
        second.rows().await.is_empty().then_some(())
    })
    .await;
    assert!(world.visit(other.entrypoint(), 0).await.is_err());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_over_grpc() {
    a_visitor_arrives_whatever_the_api_server_does::<Simulated>(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_over_http() {
    a_visitor_arrives_whatever_the_api_server_does::<Simulated>(Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gost_over_grpc() {
    a_visitor_arrives_whatever_the_api_server_does::<Real>(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gost_over_http() {
    a_visitor_arrives_whatever_the_api_server_does::<Real>(Protocol::Http).await;
}
