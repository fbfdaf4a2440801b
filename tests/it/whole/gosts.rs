//! gost clients in pods, with their local services.

use std::ops::Range;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::sd::uuid;

/// Where the local service listens, in the client's pod.
const WEB: &str = "127.0.0.1:9000";

/// The ID of the n-th tunnel.
pub fn tunnel(n: usize) -> String {
    uuid(2, n)
}

/// The host name under which visitors ask for the n-th tunnel.
pub fn host(n: usize) -> String {
    format!("app-{n}.example.com")
}

/// A gost client with one connector for each of `tunnels` to the tunnel server at
/// `server`, and a local service that answers with `page`, in a pod.
pub async fn client(
    kube: &Client,
    namespace: &str,
    image: &str,
    name: &str,
    server: &str,
    tunnels: Range<usize>,
    page: &str,
) {
    let mut services = vec![json!({
        "name": "web", "addr": WEB,
        "handler": {"type": "file", "metadata": {"dir": "/www"}}, "listener": {"type": "tcp"},
    })];
    services.extend(tunnels.clone().map(|n| {
        json!({
            "name": format!("s{n}"), "addr": ":0",
            "handler": {"type": "rtcp"},
            "listener": {"type": "rtcp", "chain": format!("c{n}")},
            "forwarder": {"nodes": [{"name": "web", "addr": WEB}]},
        })
    }));
    let chains: Vec<_> = tunnels
        .map(|n| {
            let node = json!({
                "name": "n", "addr": server,
                "connector": {"type": "tunnel", "metadata": {"tunnel.id": tunnel(n)}},
                "dialer": {"type": "tcp"},
            });
            json!({"name": format!("c{n}"), "hops": [{"name": "h", "nodes": [node]}]})
        })
        .collect();
    let gost = json!({
        "log": {"level": "info", "format": "json", "output": "stderr"},
        "services": services, "chains": chains,
    });
    let config: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": name},
        "data": {"gost.json": gost.to_string(), "index.html": page},
    }))
    .unwrap();
    let labels = json!({"app": name});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "gost", "image": image, "imagePullPolicy": "IfNotPresent",
                        "args": ["-C", "/etc/gost/gost.json"],
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [
                            {"name": "config", "mountPath": "/etc/gost"},
                            {"name": "www", "mountPath": "/www"},
                        ],
                    }],
                    "volumes": [
                        {"name": "config", "configMap": {"name": name, "items": [{"key": "gost.json", "path": "gost.json"}]}},
                        {"name": "www", "configMap": {"name": name, "items": [{"key": "index.html", "path": "index.html"}]}},
                    ],
                },
            },
        },
    }))
    .unwrap();
    let params = PostParams::default();
    Api::namespaced(kube.clone(), namespace)
        .create(&params, &config)
        .await
        .unwrap();
    Api::namespaced(kube.clone(), namespace)
        .create(&params, &deployment)
        .await
        .unwrap();
}
