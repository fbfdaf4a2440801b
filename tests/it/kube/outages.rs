//! Replicas while the API server, etcd, or the way to them is broken.

use std::collections::BTreeSet;

use kube::api::ListParams;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tunnel_registry::gost::proto::Service;

use super::cluster::{Cluster, Part, lent};
use super::env::Env;
use super::product::Product;
use super::proxy::Proxy;
use super::replicas::{is_told, service};
use crate::process::until;
use crate::sd::Kept;
use crate::sharing::{self, Broken, FLAGS, LEASE, OUTAGE, Renewing, sd};

/// The connectors that are stored.
async fn stored(env: &Env) -> Option<BTreeSet<String>> {
    let list = env.endpoints().list(&ListParams::default()).await.ok()?;
    let connectors = list.items.into_iter().map(|object| object.spec.connector);
    Some(connectors.collect())
}

async fn are_stored(env: &Env, expected: &[Service]) {
    sharing::are_stored(async || stored(env).await, expected).await;
}

/// Something breaks for longer than a lease while gosts renew, register and
/// deregister; then it is mended, and everything is as they left it.
async fn nothing_is_lost(
    mut cluster: impl std::ops::DerefMut<Target = Cluster>,
    breaks: impl AsyncFnOnce(&mut Cluster),
    mends: impl AsyncFnOnce(&mut Cluster),
) {
    let env = Env::of(&cluster).await;
    let product = Product::new(&env);
    let first = product.replica(1).await.flags(FLAGS).start().await;
    let second = product.replica(2).await.flags(FLAGS).start().await;
    let controller = product.controller(0).await;
    let controller = controller.flags("--orphan-for 5s").start().await;
    sharing::nothing_is_lost(
        [first, second],
        &mut *cluster,
        Broken::Whole,
        async |_| stored(&env).await,
        breaks,
        mends,
    )
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_killed() {
    nothing_is_lost(
        lent().await,
        async |cluster| cluster.kill(Part::ApiServer).await,
        async |cluster| {
            cluster.run(Part::ApiServer);
            cluster.ready().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_hangs() {
    nothing_is_lost(
        lent().await,
        async |cluster| cluster.freeze(Part::ApiServer).await,
        async |cluster| cluster.thaw(Part::ApiServer),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_restarted() {
    nothing_is_lost(
        lent().await,
        async |cluster| cluster.kill(Part::Etcd).await,
        async |cluster| {
            cluster.run(Part::Etcd);
            cluster.ready().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deregistered_elsewhere_during_a_partition_stays_gone() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let proxy = Proxy::start(env.site.address).await;
    let setup = product.replica_through(1, &proxy).await;
    let first = setup.flags(FLAGS).start().await;
    let second = product.replica(2).await.flags(FLAGS).start().await;
    let (a, b) = (sd(&first), sd(&second));
    let (gone, stays) = (service(1), service(2));
    for service in [&gone, &stays] {
        a.register(service).await.unwrap();
        is_told(&b, service, &[service]).await;
    }
    proxy.cut();
    // Known at the one that is cut off, and heard there to the last.
    a.renew(&gone).await.unwrap();
    b.deregister(&gone).await.unwrap();
    are_stored(&env, std::slice::from_ref(&stays)).await;
    // Deregistered at the one that is cut off: made up for later.
    a.deregister(&stays).await.unwrap();
    let renewing = Renewing::start(&a, std::slice::from_ref(&service(3)));
    sleep(OUTAGE).await;
    proxy.heal();
    are_stored(&env, &[]).await;
    is_told(&a, &gone, &[]).await;
    sleep(LEASE).await;
    are_stored(&env, &[]).await;
    renewing.end().await;
    first.stop().await;
    second.stop().await;
}

/// How many registrations are under way at once in a storm.
const STORM: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_in_a_storm_has_lost_nothing_that_it_reported() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let mut setup = product.replica(1).await.flags("--identity same");
    let second = product.replica(2).await.start().await;
    let b = sd(&second);
    let mut kept = Vec::new();
    for round in 0..20 {
        let replica = setup.start().await;
        let a = sd(&replica);
        let before = stored(&env).await.unwrap().len();
        let mut storm = JoinSet::new();
        for at in 0..STORM {
            let a = a.clone();
            storm.spawn(async move {
                let mut stored = Vec::new();
                for n in 0.. {
                    let service = service(10_000 * round + 500 * at + n);
                    match a.register(&service).await {
                        Ok(Kept::Stored) if n % 4 == 3 => match a.deregister(&service).await {
                            Ok(_) => {}
                            // Nobody knows whether it was heard.
                            Err(_) => break,
                        },
                        Ok(Kept::Stored) => stored.push(service),
                        Ok(Kept::Pending) => {}
                        Err(_) => break,
                    }
                }
                stored
            });
        }
        // At another moment of the storm each time.
        let begun = 2 + 7 * round;
        until("the storm has begun", async || {
            let stored = stored(&env).await.map_or(0, |stored| stored.len());
            (stored >= before + begun).then_some(())
        })
        .await;
        setup = replica.kill().await;
        let reported: Vec<_> = storm.join_all().await.into_iter().flatten().collect();
        kept.extend(reported);
        let stored = stored(&env).await.unwrap();
        let missing = kept.iter().filter(|service| !stored.contains(&service.id));
        assert_eq!(missing.count(), 0, "round {round}");
    }
    assert!(kept.len() > 100, "the storms report too little to tell");
    let replica = setup.start().await;
    let a = sd(&replica);
    for service in kept.iter().step_by(7) {
        is_told(&a, service, &[service]).await;
        a.renew(service).await.unwrap();
        is_told(&b, service, &[service]).await;
    }
    replica.stop().await;
    second.stop().await;
}
