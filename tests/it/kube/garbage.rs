//! kube-controller-manager with nothing but its garbage collector: what is owned
//! by something that is gone goes, too.

use std::fs;

use super::cluster::Cluster;
use super::program::Program;
use super::tools::kube_controller_manager;

/// Ends when this is dropped.
#[derive(Debug)]
pub struct GarbageCollector {
    _program: Program,
}

impl GarbageCollector {
    /// Collects in a cluster, which must not be the common one: some tests make
    /// objects there whose owners never were. None, and a line that says
    /// so, where there is no such program.
    pub async fn start(cluster: &Cluster) -> Option<Self> {
        let path = tokio::task::spawn_blocking(kube_controller_manager).await;
        let path = path.unwrap().unwrap()?;
        let folder = cluster.site.folder.join("kube-controller-manager");
        fs::create_dir_all(&folder).unwrap();
        let kubeconfig = cluster.site.admin_kubeconfig();
        let arguments = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--controllers=garbage-collector-controller".into(),
            "--leader-elect=false".into(),
            // It serves nothing.
            "--secure-port=0".into(),
        ];
        Some(Self {
            _program: Program::start(&path, arguments, &folder).unwrap(),
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{DeleteParams, PostParams};
    use serde_json::json;
    use tunnel_registry::resources::TunnelEndpoint;

    use super::*;
    use crate::kube::cluster::lent;
    use crate::kube::env::Env;
    use crate::kube::objects::record;
    use crate::process::until;

    #[tokio::test]
    async fn an_endpoint_goes_with_the_pod_that_owns_it() {
        let cluster = lent().await;
        let Some(_collector) = GarbageCollector::start(&cluster).await else {
            return;
        };
        let env = Env::of(&cluster).await;
        let mut names = Vec::new();
        for name in ["gost-0", "gost-1"] {
            let pod = env
                .apply(&json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
                    "spec": { "containers": [{ "name": "gost", "image": "gost" }] },
                }))
                .await;
            let record = record("tunnel", name, "connector", "10.42.0.100:80");
            let mut object = TunnelEndpoint::from_record(&record).unwrap();
            let owner =
                json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod.metadata.uid });
            object.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
            let endpoints = env.endpoints();
            let made = endpoints.create(&PostParams::default(), &object).await;
            names.push(made.unwrap().metadata.name.unwrap());
        }
        let delete = DeleteParams::default();
        env.api::<Pod>().delete("gost-0", &delete).await.unwrap();
        until("the endpoint has gone", async || {
            let endpoint = env.endpoints().get_opt(&names[0]).await.unwrap();
            endpoint.is_none().then_some(())
        })
        .await;
        env.endpoints().get(&names[1]).await.unwrap();
    }
}
