//! `serve`: the parts of a registry, put together.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::args::{Serve, Store};
use crate::backend::Backend;
use crate::controller::collect;
use crate::kubernetes::pods;
use crate::metrics::Metrics;
use crate::metrics::registry::Figures;
use crate::metrics::services::ServiceFigures;
use crate::metrics::sessions::SessionFigures;
use crate::registry::Registry;
use crate::registry::core::Setup;
use crate::run::dns;
use crate::run::parts;
use crate::run::pulse::Pulse;
use crate::run::services;
use crate::run::sessions::{self, Entry};
use crate::run::store::{self, Opened};
use crate::run::supervisor::{Ended, Supervisor};
use crate::run::{StartError, warn_of_misspelt};
use crate::server::auth::Access;
use crate::server::tls::{Tls, Use};
use crate::server::{self, Server, exposure};
use crate::session::maintenance::Responder;
use crate::session::traefik;
use crate::signals::signals;
use crate::time::Now;
use crate::writeback::Source;
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
    let tls = args.access.tls();
    let tls = tls.map(|files| Tls::open(files, Use::Calls)).transpose()?;
    let tls = tls.map(Arc::new);
    let admin_listener = admin::server::bind(args.listening.admin_listen).await?;
    let server = Server::bind(server::Config {
        listen: args.listening.listen,
        pod_ips: args.listening.pod_ip.as_slice().into(),
        limits: args.server_limits(),
        access: Arc::clone(&access),
        tls: tls.clone(),
    })
    .await?;
    let session_entry = args.session.listen(&store);
    let session_entry = session_entry.map(|listen| Entry::open(listen, args));
    let session_entry = session_entry.transpose()?;
    let responder = args.session.maintenance_listen(&store);
    let responder = responder.map(Responder::bind).transpose()?;
    let responder_url = args.session.maintenance_url.clone();
    let responder_url = responder_url.or_else(|| responder.as_ref().map(Responder::url));
    let Opened {
        backend,
        identity,
        sharing,
        plan,
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
    let sessions = sessions::sessions(args, &identity, sharing.is_some(), &backend);
    let metrics = Arc::new(Metrics::new());
    let server = server.also(traefik::http::router(
        Arc::clone(&sessions) as _,
        responder_url,
        Arc::clone(&metrics),
    ));
    let services = args
        .services
        .are_served(&store)
        .then(|| services::services(args, &identity, sharing.is_some(), &backend));
    let dns = dns::bind(args, services.as_ref())?;
    let plan = plan.map(|plan| Arc::new(Mutex::new(plan)));
    metrics.register(Box::new(Figures::new(Arc::clone(&registry), plan.clone())));
    metrics.register(Box::new(SessionFigures::new(Arc::clone(&sessions))));
    if let Some(services) = &services {
        metrics.register(Box::new(ServiceFigures::new(Arc::clone(services))));
    }
    let pulse = Arc::new(Pulse::new(Now::read()));

    let mut supervisor = Supervisor::new();
    let accepting = supervisor.phase("accepting", args.times.drain + MARGIN);
    let flushing = supervisor.phase("flushing", args.times.flush + MARGIN);
    let leaving = supervisor.phase("leaving", vouch::LEAVING + MARGIN);
    let background = supervisor.phase("background", BACKGROUND);

    let server = match &services {
        Some(services) => {
            let stopping = supervisor.stopping();
            services::serve(
                server, services, &registry, &metrics, args, &access, stopping,
            )
        }
        None => services::serve_nothing(server),
    };
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
            let (sessions, is_listening) = (Arc::clone(&sessions), session_entry.is_some());
            let services = services.clone();
            let (is_shared, stopping) = (sharing.is_some(), supervisor.stopping());
            Arc::new(move || {
                let mut told = vec![
                    parts::process(&stopping),
                    parts::stored(&registry, &*backend),
                ];
                told.extend(is_shared.then(|| parts::vouched(&registry)));
                let services = services.as_deref();
                told.extend(services.map(|services| parts::services(services, &*backend)));
                told.extend(is_listening.then(|| parts::sessions(&sessions, &*backend)));
                told
            })
        },
        metrics: {
            let metrics = Arc::clone(&metrics);
            Arc::new(move || metrics.encode())
        },
        listing: Arc::clone(&registry) as Arc<_>,
        sessions: {
            let (sessions, is_listening) = (Arc::clone(&sessions), session_entry.is_some());
            Arc::new(move || sessions::list(&sessions, is_listening))
        },
    });

    supervisor.spawn(accepting, "listener", {
        let (registry, metrics) = (Arc::clone(&registry), Arc::clone(&metrics));
        |stop| endless(server.run(registry, metrics, stop))
    });
    let flush = args.times.flush;
    supervisor.spawn(flushing, "writer", {
        let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
        move |stop| write(registry, backend, stop, flush)
    });
    supervisor.spawn(flushing, "session writer", {
        let (sessions, backend) = (Arc::clone(&sessions), Arc::clone(&backend));
        move |stop| write(sessions, backend, stop, flush)
    });
    supervisor.spawn(background, "mirror", {
        let (registry, backend) = (Arc::clone(&registry), Arc::clone(&backend));
        let (plan, sessions) = (plan.clone(), Arc::clone(&sessions));
        let services = services.clone();
        |stop| {
            endless(upkeep::mirror(
                registry, sessions, services, plan, backend, stop,
            ))
        }
    });
    if let Some(services) = services {
        let phases = (flushing, background);
        services::spawn(
            &mut supervisor,
            phases,
            services,
            &registry,
            &backend,
            flush,
        );
    }
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
    supervisor.spawn(background, "session sweep", {
        let (registry, sessions) = (Arc::clone(&registry), Arc::clone(&sessions));
        |stop| endless(upkeep::sessions(registry, sessions, stop))
    });
    let maintenance_listen = responder.as_ref().map(Responder::local_addr);
    if let Some(responder) = responder {
        let (sessions, metrics) = (Arc::clone(&sessions), Arc::clone(&metrics));
        supervisor.spawn(accepting, "maintenance responder", |stop| {
            endless(responder.run(sessions, metrics, stop))
        });
    }
    let session_listen = session_entry.as_ref().map(Entry::local_addr);
    if let Some(entry) = session_entry {
        entry.spawn(&mut supervisor, (accepting, background), sessions, &metrics);
    }
    let dns_listen = dns.local_addrs();
    dns.spawn(&mut supervisor, accepting, &metrics);
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
        sessions = session_listen.map(|at| at.to_string()),
        maintenance = maintenance_listen.map(|at| at.to_string()),
        dns = dns_listen,
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

/// Writes what is wanted, until it is asked to stop and `flush` has passed.
async fn write<S: Source>(
    source: Arc<S>,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
    flush: Duration,
) -> Result<(), String> {
    match writeback::run(source, backend, stop, flush).await {
        0 => Ok(()),
        left => Err(format!(
            "left {left} writes that the store did not take within --flush"
        )),
    }
}

/// A task that ends only when it is asked to, and cannot fail.
pub(super) async fn endless(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
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
