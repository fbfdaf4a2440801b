//! `serve`: the parts of a registry, put together.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin, Part};
use crate::args::{Serve, Store};
use crate::backend::Backend;
use crate::controller::collect;
use crate::controller::plan::{Pace, Plan};
use crate::kubernetes::pods;
use crate::metrics::Metrics;
use crate::metrics::registry::Figures;
use crate::registry::Registry;
use crate::registry::core::Setup;
use crate::run::pulse::Pulse;
use crate::run::signals::signals;
use crate::run::store::{self, Opened};
use crate::run::supervisor::{Ended, Supervisor};
use crate::run::{StartError, warn_of_misspelt};
use crate::server::auth::Access;
use crate::server::tls::Tls;
use crate::server::{self, Server, exposure};
use crate::time::Now;
use crate::{upkeep, vouch, writeback};

/// How long what neither answers calls nor writes may take to stop.
const BACKGROUND: Duration = Duration::from_secs(1);
/// What a phase of a stop may take beyond the bound of what it does, which ends
/// in time by itself.
const MARGIN: Duration = Duration::from_secs(1);

/// Runs a registry until it is told to stop or a task of it ends.
///
/// # Errors
/// When it cannot start; nothing was begun then.
pub async fn serve(args: &Serve) -> Result<Ended, StartError> {
    let signals = signals()?;
    let store = args.store.clone().map_or_else(Store::usual, Ok)?;
    let access = Arc::new(access(args)?);
    let tls = args.access.tls().map(Tls::open).transpose()?.map(Arc::new);
    let admin_listener = admin::server::bind(args.listening.admin_listen).await?;
    let server = Server::bind(server::Config {
        listen: args.listening.listen,
        pod_ips: args.listening.pod_ip.as_slice().into(),
        limits: args.server_limits(),
        access: Arc::clone(&access),
        tls: tls.clone(),
    })
    .await?;
    let Opened {
        backend,
        identity,
        sharing,
        pod,
        cluster,
    } = store::open(&store, args).await?;

    let setup = Setup {
        identity: Arc::clone(&identity),
        pod,
        sharing,
        timing: args.times.timing(),
        limits: args.limits.registry(),
        seed: fastrand::u64(..),
    };
    let namespace = cluster.as_ref().map(|(_, namespace)| namespace.clone());
    let registry = Arc::new(Registry::new(setup, &backend, args.times.register_wait));
    // A store that others share is collected by the controller.
    let plan = sharing
        .is_none()
        .then(|| Arc::new(Mutex::new(Plan::new(Pace::default(), Now::read().mono))));
    let metrics = Arc::new(Metrics::new());
    metrics.register(Box::new(Figures::new(Arc::clone(&registry), plan.clone())));
    let pulse = Arc::new(Pulse::new(Now::read()));

    let mut supervisor = Supervisor::new();
    let accepting = supervisor.phase("accepting", args.times.drain + MARGIN);
    let flushing = supervisor.phase("flushing", args.times.flush + MARGIN);
    let leaving = supervisor.phase("leaving", vouch::LEAVING + MARGIN);
    let background = supervisor.phase("background", BACKGROUND);

    let (listen, admin_listen) = (server.local_addr(), admin_listener.local_addr()?);
    let health = server.health();
    let exposed = exposure(
        listen,
        access.is_restricted(),
        tls.is_some(),
        args.access.tls().is_some_and(|tls| tls.client_ca.is_some()),
    );
    let admin = admin::router(Admin {
        alive: {
            let pulse = Arc::clone(&pulse);
            Arc::new(move || pulse.check(Now::read()))
        },
        parts: {
            let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
            let (is_shared, stopping) = (sharing.is_some(), supervisor.stopping());
            Arc::new(move || {
                let mut parts = vec![process(&stopping), stored(&registry, &*backend)];
                parts.extend(is_shared.then(|| vouched(&registry)));
                parts
            })
        },
        metrics: {
            let metrics = Arc::clone(&metrics);
            Arc::new(move || metrics.encode())
        },
        listing: Arc::clone(&registry) as Arc<_>,
    });

    supervisor.spawn(accepting, "listener", {
        let (registry, metrics) = (Arc::clone(&registry), Arc::clone(&metrics));
        |stop| endless(server.run(registry, metrics, stop))
    });
    supervisor.spawn(flushing, "writer", {
        let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
        let flush = args.times.flush;
        move |stop| async move {
            match writeback::run(registry, backend, stop, flush).await {
                0 => Ok(()),
                left => Err(format!(
                    "left {left} writes that the store did not take within --flush"
                )),
            }
        }
    });
    supervisor.spawn(background, "mirror", {
        let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
        let plan = plan.clone();
        |stop| endless(upkeep::mirror(registry, plan, backend, stop))
    });
    supervisor.spawn(background, "store", {
        let backend = Arc::clone(&backend);
        |stop| async move {
            match stop.run_until_cancelled(backend.ended()).await {
                None => Ok(()),
                Some(why) => Err(format!("ended: {why}")),
            }
        }
    });
    if let Some((client, namespace)) = cluster
        && let Some(scope) = args.kubernetes.watch_pods.scope(&namespace)
    {
        let (changes, _cell) = pods::watch(client, scope);
        let registry = Arc::clone(&registry);
        supervisor.spawn(background, "pod watch", |stop| {
            endless(upkeep::pods(registry, changes, stop))
        });
    }
    supervisor.spawn(background, "sweep", {
        let registry = Arc::clone(&registry);
        |stop| endless(upkeep::sweep(registry, stop))
    });
    if let Some(plan) = plan {
        let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
        supervisor.spawn(background, "collector", |stop| {
            endless(collect::run(plan, backend, registry, stop))
        });
    }
    if sharing.is_some() {
        let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
        supervisor.spawn(leaving, "lease", |stop| {
            endless(vouch::run(registry, backend, stop))
        });
    }
    supervisor.spawn(background, "health", {
        let (registry, stopping) = (Arc::clone(&registry), supervisor.stopping());
        |stop| {
            endless(async move {
                if stopping
                    .run_until_cancelled(registry.ready())
                    .await
                    .is_some()
                {
                    health.set(true).await;
                    stopping.cancelled().await;
                }
                health.set(false).await;
                stop.cancelled().await;
            })
        }
    });
    supervisor.spawn(background, "token reload", {
        let metrics = Arc::clone(&metrics);
        |stop| {
            endless(async move {
                access.watch(&metrics, stop.clone()).await;
                stop.cancelled().await;
            })
        }
    });
    supervisor.spawn(background, "certificate reload", {
        let metrics = Arc::clone(&metrics);
        |stop| {
            endless(async move {
                if let Some(tls) = tls {
                    tls.watch(&metrics, stop.clone()).await;
                }
                stop.cancelled().await;
            })
        }
    });
    supervisor.spawn(
        background,
        "pulse",
        |stop| async move { pulse.run(stop).await },
    );
    supervisor.spawn(background, "admin server", |stop| {
        admin::server::serve(admin_listener, admin, stop)
    });

    warn_of_misspelt();
    if let Some(exposed) = exposed {
        warn!("{exposed}");
    }
    if matches!(store, Store::Memory) {
        warn!(
            "the memory store forgets every tunnel when this process ends, and gost never registers twice; use --store file:PATH to keep them"
        );
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("BUILD_COMMIT"),
        %listen,
        admin = %admin_listen,
        %store,
        namespace,
        %identity,
        "started"
    );
    Ok(supervisor.run(signals).await)
}

/// Who may call.
fn access(args: &Serve) -> Result<Access, StartError> {
    Ok(match (&args.access.token_file, &args.access.tokens) {
        (Some(file), _) => Access::file(file.clone())?,
        (None, Some(tokens)) => Access::tokens(tokens.clone()),
        (None, None) => Access::everybody(),
    })
}

/// A task that ends only when it is asked to, and cannot fail.
pub(super) async fn endless(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}

/// Not ready from the moment that a stop begins, so that nobody new comes.
pub(super) fn process(stopping: &CancellationToken) -> Part {
    let ready = if stopping.is_cancelled() {
        Err("stopping".to_owned())
    } else {
        Ok(())
    };
    Part {
        name: "process",
        ready,
        note: None,
    }
}

/// Whether the store has been read: before that an answer would be a lie. That it
/// takes no writes is no reason not to be asked: they are kept.
fn stored(registry: &Registry, backend: &dyn Backend) -> Part {
    let ready = match (registry.figures().ready, backend.trouble()) {
        (true, _) => Ok(()),
        (false, None) => Err("it has not been read yet".to_owned()),
        (false, Some(why)) => Err(format!("it has not been read yet: {why}")),
    };
    let unwritten = registry
        .unwritten()
        .map(|why| format!("it takes no writes: {why}"));
    let unread = || {
        backend
            .trouble()
            .map(|why| format!("it tells no changes: {why}"))
    };
    Part {
        name: "store",
        note: unwritten.or_else(unread).filter(|_| ready.is_ok()),
        ready,
    }
}

/// Whether others see that this replica lives.
fn vouched(registry: &Registry) -> Part {
    let unvouched = registry.unvouched();
    let note = unvouched.map(|(time, why)| {
        let seconds = time.as_secs();
        format!("not renewed for {seconds} s, so others doubt what this replica holds: {why}")
    });
    Part {
        name: "lease",
        ready: Ok(()),
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;

    fn args(line: &str) -> Serve {
        let words = format!("tunnel-registry {line}");
        match Args::try_parse(words.split_whitespace().map(Into::into), None).unwrap() {
            Args::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_process_that_stops_is_not_ready() {
        let stopping = CancellationToken::new();
        assert_eq!(process(&stopping).ready, Ok(()));
        stopping.cancel();
        assert_eq!(process(&stopping).ready, Err("stopping".into()));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_ends_the_start() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let args = args(&format!("--admin-listen {address} --store memory"));
        let error = serve(&args).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {address}: ")),
            "{error}"
        );
    }
}
