//! A namespace of a test's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::sync::OnceCell;
use tunnel_registry::resources::TunnelEndpoint;

use super::cluster::{Cluster, common};
use super::site::Site;

/// A namespace of a test's own, and a client that is allowed everything.
pub struct Env {
    pub client: Client,
    pub namespace: String,
    pub site: Arc<Site>,
    /// Whether the product's accounts have been made.
    pub(super) accounts: OnceCell<()>,
}

impl Env {
    /// In the cluster that tests share which break nothing; starts it unless
    /// that has been done.
    pub async fn start() -> Self {
        Self::of(common().await).await
    }

    /// In another cluster.
    pub async fn of(cluster: &Cluster) -> Self {
        let client = cluster.site.admin().await.unwrap();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let namespace = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let object = json!({ "metadata": { "name": namespace } });
        let object: Namespace = serde_json::from_value(object).unwrap();
        let namespaces = Api::<Namespace>::all(client.clone());
        let create = PostParams::default();
        namespaces.create(&create, &object).await.unwrap();
        Self {
            client,
            namespace,
            site: Arc::clone(&cluster.site),
            accounts: OnceCell::new(),
        }
    }

    /// The endpoints of the test's namespace.
    pub fn endpoints(&self) -> Api<TunnelEndpoint> {
        self.api()
    }

    /// Objects of a kind in the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A file that lets kubectl do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.site.admin_kubeconfig()
    }
}
