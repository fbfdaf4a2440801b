//! discoverd's part of `serve`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::args::Serve;
use crate::backend::Backend;
use crate::discoverd::Services;
use crate::discoverd::engine::{Limits, Setup};
use crate::discoverd::http::{COMMENT_EVERY, Config, is_its_path, router, router_of_nothing};
use crate::discoverd::services::SUBSCRIBERS;
use crate::server::Server;
use crate::server::auth::Access;

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
        limits: Limits::default(),
        seed: fastrand::u64(..),
    };
    Arc::new(Services::new(setup, SUBSCRIBERS, backend))
}

/// Lets a server answer for them too. `stop` ends their streams.
pub(super) fn serve(
    server: Server,
    services: &Arc<Services>,
    args: &Serve,
    access: &Arc<Access>,
    stop: CancellationToken,
) -> Server {
    let paths = router(Config {
        services: Arc::clone(services),
        access: Arc::clone(access),
        request: args.times.request_timeout,
        comment: COMMENT_EVERY.min(args.times.idle_timeout / 2),
        stop,
    });
    server.beside(paths, is_its_path)
}

/// Lets a server tell that services are switched off.
pub(super) fn serve_nothing(server: Server) -> Server {
    server.beside(router_of_nothing(), is_its_path)
}
