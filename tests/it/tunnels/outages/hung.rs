//! A store that never answers. No real disk can be made to hang without being
//! root, so the registry runs in this process, on a store that hangs on demand.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::backend::{Backend, Change, Revision, WatchError, Write, WriteError};
use tunnel_registry::controller::plan::own::Own;
use tunnel_registry::controller::plan::{Pace, Plan};
use tunnel_registry::lease::Timing;
use tunnel_registry::listing::{Filter, Listing as _};
use tunnel_registry::metrics::Metrics;
use tunnel_registry::registry::core::Setup;
use tunnel_registry::registry::{Limits, Registry};
use tunnel_registry::server::auth::Access;
use tunnel_registry::server::{self, Config, Server as Listener};
use tunnel_registry::time::Now;
use tunnel_registry::{upkeep, writeback};

use crate::process::{calls, until, value};
use crate::testenv::sessions;
use crate::tunnels::world::World;
use crate::tunnels::{Gost, Server, scenario};

/// Answers nothing while it hangs.
#[derive(Debug)]
struct Hanging {
    inner: Arc<Memory>,
    hangs: watch::Sender<bool>,
}

impl Backend for Hanging {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        let (inner, mut hangs) = (Arc::clone(&self.inner), self.hangs.subscribe());
        Box::pin(async move {
            // Fails when the store is dropped, at the end of the test.
            let _ = hangs.wait_for(|hangs| !hangs).await;
            inner.write(write).await
        })
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        self.inner.watch()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        let (inner, mut hangs) = (Arc::clone(&self.inner), self.hangs.subscribe());
        Box::pin(async move {
            let _ = hangs.wait_for(|hangs| !hangs).await;
            inner.ping().await
        })
    }
}

/// How long a Register waits for the store.
const WAIT: Duration = Duration::from_secs(2);

/// A registry in this process.
struct InProcess {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    store: Arc<Hanging>,
    _tasks: JoinSet<()>,
}

impl InProcess {
    async fn start<G>(world: &World<G>) -> Self {
        let setup = Setup {
            identity: "test".into(),
            pod: None,
            sharing: None,
            timing: Timing::default(),
            limits: Limits::default(),
            seed: 1,
        };
        let store = Arc::new(Hanging {
            inner: Arc::new(Memory::new()),
            hangs: watch::Sender::new(false),
        });
        let backend: Arc<dyn Backend> = store.clone();
        let registry = Arc::new(Registry::new(setup, &backend, WAIT));
        let plan = Plan::new(Pace::default(), Now::read().mono);
        let metrics = Arc::new(Metrics::new());
        let listener = Listener::bind(Config {
            listen: world.setup.listen,
            pod_ips: Arc::new([]),
            limits: server::Limits::default(),
            access: Arc::new(Access::everybody()),
            tls: None,
        })
        .await
        .unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run(registry.clone(), metrics.clone(), stop.clone()));
        tasks.spawn(upkeep::mirror(
            registry.clone(),
            sessions(&backend),
            None,
            Some(Arc::new(Mutex::new(Own::Alone(Box::new(plan))))),
            backend.clone(),
            stop.clone(),
        ));
        tasks.spawn(upkeep::sweep(registry.clone(), stop.clone()));
        let writing = writeback::run(registry.clone(), backend, stop, WAIT);
        tasks.spawn(async {
            writing.await;
        });
        Self {
            registry,
            metrics,
            store,
            _tasks: tasks,
        }
    }

    fn metric(&self, metric: &str) -> u64 {
        value(&self.metrics.encode().unwrap(), metric)
    }

    /// How each endpoint is stored.
    fn stored(&self) -> Vec<&'static str> {
        let rows = self.registry.rows(&self.registry.keys(&Filter::default()));
        rows.iter().map(|row| row.stored).collect()
    }
}

scenario!(a_hung_store_holds_nothing_up);

async fn a_hung_store_holds_nothing_up<G: Gost>(world: World<G>) {
    let world = world.grown(2);
    let running = InProcess::start(&world).await;
    let (holder, other) = (world.gost.server(11).await, world.gost.server(12).await);
    let (one, two) = (
        world.service(21, "one").await,
        world.service(22, "two").await,
    );
    let (first, second) = world.place.tunnels.split_at(1);
    let _first = world.gost.client(&holder, first, one.address);
    assert_eq!(world.reached(other.entrypoint(), 0).await, "one");

    running.store.hangs.send_replace(true);
    let _second = world.gost.client(&holder, second, two.address);
    // Known at once, although its registration is not answered yet.
    assert_eq!(world.reached(other.entrypoint(), 1).await, "two");
    let renewals = calls("renew", world.place.protocol.name(), "ok");
    let before = running.metric(&renewals);
    until("renewals go on", async || {
        let local = world.visit(holder.entrypoint(), 0).await;
        assert_eq!(local.as_deref(), Ok("one"));
        let local = world.visit(holder.entrypoint(), 1).await;
        assert_eq!(local.as_deref(), Ok("two"));
        (running.metric(&renewals) >= before + 6).then_some(())
    })
    .await;
    let pending = calls("register", world.place.protocol.name(), "pending");
    until("the registration is answered as pending", async || {
        (running.metric(&pending) == 1).then_some(())
    })
    .await;
    assert_eq!(running.stored(), ["stored", "pending"]);

    running.store.hangs.send_replace(false);
    until("what waited is stored", async || {
        (running.stored() == ["stored", "stored"]).then_some(())
    })
    .await;
}
