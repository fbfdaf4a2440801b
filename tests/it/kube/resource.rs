//! What the API server makes of a `TunnelEndpoint`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tunnel_registry::resources::tunnel_endpoint::{
    HOLDER, MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES, TUNNEL_LABEL, name,
};
use tunnel_registry::resources::{TunnelEndpoint, definitions, definitions_in_yaml};

use super::cluster::condition;
use super::env::Env;
use super::objects::{answer, create, raw, ready, record, spec};
use crate::testenv::{CONNECTOR, NODE, TUNNEL};

#[tokio::test]
async fn the_definition_is_established_and_structural() {
    let env = Env::start().await;
    let api = Api::<CustomResourceDefinition>::all(env.client.clone());
    for definition in definitions() {
        let definition = api.get(&definition.name_any()).await.unwrap();
        let is = |type_| condition(&definition, type_);
        assert_eq!(is("Established").as_deref(), Some("True"));
        assert_eq!(is("NamesAccepted").as_deref(), Some("True"));
        // Present and true only where a schema is not structural.
        assert_eq!(is("NonStructuralSchema"), None);
    }
}

#[tokio::test]
async fn what_crd_prints_is_accepted_strictly() {
    let env = Env::start().await;
    let yaml = definitions_in_yaml().unwrap();
    for (definition, yaml) in definitions().iter().zip(yaml.split("---\n")) {
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}?fieldManager=tests&fieldValidation=Strict&dryRun=All",
            definition.name_any()
        );
        let request = http::Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(yaml.to_owned().into_bytes())
            .unwrap();
        env.client.request_text(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_comes_back_as_it_was() {
    let env = Env::start().await;
    let mut record = record(TUNNEL, NODE, CONNECTOR, "gost-0.example.com.:65535");
    record.endpoint.attributes = (0..MAX_ATTRIBUTES)
        .map(|n| {
            let key = format!("{n:é>MAX_ATTRIBUTE_KEY$}");
            (key, "é".repeat(MAX_ATTRIBUTE_VALUE))
        })
        .collect();
    let object = TunnelEndpoint::from_record(&record).unwrap();
    let api = env.endpoints();
    api.create(&PostParams::default(), &object).await.unwrap();
    let name = name::object_name(&record.endpoint.key);
    let stored = api.get(&name).await.unwrap();
    assert_eq!(stored.to_record(), Ok(record));
    // Whoever registers the same identity meets the same object.
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) => assert!(status.is_already_exists(), "{status}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn as_stored_an_endpoint_is_small() {
    let env = Env::start().await;
    let record = record(TUNNEL, NODE, CONNECTOR, "10.42.0.100:65535");
    let object = TunnelEndpoint::from_record(&record).unwrap();
    let api = raw(&env);
    let object = serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    let name = name::object_name(&record.endpoint.key);
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready("True")))
        .await
        .unwrap();
    let stored = api.get(&name).await.unwrap();
    let size = serde_json::to_vec(&stored).unwrap().len();
    assert!(size <= 2_560, "{size} bytes");
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    let env = Env::start().await;
    let object = create(&raw(&env), spec()).await.unwrap();
    assert_eq!(object.data["spec"]["network"], "tcp");
    assert_eq!(object.data["spec"]["static"], false);
    let name = object.metadata.name.unwrap();
    let object = env.endpoints().get(&name).await.unwrap();
    let record = object.to_record().unwrap();
    assert_eq!(record.lease.holder, None);
    assert_eq!(
        record.lease.renew_time,
        object.metadata.creation_timestamp.unwrap().0
    );
}

#[tokio::test]
async fn the_status_is_a_resource_of_its_own() {
    let env = Env::start().await;
    let api = raw(&env);
    let name = create(&api, spec()).await.unwrap().metadata.name.unwrap();
    let params = PatchParams::default();
    // Through the object a status is ignored, through the status a spec is.
    let both = |address: &str| {
        let mut both = ready("True");
        both["spec"] = json!({ "address": address });
        Patch::Merge(both)
    };
    let object = api.patch(&name, &params, &both("h:81")).await.unwrap();
    assert_eq!(object.data.get("status"), None);
    let object = api
        .patch_status(&name, &params, &both("h:82"))
        .await
        .unwrap();
    assert_eq!(object.data["spec"]["address"], "h:81");
    assert_eq!(object.data["status"]["conditions"][0]["status"], "True");
    // Neither a status nor the lease is a new generation.
    let lease = json!({ "metadata": { "annotations": { HOLDER: "replica-2" } } });
    let object = api
        .patch(&name, &params, &Patch::Merge(lease))
        .await
        .unwrap();
    assert_eq!(object.metadata.generation, Some(2));
    let typed = env.endpoints().get(&name).await.unwrap();
    assert_eq!(
        typed.to_record().unwrap().lease.holder.as_deref(),
        Some("replica-2")
    );
    assert_eq!(typed.status.unwrap().conditions[0].type_, "Ready");
}

#[tokio::test]
async fn tunnels_and_nodes_can_be_selected() {
    let env = Env::start().await;
    let api = env.endpoints();
    for (tunnel, node, connector) in [("t 1", "n1", "a"), ("t 1", "n2", "b"), ("t2", "n1", "c")] {
        let record = record(tunnel, node, connector, "10.42.0.100:80");
        let object = TunnelEndpoint::from_record(&record).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let label = format!(
        "{TUNNEL_LABEL}={}",
        name::tunnel_hash(&"t 1".parse().unwrap())
    );
    let everything = ListParams::default;
    for (selection, expected) in [
        (everything(), "a b c"),
        (everything().fields("spec.tunnel=t 1"), "a b"),
        (everything().fields("spec.node=n1"), "a c"),
        (everything().fields("spec.tunnel=t 1,spec.node!=n1"), "b"),
        (everything().labels(&label), "a b"),
    ] {
        let mut found: Vec<_> = api.list(&selection).await.unwrap().items;
        found.sort_by(|a, b| a.spec.connector.cmp(&b.spec.connector));
        let found: Vec<_> = found.iter().map(|one| &*one.spec.connector).collect();
        assert_eq!(found.join(" "), expected, "{selection:?}");
    }
    let other = api.list(&everything().fields("spec.address=h:80")).await;
    let message = answer(other).unwrap_err();
    assert!(message.contains("field label not supported"), "{message}");
}

/// Kubernetes keeps the name in the object's metadata.
#[test]
fn an_object_is_named_after_its_identity() {
    let record = record(TUNNEL, NODE, CONNECTOR, "h:80");
    let ObjectMeta { name, .. } = TunnelEndpoint::from_record(&record).unwrap().metadata;
    assert_eq!(name, Some(name::object_name(&record.endpoint.key)));
}
