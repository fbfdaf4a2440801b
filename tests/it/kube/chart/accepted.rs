//! Every object of every set of values is accepted by the API server, as it
//! would be stored, with every field known to it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ApiResource, Patch, PatchParams, ValidationDirective};
use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::helm::{CHART, Helm, KUBERNETES};
use super::others;
use super::values::{NAMESPACE, rendered, sets, title};
use crate::kube::cluster::common;

/// Answers whether the API server would take an object.
pub struct Acceptance {
    client: Client,
    kinds: BTreeMap<String, (ApiResource, ApiCapabilities)>,
}

impl Acceptance {
    /// On the API server that tests share, which gets the namespace of what is
    /// rendered, at Pod Security's level `restricted`, and the kinds that a
    /// cluster may lack.
    pub async fn new() -> Self {
        let client = common().await.site.admin().await.unwrap();
        static PREPARED: OnceCell<()> = OnceCell::const_new();
        let prepare = async || {
            others::define(&client).await;
            restricted(&client, NAMESPACE).await;
        };
        PREPARED.get_or_init(prepare).await;
        let kinds = BTreeMap::new();
        Self { client, kinds }
    }

    /// Whether the API server would take the object as it is: a dry run that
    /// refuses what no field is for.
    pub async fn of(&mut self, object: &Value) -> Result<(), String> {
        let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
        let key = format!("{} {}", types.api_version, types.kind);
        if !self.kinds.contains_key(&key) {
            let kind = GroupVersionKind::try_from(&types).unwrap();
            let found = pinned_kind(&self.client, &kind).await;
            let found = found.map_err(|error| format!("{key}: {error}"))?;
            self.kinds.insert(key.clone(), found);
        }
        let (resource, capabilities) = &self.kinds[&key];
        let client = self.client.clone();
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client, resource),
            Scope::Namespaced => {
                let namespace = object["metadata"]["namespace"].as_str();
                let namespace = namespace.unwrap_or(NAMESPACE);
                if namespace != NAMESPACE {
                    restricted(&client, namespace).await;
                }
                Api::namespaced_with(client, namespace, resource)
            }
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut params = PatchParams::apply("tests").force().dry_run();
        params.field_validation = Some(ValidationDirective::Strict);
        match api.patch(name, &params, &Patch::Apply(object)).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) => Err(status.message),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Makes a namespace in which Pod Security's level `restricted` is enforced.
pub async fn restricted(client: &Client, name: &str) {
    let level = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": level },
    });
    let namespaces = Api::<Namespace>::all(client.clone());
    let apply = PatchParams::apply("tests").force();
    namespaces
        .patch(name, &apply, &Patch::Apply(object))
        .await
        .unwrap();
}

#[tokio::test]
async fn every_set_passes_lint() {
    let helm = Helm::offline(NAMESPACE).await;
    for set in sets() {
        let file = set.file.to_str().unwrap();
        let lint = ["lint", "--strict", "--kube-version", KUBERNETES, CHART];
        let linted = helm.run(lint.into_iter().chain(["--values", file])).await;
        assert!(linted.is_ok(), "{}: {}", set.name, linted.unwrap_err());
    }
}

#[tokio::test]
async fn every_object_of_every_set_is_accepted() {
    let mut acceptance = Acceptance::new().await;
    let mut wrong = Vec::new();
    for one in rendered().await {
        assert!(!one.objects.is_empty(), "{}", one.set.name);
        for object in &one.objects {
            if let Err(message) = acceptance.of(object).await {
                wrong.push(format!("{}: {}: {message}", one.set.name, title(object)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_no_field_is_for_is_refused() {
    let mut acceptance = Acceptance::new().await;
    let meta = json!({ "name": "x" });
    let monitor = |endpoint: Value| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": meta,
            "spec": { "selector": {}, "podMetricsEndpoints": [endpoint] },
        })
    };
    let service = |port: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": { "ports": [port] },
        })
    };
    for (object, fault) in [
        (monitor(json!({ "port": "admin", "interval": "30s" })), None),
        (monitor(json!({ "prt": "admin" })), Some("prt")),
        (monitor(json!({ "interval": "30" })), Some("interval")),
        (service(json!({ "port": 80 })), None),
        (service(json!({ "port": 80, "prt": 80 })), Some("prt")),
        (service(json!({ "port": 70_000 })), Some("65535")),
    ] {
        match (acceptance.of(&object).await, fault) {
            (Ok(()), None) => {}
            (Err(message), Some(fault)) => assert!(message.contains(fault), "{message}"),
            (answer, fault) => panic!("{object}: {answer:?}, but {fault:?} was expected"),
        }
    }
}
