//! The client library and the commands on it, against the program itself.

mod commands;
mod field;
mod kept;
mod lost;
mod program;
mod relay;
mod secured;
mod shell;
mod told;

use std::path::Path;

use crate::etcd::server as etcd;
use crate::kube::env::Env;
use crate::process::{Net, Registry, Setup};

/// A registry whose store is a namespace of a real API server.
async fn on_kubernetes(env: &Env, folder: &Path) -> Registry {
    let mut setup = Setup::new(Net::take(), folder);
    setup.store = Some("kubernetes".into());
    setup.environment = vec![("KUBECONFIG", env.kubeconfig().into())];
    let flags = format!("--namespace {} --watch-pods off --services", env.namespace);
    setup.flags(&flags).start().await
}

/// A registry whose store is a prefix of a real etcd.
async fn on_etcd(folder: &Path) -> Registry {
    let mut setup = Setup::new(Net::take(), folder);
    setup.store = Some(etcd::common().await.store().into());
    let flags = format!("--etcd-prefix {}", etcd::prefix());
    setup.flags(&flags).start().await
}
