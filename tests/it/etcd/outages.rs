//! Replicas while etcd, a part of it, or the way to it is broken.

use super::product::Product;
use super::server::Server;
use crate::kube::proxy::Proxy;
use crate::kube::replicas::{is_told, service};
use crate::process::until;
use crate::sd::Kept;
use crate::sharing::{self, Broken, FLAGS, Renewing, sd};

/// Something breaks for longer than a lease while gosts renew, register and
/// deregister; then it is mended, and everything is as they left it.
async fn nothing_is_lost(
    mut server: Server,
    broken: Broken,
    breaks: impl AsyncFnOnce(&mut Server),
    mends: impl AsyncFnOnce(&mut Server),
) {
    let product = Product::new(&server);
    let flags = format!("{FLAGS} --orphan-for 5s");
    let first = product.replica(1).flags(&flags).start().await;
    let second = product.replica(2).flags(&flags).start().await;
    sharing::nothing_is_lost(
        [first, second],
        &mut server,
        broken,
        async |server| product.stored(server).await,
        breaks,
        mends,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_killed() {
    nothing_is_lost(
        Server::start(1).await,
        Broken::Whole,
        async |server| server.members[0].kill().await,
        async |server| {
            server.members[0].run();
            server.ready().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_hangs() {
    nothing_is_lost(
        Server::start(1).await,
        Broken::Whole,
        async |server| server.members[0].freeze().await,
        async |server| server.members[0].thaw(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_three_is_killed() {
    nothing_is_lost(
        Server::start(3).await,
        Broken::Part,
        async |server| {
            let leader = server.leader().await;
            server.members[leader].kill().await;
        },
        async |server| {
            server.members.iter_mut().for_each(|member| member.run());
            server.ready().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_are_killed() {
    nothing_is_lost(
        Server::start(3).await,
        Broken::Whole,
        async |server| {
            for member in &mut server.members[1..] {
                member.kill().await;
            }
        },
        async |server| {
            server.members.iter_mut().for_each(|member| member.run());
            server.ready().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_starts_without_etcd() {
    let mut server = Server::start(1).await;
    server.members[0].kill().await;
    let product = Product::new(&server);
    let mut replica = product.replica(1).flags(FLAGS).spawn();
    until("it says why it is not ready", async || {
        let answer = crate::process::fetch(replica.setup.admin, "/readyz").await;
        let (status, text) = answer.map_err(|error| error.to_string())?;
        let told = text.contains("it has not been read yet: etcd cannot be reached");
        match !status.is_success() && told {
            true => Ok(()),
            false => Err(text),
        }
    })
    .await;
    let a = sd(&replica);
    let early = service(1);
    assert!(
        a.get(&early.name).await.is_err(),
        "an empty answer is a lie"
    );
    assert_eq!(a.register(&early).await.unwrap(), Kept::Pending);
    let renewing = Renewing::start(&a, std::slice::from_ref(&early));
    server.members[0].run();
    replica.ready().await;
    is_told(&a, &early, &[&early]).await;
    sharing::are_stored(async || product.stored(&server).await, &[early]).await;
    renewing.end().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_cut_off_is_back_at_once() {
    let server = super::server::common().await;
    let product = Product::new(server);
    let proxy = Proxy::start(server.members[0].address()).await;
    let cut = format!("etcd:http://{}", proxy.address);
    let first = product.replica_at(1, &cut).flags(FLAGS).start().await;
    let second = product.replica(2).flags(FLAGS).start().await;
    let (a, b) = (sd(&first), sd(&second));
    let stays = service(1);
    a.register(&stays).await.unwrap();
    let renewing = Renewing::start(&a, std::slice::from_ref(&stays));
    is_told(&b, &stays, &[&stays]).await;
    proxy.hang();
    let lease = product.key("replica/r1");
    until("etcd has removed its record", async || {
        server.pairs(&lease).await.is_empty().then_some(())
    })
    .await;
    is_told(&b, &stays, &[&stays]).await;
    proxy.heal();
    until("it has written its record again", async || {
        let pairs = server.pairs(&lease).await;
        pairs
            .first()
            .is_some_and(|pair| pair.lease != 0)
            .then_some(())
    })
    .await;
    until("the other one sees that it lives", async || {
        let rows = second.rows().await;
        match rows[0]["health"].as_str() {
            Some("healthy") => Ok(()),
            _ => Err(format!("{rows:?}")),
        }
    })
    .await;
    renewing.end().await;
    first.stop().await;
    second.stop().await;
}
