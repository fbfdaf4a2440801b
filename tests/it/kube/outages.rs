//! Replicas while the API server, etcd, or the way to them is broken. Leases
//! are short, so that every outage lasts for several of them.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::ListParams;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel_registry::gost::proto::Service;

use super::cluster::{Cluster, Part, lent};
use super::env::Env;
use super::product::Product;
use super::proxy::Proxy;
use super::replicas::{is_told, service, told};
use crate::process::{Registry, until, until_within};
use crate::sd::{Kept, Protocol, Sd};

/// A lease of a replica, and the silence after which an endpoint is released.
const LEASE: Duration = Duration::from_secs(4);
/// How often what lives is renewed.
const TTL: Duration = Duration::from_millis(500);
/// A whole lease and more: an outage has a duration by its nature.
const OUTAGE: Duration = Duration::from_secs(6);
/// Everything is right again so long after an outage: the longest pause of the
/// write queue, of a watch, and of a write that hangs.
const RIGHT_AGAIN: Duration = Duration::from_secs(60);

const FLAGS: &str = "--replica-lease 4s --base-time 2s --start-grace 0s";

/// Endpoints that are renewed until this is dropped; a renewal must not fail.
struct Renewing(CancellationToken, JoinSet<()>);

impl Renewing {
    fn start(sd: &Sd, services: &[Service]) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (sd, services, stopped) = (sd.clone(), services.to_vec(), stop.clone());
        tasks.spawn(async move {
            let mut ticks = interval(TTL);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                for service in &services {
                    let renewed = timeout(TTL, sd.renew(service)).await;
                    renewed.expect("a renewal is answered at once").unwrap();
                }
            }
        });
        Self(stop, tasks)
    }

    async fn end(mut self) {
        self.0.cancel();
        while let Some(ended) = self.1.join_next().await {
            ended.unwrap();
        }
    }
}

/// Get is answered throughout, with whatever of this lives.
async fn is_offered_for(time: Duration, clients: &[&Sd], services: &[Service]) {
    let mut ticks = interval(TTL);
    let end = timeout(time, async {
        loop {
            ticks.tick().await;
            for client in clients {
                for service in services {
                    assert_eq!(told(client, service).await, [&*service.id]);
                }
            }
        }
    });
    assert!(end.await.is_err());
}

/// The connectors that are stored.
async fn stored(env: &Env) -> Option<BTreeSet<String>> {
    let list = env.endpoints().list(&ListParams::default()).await.ok()?;
    let connectors = list.items.into_iter().map(|object| object.spec.connector);
    Some(connectors.collect())
}

async fn are_stored(env: &Env, expected: &[Service]) {
    let expected: BTreeSet<_> = expected.iter().map(|service| service.id.clone()).collect();
    until_within(RIGHT_AGAIN, "the store holds what it should", async || {
        let stored = stored(env).await.ok_or("the API server does not answer")?;
        match stored == expected {
            true => Ok(()),
            false => Err("other connectors are stored"),
        }
    })
    .await;
}

fn sd(registry: &Registry) -> Sd {
    Sd::new(Protocol::Grpc, registry.setup.listen)
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
    let (a, b) = (sd(&first), sd(&second));
    let lives: Vec<_> = (0..20).map(service).collect();
    let ends = service(20);
    let all: Vec<_> = lives.iter().chain([&ends]).cloned().collect();
    for service in &all {
        a.register(service).await.unwrap();
    }
    // A server that a test before this one broke may still be busy.
    are_stored(&env, &all).await;
    let renewing = Renewing::start(&a, &lives);
    is_told(&b, &lives[19], &[&lives[19]]).await;
    is_offered_for(LEASE, &[&a, &b], &lives).await;

    breaks(&mut cluster).await;
    let (starts, passes) = (service(21), service(22));
    assert_eq!(a.register(&starts).await.unwrap(), Kept::Pending);
    assert_eq!(a.register(&passes).await.unwrap(), Kept::Pending);
    let started = Renewing::start(&a, std::slice::from_ref(&starts));
    a.deregister(&ends).await.unwrap();
    a.deregister(&passes).await.unwrap();
    assert!(told(&a, &ends).await.is_empty() && told(&a, &passes).await.is_empty());
    is_offered_for(OUTAGE, &[&a, &b], &lives).await;
    assert_eq!(told(&a, &starts).await, [&*starts.id]);
    mends(&mut cluster).await;

    let left: Vec<_> = lives.iter().chain([&starts]).cloned().collect();
    are_stored(&env, &left).await;
    is_told(&b, &starts, &[&starts]).await;
    is_told(&b, &ends, &[]).await;
    is_told(&b, &passes, &[]).await;
    // Longer than a lease, the time of a released one and that of an orphan.
    is_offered_for(2 * OUTAGE, &[&a, &b], &left).await;
    are_stored(&env, &left).await;
    assert_eq!(
        first
            .metric("tunnel_registry_endpoints_restored_total")
            .await,
        0
    );
    let up = async || {
        let (_, metrics) = first.admin("/metrics").await;
        let up = metrics.contains("\ntunnel_registry_store_up 1.0\n");
        up.then_some(())
    };
    until("the store takes writes", up).await;
    renewing.end().await;
    started.end().await;
    first.stop().await;
    second.stop().await;
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
