//! The chart, installed as its users do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tunnel_registry::resources::TunnelEndpoint;

use crate::kube::tools::say;
use crate::process::{Look, folder, until_within};
use crate::whole::site::{PATIENCE, Site};

/// The release.
pub const RELEASE: &str = "tr";
/// Objects of the release are named so.
pub const NAME: &str = "tr-tunnel-registry";

/// The definition, which the chart leaves when it goes.
const CRD: &str = "crd/tunnelendpoints.tunnelregistry.io";
/// As kubectl prints it.
const CRD_NAME: &str =
    "customresourcedefinition.apiextensions.k8s.io/tunnelendpoints.tunnelregistry.io\n";
/// What the chart makes and does not leave.
const KINDS: &str = "all,secrets,serviceaccounts,configmaps,roles,rolebindings,clusterroles,clusterrolebindings,pdb,netpol,validatingadmissionpolicies,validatingadmissionpolicybindings";

/// The controllers' Lease, as kubectl prints it.
const LEADERS: &str = "lease.coordination.k8s.io/tunnel-registry-controller";

/// Looks until something is there, as long as clusters may take.
pub async fn awaited<L: Look>(what: &str, look: impl AsyncFnMut() -> L) -> L::Thing {
    until_within(PATIENCE, what, look).await
}

/// A release in a namespace of its own, in which Pod Security is enforced.
pub struct Installed {
    pub site: Site,
    pub namespace: String,
    pub values: Value,
    folder: TempDir,
}

impl Installed {
    /// Installs the chart with these values, and waits until everything is ready.
    pub async fn new(site: Site, values: Value) -> Self {
        let namespace = format!("whole-{:08x}", fastrand::u32(..));
        let object: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }))
        .unwrap();
        let namespaces = Api::<Namespace>::all(site.client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        let installed = Self {
            site,
            namespace,
            values,
            folder: folder(),
        };
        installed.apply(&["install"]).await;
        installed
    }

    /// `helm upgrade` to other values.
    pub async fn upgrade(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.values);
        self.apply(&["upgrade"]).await;
    }

    async fn apply(&self, command: &[&str]) {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tunnel-registry");
        let values = self.folder.path().join("values.json");
        std::fs::write(&values, self.values.to_string()).unwrap();
        let (chart, values) = (chart.to_str().unwrap(), values.to_str().unwrap());
        let rest = [
            RELEASE,
            chart,
            "--values",
            values,
            "--wait",
            "--timeout",
            "170s",
        ];
        self.helm(&[command, &rest].concat()).await;
    }

    /// Runs Helm in the release's namespace; it must succeed.
    pub async fn helm(&self, arguments: &[&str]) -> String {
        let namespace = ["--namespace", &self.namespace];
        let done = self.site.helm(&[arguments, &namespace].concat()).await;
        match done {
            Ok(text) => text,
            Err(error) => {
                let everything = ["get", "pods,events", "--output=wide", "-n", &self.namespace];
                panic!("{error}\n{}", self.site.kubectl(&everything).await.unwrap());
            }
        }
    }

    /// Runs kubectl in the release's namespace; it must succeed.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = ["--namespace", &self.namespace];
        let done = self.site.kubectl(&[arguments, &namespace].concat()).await;
        done.unwrap()
    }

    /// What is registered.
    pub async fn endpoints(&self) -> Vec<TunnelEndpoint> {
        let list = self.site.endpoints(&self.namespace);
        list.list(&ListParams::default()).await.unwrap().items
    }

    /// The address of each tunnel's endpoint, by tunnel.
    pub async fn addresses(&self) -> BTreeMap<String, Vec<SocketAddr>> {
        let mut addresses = BTreeMap::<_, Vec<_>>::new();
        for endpoint in self.endpoints().await {
            let address = endpoint.spec.address.parse().unwrap();
            addresses
                .entry(endpoint.spec.tunnel)
                .or_default()
                .push(address);
        }
        addresses
    }

    fn pods_api(&self) -> Api<Pod> {
        Api::namespaced(self.site.client.clone(), &self.namespace)
    }

    /// The pods of a component that are not asked to end, by address.
    pub async fn pods(&self, component: &str) -> BTreeMap<IpAddr, String> {
        let of = format!("app.kubernetes.io/component={component}");
        let list = self
            .pods_api()
            .list(&ListParams::default().labels(&of))
            .await;
        let living = list.unwrap().items.into_iter();
        living
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| {
                let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
                Some((ip, pod.name_any()))
            })
            .collect()
    }

    /// Asks a pod to end.
    pub async fn delete_pod(&self, name: &str) {
        let deleted = self.pods_api().delete(name, &DeleteParams::default()).await;
        deleted.unwrap();
    }

    /// Whether there is a pod of that name.
    pub async fn has_pod(&self, name: &str) -> bool {
        self.pods_api().get_opt(name).await.unwrap().is_some()
    }

    /// Where a Service of the release is reached.
    pub async fn service(&self, name: &str) -> SocketAddr {
        let services = Api::<Service>::namespaced(self.site.client.clone(), &self.namespace);
        let spec = services.get(name).await.unwrap().spec.unwrap();
        let port = spec.ports.unwrap()[0].port.try_into().unwrap();
        SocketAddr::new(spec.cluster_ip.unwrap().parse().unwrap(), port)
    }

    /// Tells a story about it, and uninstalls it, whatever becomes of the story.
    pub async fn while_it_lasts(mut self, story: impl AsyncFnOnce(&mut Self)) {
        let told = AssertUnwindSafe(story(&mut self)).catch_unwind().await;
        if told.is_err() {
            say(&self.kubectl(&["get", "pods", "--output=wide"]).await);
            say(&self.kubectl(&["events", "--types=Warning"]).await);
        }
        self.remove().await;
        if let Err(panic) = told {
            resume_unwind(panic);
        }
    }

    /// Uninstalls the release, looks whether anything is left of it but what it
    /// was asked to keep, and takes that away, too.
    async fn remove(self) {
        self.helm(&["uninstall", RELEASE, "--wait"]).await;
        let of = format!("app.kubernetes.io/instance={RELEASE}");
        let left = ["get", KINDS, "-l", &of, "-o", "name"];
        // Pods take their time.
        let left = until_within(PATIENCE, "nothing is left", async || {
            let leases = self.kubectl(&["get", "leases", "-o", "name"]).await;
            // Helm may take the Role away before the last controller has stopped.
            let leases = leases.replace(LEADERS, "");
            match self.kubectl(&left).await + leases.trim() {
                text if text.is_empty() => Ok(()),
                text => Err(text),
            }
        });
        left.await;
        let kept = ["get", CRD, "-o", "name"];
        let kept = self.site.kubectl(&kept).await.unwrap();
        for what in [
            vec!["delete", "namespace", &*self.namespace],
            vec!["delete", CRD],
        ] {
            self.site.kubectl(&what).await.unwrap();
        }
        assert_eq!(kept, CRD_NAME);
    }
}
