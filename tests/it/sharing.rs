//! Replicas that share a store which breaks: the same is promised for every store.
//! Leases are short, so that every outage lasts for several of them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tunnel_registry::gost::proto::Service;

use crate::kube::replicas::{is_told, service, told};
use crate::process::{Registry, until, until_within};
use crate::sd::{Kept, Protocol, Sd};

/// A lease of a replica, and the silence after which an endpoint is released.
pub const LEASE: Duration = Duration::from_secs(4);
/// How often what lives is renewed.
const TTL: Duration = Duration::from_millis(500);
/// A whole lease and more: an outage has a duration by its nature.
pub const OUTAGE: Duration = Duration::from_secs(6);
/// Everything is right again so long after an outage: the longest pause of the
/// write queue, of a watch, and of a write that hangs.
const RIGHT_AGAIN: Duration = Duration::from_secs(60);

/// How the replicas are started.
pub const FLAGS: &str = "--replica-lease 4s --base-time 2s --start-grace 0s";

/// Endpoints that are renewed until this is dropped; a renewal must not fail.
pub struct Renewing(CancellationToken, JoinSet<()>);

impl Renewing {
    pub fn start(sd: &Sd, services: &[Service]) -> Self {
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

    pub async fn end(mut self) {
        self.0.cancel();
        while let Some(ended) = self.1.join_next().await {
            ended.unwrap();
        }
    }
}

/// Get is answered throughout, with whatever of this lives.
pub async fn is_offered_for(time: Duration, clients: &[&Sd], services: &[Service]) {
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

/// Waits until the store holds the connectors of these; `stored` is none while it
/// does not answer.
pub async fn are_stored(stored: impl AsyncFn() -> Option<BTreeSet<String>>, expected: &[Service]) {
    let expected: BTreeSet<_> = expected.iter().map(|service| service.id.clone()).collect();
    until_within(RIGHT_AGAIN, "the store holds what it should", async || {
        let stored = stored().await.ok_or("the store does not answer")?;
        match stored == expected {
            true => Ok(()),
            false => Err("other connectors are stored"),
        }
    })
    .await;
}

pub fn sd(registry: &Registry) -> Sd {
    Sd::new(Protocol::Grpc, registry.setup.listen)
}

/// Whether writes fail while a store is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing is written, whatever is tried.
    Whole,
    /// A part is, and the others do its work.
    Part,
}

/// The store breaks for longer than a lease while gosts renew, register and
/// deregister at two replicas that were started with [`FLAGS`]; then it is mended,
/// and everything is as they left it. The replicas are stopped.
pub async fn nothing_is_lost<S>(
    [first, second]: [Registry; 2],
    store: &mut S,
    broken: Broken,
    stored: impl AsyncFn(&S) -> Option<BTreeSet<String>>,
    breaks: impl AsyncFnOnce(&mut S),
    mends: impl AsyncFnOnce(&mut S),
) {
    let (a, b) = (sd(&first), sd(&second));
    let lives: Vec<_> = (0..20).map(service).collect();
    let ends = service(20);
    let all: Vec<_> = lives.iter().chain([&ends]).cloned().collect();
    for service in &all {
        a.register(service).await.unwrap();
    }
    // A server that a test before this one broke may still be busy.
    are_stored(async || stored(store).await, &all).await;
    let renewing = Renewing::start(&a, &lives);
    is_told(&b, &lives[19], &[&lives[19]]).await;
    is_offered_for(LEASE, &[&a, &b], &lives).await;

    breaks(store).await;
    let (starts, passes) = (service(21), service(22));
    for service in [&starts, &passes] {
        let kept = a.register(service).await.unwrap();
        assert!(kept == Kept::Pending || broken == Broken::Part);
    }
    let started = Renewing::start(&a, std::slice::from_ref(&starts));
    a.deregister(&ends).await.unwrap();
    a.deregister(&passes).await.unwrap();
    assert!(told(&a, &ends).await.is_empty() && told(&a, &passes).await.is_empty());
    is_offered_for(OUTAGE, &[&a, &b], &lives).await;
    assert_eq!(told(&a, &starts).await, [&*starts.id]);
    let left: Vec<_> = lives.iter().chain([&starts]).cloned().collect();
    if broken == Broken::Part {
        are_stored(async || stored(store).await, &left).await;
        is_told(&b, &starts, &[&starts]).await;
    }
    mends(store).await;

    are_stored(async || stored(store).await, &left).await;
    is_told(&b, &starts, &[&starts]).await;
    is_told(&b, &ends, &[]).await;
    is_told(&b, &passes, &[]).await;
    // Longer than a lease, the time of a released one and that of an orphan.
    is_offered_for(2 * OUTAGE, &[&a, &b], &left).await;
    are_stored(async || stored(store).await, &left).await;
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
}
