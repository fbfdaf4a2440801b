//! Definitions of the kinds that Prometheus' operator and cert-manager add to a
//! cluster, with the fields that a chart may set: one that is misspelt, or has
//! another type, is refused as their own definitions refuse it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;

use crate::kube::cluster::condition;
use crate::kube::rights::objects;
use crate::process::until;

/// The definitions.
const DEFINITIONS: &str = include_str!("others.yaml");

/// Installs the definitions, and waits until their objects are served.
pub async fn define(client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let apply = PatchParams::apply("tests");
    for definition in objects(DEFINITIONS) {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let patch = Patch::Apply(&definition);
        definitions.patch(&name, &apply, &patch).await.unwrap();
        until("the definition is established", async || {
            let definition = definitions.get(&name).await.unwrap();
            (condition(&definition, "Established").as_deref() == Some("True")).then_some(())
        })
        .await;
        until("objects of the kind are served", async || {
            let path = format!("{}?limit=1", collection(&definition));
            let request = http::Request::get(path).body(Vec::new()).unwrap();
            client.request_text(request).await
        })
        .await;
    }
}

/// Where the objects of a definition are.
fn collection(definition: &Value) -> String {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (group, version) = (text(&spec["group"]), text(&spec["versions"][0]["name"]));
    let plural = text(&spec["names"]["plural"]);
    format!("/apis/{group}/{version}/{plural}")
}
