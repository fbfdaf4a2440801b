//! Opens the store that was asked for, with what comes with it.

use std::path::Path;
use std::sync::Arc;

use kube::Client;
use tracing::warn;
use uuid::Uuid;

use crate::args::replica::NoIdentity;
use crate::args::transfer::Part;
use crate::args::{Kubernetes as Told, Serve, Store};
use crate::backend::Backend;
use crate::backend::etcd::Etcd;
use crate::backend::file::File;
use crate::backend::kubernetes::{Kubernetes, Owner, Settings};
use crate::backend::memory::Memory;
use crate::controller::plan::cluster::ClusterPlan;
use crate::controller::plan::own::Own;
use crate::controller::plan::{Pace, Plan};
use crate::kubernetes;
use crate::registry::vouch::Sharing;
use crate::run::StartError;
use crate::time::Now;

/// Who holds the leases in a store that only one process may open.
const SOLE_HOLDER: &str = "local";

/// An open store, and how this process stands in it.
pub(super) struct Opened {
    pub backend: Arc<dyn Backend>,
    /// Who holds what this process maintains.
    pub identity: Arc<str>,
    /// How the store is shared with other replicas; none when it is this
    /// process's own.
    pub sharing: Option<Sharing>,
    /// How this process collects the store; none when a controller does.
    pub plan: Option<Own>,
    /// The pod that this runs in.
    pub pod: Option<Uuid>,
    /// The cluster, and the namespace of the records in it.
    pub cluster: Option<(Client, String)>,
}

/// Opens the store. Reading a large file takes a moment, so not on a thread that
/// answers. A cluster, or etcd, is asked for nothing yet.
pub(super) async fn open(store: &Store, args: &Serve) -> Result<Opened, StartError> {
    let backend: Arc<dyn Backend> = match store {
        Store::Memory => Arc::new(Memory::new()),
        Store::File(path) => file(path).await?,
        Store::Kubernetes => {
            let kept = Kept {
                sessions: args.session.listen(store).is_some(),
                services: args.services.are_served(store),
            };
            return cluster(args, kept).await;
        }
        Store::Etcd(urls) => {
            let etcd = Etcd::open(args.etcd.settings(urls.clone())).await?;
            let now = Now::read().mono;
            let plan = ClusterPlan::new(Pace::cluster(), args.replica.orphan_for, now);
            return Ok(Opened {
                backend: Arc::new(etcd),
                identity: identity(args, None)?,
                sharing: Some(args.replica.sharing()),
                plan: Some(Own::Shared(Box::new(plan))),
                pod: None,
                cluster: None,
            });
        }
    };
    let plan = Plan::new(Pace::default(), Now::read().mono);
    Ok(Opened {
        backend,
        identity: SOLE_HOLDER.into(),
        sharing: None,
        plan: Some(Own::Alone(Box::new(plan))),
        pod: None,
        cluster: None,
    })
}

/// What is kept in a cluster besides endpoints and replicas.
struct Kept {
    sessions: bool,
    services: bool,
}

/// Opens a store for a command that registers nothing: with every kind that it can
/// keep, and nobody who holds anything in it.
pub(super) async fn open_alone(store: &Store, part: &Part) -> Result<Arc<dyn Backend>, StartError> {
    match store {
        Store::Memory => Ok(Arc::new(Memory::new())),
        Store::File(path) => file(path).await,
        Store::Kubernetes => {
            let client = kubernetes::connect().await?;
            let namespace = part.place.namespace_or(client.default_namespace());
            Ok(Arc::new(Kubernetes::new(Settings {
                client,
                namespace,
                owner: None,
                sessions: true,
                services: true,
            })))
        }
        Store::Etcd(urls) => {
            let etcd = Etcd::open(part.etcd.settings(urls.clone())).await?;
            Ok(Arc::new(etcd))
        }
    }
}

async fn file(path: &Path) -> Result<Arc<dyn Backend>, StartError> {
    let path = path.to_owned();
    let file = tokio::task::spawn_blocking(move || File::open(path)).await??;
    Ok(Arc::new(file))
}

/// Who this replica is.
fn identity(args: &Serve, pod: Option<Arc<str>>) -> Result<Arc<str>, NoIdentity> {
    let listen = args.listening.listen;
    args.replica.identity(pod, &host_name(), listen)
}

async fn cluster(args: &Serve, kept: Kept) -> Result<Opened, StartError> {
    let told = &args.kubernetes;
    let identity = identity(args, told.identity())?;
    let client = kubernetes::connect().await?;
    let namespace = told.place.namespace_or(client.default_namespace());
    let owner = owner(told, &namespace);
    let backend = Kubernetes::new(Settings {
        client: client.clone(),
        namespace: namespace.clone(),
        owner,
        sessions: kept.sessions,
        services: kept.services,
    });
    Ok(Opened {
        backend: Arc::new(backend),
        identity,
        sharing: Some(args.replica.sharing()),
        plan: None,
        pod: told.pod_uid,
        cluster: Some((client, namespace)),
    })
}

/// The pod that owns what it registers. One of another namespace cannot.
fn owner(told: &Told, namespace: &str) -> Option<Owner> {
    let (name, uid) = told.pod_name.clone().zip(told.pod_uid)?;
    let own = told.pod_namespace.clone();
    let own = own.unwrap_or_else(|| namespace.to_owned());
    if own != namespace {
        warn!(
            pod_namespace = own,
            namespace,
            "the pod is in another namespace than the TunnelEndpoints, so it cannot own them: they are removed by the controller, not with the pod"
        );
    }
    Some(Owner {
        namespace: own,
        name,
        uid,
    })
}

/// What this host calls itself.
pub(super) fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}
