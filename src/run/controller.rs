//! `controller`: the parts of a controller of a cluster, put together.

use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use futures::stream;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Part, Vitals};
use crate::args::Controller;
use crate::controller::election::{Election, Times, lease};
use crate::controller::notices::{self, Notices};
use crate::controller::plan::routes::Kind;
use crate::controller::sessions::{self, Sessions};
use crate::controller::work::{Setup, Work};
use crate::kubernetes;
use crate::kubernetes::pods::{self, Cell};
use crate::metrics::Metrics;
use crate::metrics::controller::Collected;
use crate::metrics::gateway::Routed;
use crate::run::parts::process;
use crate::run::pulse::Pulse;
use crate::run::serve::endless;
use crate::run::store::host_name;
use crate::run::supervisor::{Ended, Phase, Supervisor};
use crate::run::{StartError, warn_of_misspelt};
use crate::signals::signals;
use crate::time::Now;

/// How long giving up the leader's Lease may take.
const LEAVING: Duration = Duration::from_secs(6);
/// How long everything else may take to stop.
const BACKGROUND: Duration = Duration::from_secs(1);

/// Runs a controller until it is told to stop or a task of it ends.
///
/// # Errors
/// When it cannot start; nothing was begun then.
pub async fn control(args: &Controller) -> Result<Ended, StartError> {
    let routing = args.gateways.settings()?;
    let signals = signals()?;
    let admin_listener = admin::server::bind(args.admin_listen).await?;
    let client = kubernetes::connect().await?;
    let namespace = args.place.namespace_or(client.default_namespace());
    let identity = args.identity(&host_name(), fastrand::u32(..));
    let times = Times::of(args.leader_lease);
    let election = Arc::new(Mutex::new(Election::new(Arc::clone(&identity), times)));
    let (notices, told) = Notices::new();
    let watch = |scope| {
        let (changes, cell) = pods::watch(client.clone(), scope);
        (Either::Left(changes), cell)
    };
    let (pod_changes, cell) = match args.watch_pods.scope(&namespace) {
        Some(scope) => watch(scope),
        None => (Either::Right(stream::pending()), Cell::off()),
    };
    let setup = Setup {
        namespace: namespace.clone(),
        orphan_for: args.orphan_for,
        dry_run: args.dry_run,
    };
    let work = Work::new(
        client.clone(),
        setup,
        Arc::clone(&election),
        cell,
        Arc::clone(&notices),
    );
    let metrics = Arc::new(Metrics::new());
    metrics.register(Box::new(Collected::new(Arc::clone(&work))));
    let sessions = routing.map(|settings| {
        let setup = sessions::Setup {
            namespace: namespace.clone(),
            settings,
            dry_run: args.dry_run,
        };
        let (election, notices) = (Arc::clone(&election), Arc::clone(&notices));
        Sessions::new(client.clone(), setup, election, notices)
    });
    if let Some(sessions) = &sessions {
        metrics.register(Box::new(Routed::new(Arc::clone(sessions))));
    }
    let pulse = Arc::new(Pulse::new(Now::read()));

    let mut supervisor = Supervisor::new();
    // Whoever stops to lead has stopped to delete before.
    let acting = supervisor.phase("acting", BACKGROUND);
    let leaving = supervisor.phase("leaving", LEAVING);
    let background = supervisor.phase("background", BACKGROUND);

    let admin_listen = admin_listener.local_addr()?;
    let admin = admin::router_of_vitals(Vitals {
        alive: {
            let pulse = Arc::clone(&pulse);
            Arc::new(move || pulse.check(Now::read()))
        },
        parts: {
            let (work, sessions) = (Arc::clone(&work), sessions.clone());
            let stopping = supervisor.stopping();
            Arc::new(move || parts(&work, sessions.as_deref(), &stopping))
        },
        metrics: {
            let metrics = Arc::clone(&metrics);
            Arc::new(move || metrics.encode())
        },
    });

    supervisor.spawn(acting, "collector", {
        let work = Arc::clone(&work);
        |stop| endless(work.collect(stop))
    });
    supervisor.spawn(acting, "status writer", {
        let work = Arc::clone(&work);
        |stop| endless(work.write_statuses(stop))
    });
    if let Some(sessions) = &sessions {
        route(&mut supervisor, sessions, acting, background);
    }
    if !args.dry_run {
        let (client, namespace, work) = (client.clone(), namespace.clone(), Arc::clone(&work));
        supervisor.spawn(leaving, "election", |stop| {
            let turned = move |leads: bool, holder: &str| {
                work.turned(leads, holder);
                if let Some(sessions) = &sessions {
                    sessions.turned();
                }
            };
            endless(lease::run(election, client, namespace, turned, stop))
        });
    }
    supervisor.spawn(background, "event writer", {
        let (client, namespace) = (client.clone(), namespace.clone());
        let identity = Arc::clone(&identity);
        |stop| {
            endless(notices::run(
                notices, told, client, namespace, identity, stop,
            ))
        }
    });
    supervisor.spawn(background, "endpoint watch", {
        let work = Arc::clone(&work);
        |stop| endless(work.hear_endpoints(stop))
    });
    supervisor.spawn(background, "pod watch", {
        let work = Arc::clone(&work);
        |stop| endless(work.hear_pods(pod_changes, stop))
    });
    supervisor.spawn(background, "replica list", {
        let work = Arc::clone(&work);
        |stop| endless(work.read_replicas(stop))
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
    if args.dry_run {
        warn!("a dry run: it tells what it would collect, and writes nothing");
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("BUILD_COMMIT"),
        admin = %admin_listen,
        namespace,
        %identity,
        "started"
    );
    Ok(supervisor.run(signals).await)
}

/// Begins what is for proxy sessions.
fn route(supervisor: &mut Supervisor, sessions: &Arc<Sessions>, acting: Phase, background: Phase) {
    supervisor.spawn(acting, "route writer", {
        let sessions = Arc::clone(sessions);
        |stop| endless(sessions.apply(stop))
    });
    supervisor.spawn(acting, "session status writer", {
        let sessions = Arc::clone(sessions);
        |stop| endless(sessions.write_statuses(stop))
    });
    supervisor.spawn(background, "session watch", {
        let sessions = Arc::clone(sessions);
        |stop| endless(sessions.hear_sessions(stop))
    });
    for (name, kind) in [
        ("Service watch", Kind::Service),
        ("EndpointSlice watch", Kind::Slice),
        ("HTTPRoute watch", Kind::Route),
    ] {
        let sessions = Arc::clone(sessions);
        supervisor.spawn(background, name, move |stop| {
            endless(sessions.hear_made(kind, stop))
        });
    }
    supervisor.spawn(background, "resolver", {
        let sessions = Arc::clone(sessions);
        |stop| endless(sessions.resolve(stop))
    });
}

/// One that does not lead is ready as well: it watches and counts.
fn parts(work: &Work, sessions: Option<&Sessions>, stopping: &CancellationToken) -> Vec<Part> {
    let store = Part {
        name: "store",
        ready: work.ready(),
        note: None,
    };
    let sessions = sessions.map(|sessions| Part {
        name: "sessions",
        ready: Ok(()),
        note: sessions.unread(),
    });
    let parts = [process(stopping), store].into_iter();
    parts.chain(sessions).collect()
}
