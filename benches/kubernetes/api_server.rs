//! A real API server of a part's own, started as the tests start theirs, with
//! what the parts ask of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use serde_json::json;
use tunnel_registry::resources::TunnelEndpoint;

use crate::common::Result;
use crate::common::endpoints::Endpoints;
use crate::common::servers::{Controller, Registry, Store};
use crate::it::kube::cluster::Cluster;
use crate::objects::object;

/// An API server, its etcd, and the registries that are run on it. All of them
/// are the administrator to it, replicas and yardsticks alike.
#[derive(Debug)]
pub struct ApiServer {
    /// What a part may break.
    pub cluster: Cluster,
    binary: PathBuf,
}

/// Requests that change something, as the API server counts them.
const WRITES: [&str; 6] = [
    "POST",
    "PUT",
    "PATCH",
    "APPLY",
    "DELETE",
    "DELETECOLLECTION",
];

impl ApiServer {
    /// Starts one; `binary` is the registry.
    pub async fn start(binary: &Path) -> Result<Self> {
        let server = Self {
            cluster: Cluster::own().await,
            binary: binary.into(),
        };
        server.warm_up().await?;
        Ok(server)
    }

    /// An API server lets whoever creates objects of a kind wait for 2 s while
    /// the kind is new.
    async fn warm_up(&self) -> Result<()> {
        let api = Self::endpoints(self.client().await?, "default");
        let endpoint = Endpoints::new(0, 1).give();
        let object = object(&endpoint, "nobody", Duration::ZERO)?;
        let name = object.name_any();
        api.create(&PostParams::default(), &object).await?;
        api.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn config(&self) -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(self.cluster.site.admin_kubeconfig())?;
        let options = KubeConfigOptions::default();
        Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
    }

    /// The registry's own client.
    pub async fn client(&self) -> Result<Client> {
        Ok(tunnel_registry::kubernetes::client(self.config().await?)?)
    }

    /// The client that kube makes of a configuration.
    pub async fn plain_client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// The endpoints of a namespace, through a client.
    pub fn endpoints(client: Client, namespace: &str) -> Api<TunnelEndpoint> {
        Api::namespaced(client, namespace)
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({ "metadata": { "name": name } });
        let object: Namespace = serde_json::from_value(object)?;
        let namespaces = Api::<Namespace>::all(self.client().await?);
        namespaces.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// How many endpoints are stored in a namespace.
    pub async fn count(&self, namespace: &str) -> Result<usize> {
        let page = ListParams::default().limit(1);
        let list = Self::endpoints(self.client().await?, namespace)
            .list(&page)
            .await?;
        let rest = list.metadata.remaining_item_count.unwrap_or_default();
        Ok(list.items.len() + usize::try_from(rest)?)
    }

    /// Starts a replica in a namespace and waits until it is ready.
    pub async fn replica(
        &self,
        namespace: &str,
        identity: &str,
        flags: &[&str],
    ) -> Result<Registry> {
        let store = Store::Kubernetes(self.cluster.site.admin_kubeconfig());
        let own = ["--namespace", namespace, "--identity", identity];
        Registry::start(&self.binary, &store, &[&own, flags].concat()).await
    }

    /// Starts a controller of a namespace and waits until it is ready.
    pub async fn controller(&self, namespace: &str, flags: &[&str]) -> Result<Controller> {
        let kubeconfig = self.cluster.site.admin_kubeconfig();
        let own = ["--namespace", namespace];
        Controller::start(&self.binary, &kubeconfig, &[&own, flags].concat()).await
    }

    /// How many requests it has taken that change something, by verb and
    /// resource.
    pub async fn writes(&self) -> Result<BTreeMap<String, f64>> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let metrics = self.client().await?.request_text(request).await?;
        let mut writes = BTreeMap::new();
        for line in metrics.lines() {
            if let Some((what, count)) = write_of(line) {
                *writes.entry(what).or_default() += count;
            }
        }
        Ok(writes)
    }
}

/// What a line of `/metrics` says about requests that change something.
fn write_of(line: &str) -> Option<(String, f64)> {
    let (labels, count) = line
        .strip_prefix("apiserver_request_total{")?
        .rsplit_once("} ")?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let verb = label("verb").filter(|verb| WRITES.contains(verb))?;
    let resource = label("resource")?;
    Some((format!("{verb} {resource}"), count.parse().ok()?))
}
