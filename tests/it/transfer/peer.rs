//! From the peer itself, as it really writes, with tunnels that go on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;
use tokio::process::Command;

use super::redis::{Server, skipped};
use super::run;
use super::stores::{connector, on};
use crate::process::{Net, Process, folder, until};
use crate::sd::{Protocol, Sd};
use crate::tunnels::real::Real;
use crate::tunnels::world::World;
use crate::tunnels::{Gost as _, Server as _};

/// Names a `gost-plugins` binary.
const BINARY: &str = "PEER_BIN";

fn binary(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os(BINARY).map(PathBuf::from);
    if named.is_none() {
        skipped(
            test,
            &format!("no peer here; name a gost-plugins binary with {BINARY}"),
        );
    }
    named
}

/// The peer, with its Redis. Killed when dropped.
struct Peer {
    process: Process,
    redis: Server,
}

impl Peer {
    async fn start(test: &str, net: Net, at: SocketAddr, folder: &Path) -> Option<Self> {
        let binary = binary(test)?;
        let redis = Server::start(test, net.at(9, 6379), folder, &[]).await?;
        let mut command = Command::new(binary);
        command.args(["sd", "--addr", &at.to_string()]).args([
            "--redis.addr",
            &redis.at.to_string(),
            "--redis.expiration",
            "1m",
        ]);
        let process = Process::start(&mut command, folder.join("peer.log"));
        let open = async || TcpStream::connect(at).await;
        drop(until("the peer listens", open).await);
        Some(Self { process, redis })
    }

    fn url(&self) -> String {
        format!("redis://{}", self.redis.at)
    }

    /// The peer ends; its Redis stays.
    async fn end(mut self) -> Server {
        self.process.kill().await;
        self.redis
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_peer_wrote_is_there_and_is_kept_by_renewals() {
    let (net, folder) = (Net::take(), folder());
    let at = folder.path();
    let setup = on(net, at, "new.redb").flags("--released-for 24h");
    let name = "what_the_peer_wrote_is_there_and_is_kept_by_renewals";
    let Some(peer) = Peer::start(name, net, setup.listen, at).await else {
        return;
    };
    let sd = Sd::new(Protocol::Grpc, setup.listen);
    for n in 1..=3 {
        sd.register(&connector(n)).await.unwrap();
    }
    // It takes the host of the caller.
    let mut hostless = connector(4);
    hostless.address = ":8080".into();
    hostless.network = "udp".into();
    // When three nodes or more fall silent together the collector waits.
    hostless.node = connector(2).node;
    sd.register(&hostless).await.unwrap();
    sd.renew(&connector(1)).await.unwrap();
    sd.deregister(&connector(3)).await.unwrap();
    let theirs = sd.get(&hostless.name).await.unwrap();
    let import = format!(
        "import --store file:new.redb --unheard-for 2s --redis {}",
        peer.url()
    );
    run(at, &import).await.well("imported 3 records");
    let _redis = peer.end().await;

    let registry = setup.start().await;
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    // A caller on that host is not sent there, so it is looked at.
    let rows = registry.rows_of(&hostless.name).await;
    assert_eq!(rows[0]["address"].as_str(), Some(&*theirs[0].address));
    assert_eq!(rows[0]["network"].as_str(), Some("udp"));
    assert_eq!(sd.get(&connector(1).name).await.unwrap(), [connector(1)]);
    assert!(sd.get(&connector(3).name).await.unwrap().is_empty());
    until("those that nobody renews have gone", async || {
        sd.renew(&connector(1)).await.unwrap();
        (registry.rows().await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(sd.get(&connector(1).name).await.unwrap(), [connector(1)]);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_not_lost_when_the_registry_takes_the_peers_place() {
    let name = "a_tunnel_is_not_lost_when_the_registry_takes_the_peers_place";
    let Some(mut world) = World::<Real>::new(Protocol::Grpc) else {
        return;
    };
    let (net, at) = (world.place.net, world.place.folder.clone());
    let Some(peer) = Peer::start(name, net, world.setup.listen, &at).await else {
        return;
    };
    let service = world.service(20, "behind the tunnel").await;
    let (holder, other) = (world.gost.server(11).await, world.gost.server(12).await);
    let _client = world
        .gost
        .client(&holder, &world.place.tunnels, service.address);
    assert_eq!(
        world.reached(other.entrypoint(), 0).await,
        "behind the tunnel"
    );

    // The peer ends, and the registry begins where it was.
    let url = peer.url();
    let redis = peer.end().await;
    let store = world.setup.store.clone().unwrap();
    let store = store.to_str().unwrap();
    run(&at, &format!("import --store {store} --redis {url}"))
        .await
        .well("imported 1 records");
    redis.end().await;
    world.setup = world
        .setup
        .flags("--start-grace 0s --base-time 3s --released-for 1s");
    let registry = world.setup.start().await;
    let rows = registry.rows().await;
    assert_eq!(rows.len(), 1, "nobody has registered");
    // The client is connected all the time, so its gost registers nothing; it only
    // renews.
    assert_eq!(
        world.reached(other.entrypoint(), 0).await,
        "behind the tunnel"
    );
    until("the tunnel is renewed", async || {
        let rows = registry.rows().await;
        assert_eq!(rows.len(), 1);
        rows[0]["reason"].is_null().then_some(())
    })
    .await;
    let registered = crate::process::calls("register", "grpc", "ok");
    assert_eq!(registry.metric(&registered).await, 0);
    assert_eq!(
        world.visit(other.entrypoint(), 0).await.unwrap(),
        "behind the tunnel"
    );
    drop((holder, other));
    registry.stop().await;
}
