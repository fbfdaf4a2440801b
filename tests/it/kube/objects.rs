//! Objects that tests make, and what the API server answers.

use kube::api::{Api, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use tunnel_registry::record::{Endpoint, EndpointKey, EndpointRecord};
use tunnel_registry::resources::TunnelEndpoint;

use super::env::Env;

/// A record of the tunnel `tunnel` with a lease.
pub fn record(tunnel: &str, node: &str, connector: &str, address: &str) -> EndpointRecord {
    EndpointRecord {
        endpoint: Endpoint {
            key: EndpointKey {
                tunnel: tunnel.parse().unwrap(),
                node: node.parse().unwrap(),
                connector: connector.parse().unwrap(),
            },
            network: "tcp".parse().unwrap(),
            address: address.parse().unwrap(),
            origin: Some([10, 42, 0, 100].into()),
            pod: None,
            attributes: [].into(),
        },
        lease: tunnel_registry::lease::Lease::held(
            "db670b91-61a5-4f7c-8014-3bbe994446ea".into(),
            "2026-07-01T12:00:00Z".parse().unwrap(),
            std::time::Duration::from_secs(60),
        ),
        is_static: false,
    }
}

/// A status that says so.
pub fn ready(status: &str) -> Value {
    json!({ "status": { "observedGeneration": 1, "conditions": [{
        "type": "Ready", "status": status, "reason": "Renewed", "observedGeneration": 1,
        "lastTransitionTime": "2026-07-01T12:00:00Z", "message": "a replica hears its renewals",
    }] } })
}

/// Objects that need not be endpoints.
pub fn raw(env: &Env) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<TunnelEndpoint>(&());
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

/// Creates an object with this spec; the error is the API server's message.
pub async fn create(api: &Api<DynamicObject>, spec: Value) -> Result<DynamicObject, String> {
    let object = json!({
        "apiVersion": "tunnelregistry.io/v1alpha1", "kind": "TunnelEndpoint",
        "metadata": { "generateName": "hand-made-" }, "spec": spec,
    });
    let object = serde_json::from_value(object).unwrap();
    answer(api.create(&PostParams::default(), &object).await)
}

pub fn answer<T>(result: Result<T, kube::Error>) -> Result<T, String> {
    result.map_err(|error| match error {
        kube::Error::Api(status) => status.message,
        other => panic!("{other}"),
    })
}

pub fn spec() -> Value {
    json!({ "tunnel": "t", "node": "n", "connector": "c", "address": "10.42.0.100:80" })
}

pub fn spec_with(field: &str, value: impl Into<Value>) -> Value {
    let mut spec = spec();
    spec[field] = value.into();
    spec
}
