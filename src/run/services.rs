//! discoverd's part of `serve`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::Serve;
use crate::backend::Backend;
use crate::discoverd::Services;
use crate::discoverd::engine::Setup;
use crate::discoverd::http::{COMMENT_EVERY, Config, is_its_path, router, router_of_nothing};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::run::serve::endless;
use crate::run::supervisor::{Phase, Supervisor};
use crate::server::Server;
use crate::server::auth::Access;
use crate::{upkeep, writeback};

/// The services in a store.
pub(super) fn services(
    args: &Serve,
    identity: &Arc<str>,
    shared: bool,
    backend: &Arc<dyn Backend>,
) -> Arc<Services> {
    let setup = Setup {
        identity: Arc::clone(identity),
        shared,
        ttl: args.services.service_ttl,
        limits: args.services.limits(),
        seed: fastrand::u64(..),
    };
    let subscribers = args.services.service_max_subscribers;
    Arc::new(Services::new(setup, subscribers, backend))
}

/// Lets a server answer for them too, and for tunnels. `stop` ends their streams.
pub(super) fn serve(
    server: Server,
    services: &Arc<Services>,
    registry: &Arc<Registry>,
    metrics: &Arc<Metrics>,
    args: &Serve,
    access: &Arc<Access>,
    stop: CancellationToken,
) -> Server {
    let paths = router(Config {
        services: Arc::clone(services),
        tunnels: Arc::clone(registry) as _,
        metrics: Arc::clone(metrics),
        access: Arc::clone(access),
        request: args.times.request_timeout,
        comment: COMMENT_EVERY.min(args.times.idle_timeout / 2),
        stop,
    });
    server.beside(paths, is_its_path)
}

/// Begins the tasks around them: the writer in the first phase, the rest in the second.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    (flushing, background): (Phase, Phase),
    services: Arc<Services>,
    registry: &Arc<Registry>,
    backend: &Arc<dyn Backend>,
    flush: Duration,
) {
    supervisor.spawn(flushing, "service writer", {
        let (services, backend) = (Arc::clone(&services), Arc::clone(backend));
        move |stop| endless(write(services, backend, stop, flush))
    });
    supervisor.spawn(background, "service events", {
        let services = Arc::clone(&services);
        |stop| endless(upkeep::service_events(services, stop))
    });
    supervisor.spawn(background, "tunnels as services", {
        let (registry, services) = (Arc::clone(registry), Arc::clone(&services));
        |stop| endless(upkeep::tunnels(registry, services, stop))
    });
    let registry = Arc::clone(registry);
    supervisor.spawn(background, "service sweep", |stop| {
        endless(upkeep::services(registry, services, stop))
    });
}

/// Writes what is wanted, until it is asked to stop and `flush` has passed. What is
/// left then was promised to nobody: whoever asked was told that it was not stored.
async fn write(
    services: Arc<Services>,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
    flush: Duration,
) {
    let left = writeback::run(services, backend, stop, flush).await;
    if left > 0 {
        info!(
            left,
            "the store did not take writes of services; none was promised"
        );
    }
}

/// Lets a server tell that services are switched off.
pub(super) fn serve_nothing(server: Server) -> Server {
    server.beside(router_of_nothing(), is_its_path)
}
