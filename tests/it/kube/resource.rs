//! What the API server makes of a `TunnelEndpoint`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use tunnel_registry::record::{Endpoint, EndpointKey, EndpointRecord};
use tunnel_registry::resources::tunnel_endpoint::{
    HOLDER, MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES, MAX_CONDITIONS, TUNNEL_LABEL,
    name,
};
use tunnel_registry::resources::{TunnelEndpoint, definitions};

use super::cluster::{Env, condition};
use crate::testenv::{CONNECTOR, NODE, TUNNEL};

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

/// Objects that need not be endpoints.
fn raw(env: &Env) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<TunnelEndpoint>(&());
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

/// Creates an object with this spec; the error is the API server's message.
async fn create(api: &Api<DynamicObject>, spec: Value) -> Result<DynamicObject, String> {
    let object = json!({
        "apiVersion": "tunnelregistry.io/v1alpha1", "kind": "TunnelEndpoint",
        "metadata": { "generateName": "hand-made-" }, "spec": spec,
    });
    let object = serde_json::from_value(object).unwrap();
    answer(api.create(&PostParams::default(), &object).await)
}

fn answer<T>(result: Result<T, kube::Error>) -> Result<T, String> {
    result.map_err(|error| match error {
        kube::Error::Api(status) => status.message,
        other => panic!("{other}"),
    })
}

fn spec() -> Value {
    json!({ "tunnel": "t", "node": "n", "connector": "c", "address": "10.42.0.100:80" })
}

fn spec_with(field: &str, value: impl Into<Value>) -> Value {
    let mut spec = spec();
    spec[field] = value.into();
    spec
}

#[tokio::test]
async fn the_definition_is_established_and_structural() {
    let env = Env::start().await;
    let api = Api::<CustomResourceDefinition>::all(env.client.clone());
    let definition = api.get(TunnelEndpoint::crd_name()).await.unwrap();
    let is = |type_| condition(&definition, type_);
    assert_eq!(is("Established").as_deref(), Some("True"));
    assert_eq!(is("NamesAccepted").as_deref(), Some("True"));
    // Present and true only where a schema is not structural.
    assert_eq!(is("NonStructuralSchema"), None);
}

#[tokio::test]
async fn what_crd_prints_is_accepted_strictly() {
    let env = Env::start().await;
    let yaml = definitions().unwrap();
    let path = format!(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}?fieldManager=tests&fieldValidation=Strict&dryRun=All",
        TunnelEndpoint::crd_name()
    );
    let request = http::Request::patch(path)
        .header("content-type", "application/apply-patch+yaml")
        .body(yaml.into_bytes())
        .unwrap();
    env.client.request_text(request).await.unwrap();
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
async fn whatever_the_registry_accepts_the_api_server_does() {
    let env = Env::start().await;
    let api = raw(&env);
    for address in [
        "10.42.0.100:80",
        "223.255.255.255:65535",
        "[fd00::1]:1",
        "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
        "gost-0.gost.default.svc:80",
        "my_host:1",
        "_a:9999",
        "host.:10000",
        "h:60000",
        "h:65499",
        "h:65529",
        "h:65530",
    ] {
        let parsed: tunnel_registry::record::Address = address.parse().unwrap();
        assert_eq!(parsed.to_string(), address);
        create(&api, spec_with("address", address)).await.unwrap();
    }
    for name in [
        "x",
        "Office Printer",
        "!",
        "~a b~",
        &"x".repeat(253),
        "it's \"\\q\"",
    ] {
        assert!(name.parse::<tunnel_registry::record::Name>().is_ok());
        for field in ["tunnel", "node", "connector"] {
            create(&api, spec_with(field, name)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let env = Env::start().await;
    let api = raw(&env);
    let many = |n: usize| -> Value {
        let all = (0..n).map(|n| (n.to_string(), json!("")));
        all.collect::<serde_json::Map<_, _>>().into()
    };
    let mut cases = vec![
        (
            spec_with("network", "sctp"),
            "spec.network: Unsupported value: \"sctp\": supported values: \"tcp\", \"udp\"",
        ),
        (spec_with("address", ""), "spec.address"),
        (
            spec_with("address", "10.42.0.100"),
            "spec.address: Invalid value: \"10.42.0.100\": must be host:port, such as",
        ),
        (spec_with("address", ":80"), "must be host:port, such as"),
        (
            spec_with("address", "http://h:80"),
            "must be host:port, such as",
        ),
        (
            spec_with("address", "fd00::1:80"),
            "must be host:port, such as",
        ),
        (spec_with("address", "h:0"), "must be host:port, such as"),
        (spec_with("address", "h:080"), "must be host:port, such as"),
        (
            spec_with("address", "h:65536"),
            "must be host:port, such as",
        ),
        (spec_with("address", "h:80\n"), "must be host:port, such as"),
        (
            spec_with("address", "0.0.0.0:80"),
            "has an unspecified host, which nobody can dial",
        ),
        (
            spec_with("address", "[::]:80"),
            "has an unspecified host, which nobody can dial",
        ),
        (
            spec_with("address", format!("{}:80", "h".repeat(258))),
            "may not be more than 260 bytes",
        ),
        (
            spec_with("attributes", many(MAX_ATTRIBUTES + 1)),
            "must have at most 16 items",
        ),
        (
            spec_with("attributes", json!({ "k": "v".repeat(254) })),
            "may not be more than 253 bytes",
        ),
        (
            spec_with("attributes", json!({ "": "v" })),
            "keys must have 1 to 63 characters",
        ),
        (
            spec_with("attributes", json!({ "k".repeat(64): "v" })),
            "keys must have 1 to 63 characters",
        ),
        (
            spec_with("attributes", json!({ "k": 1 })),
            "must be of type string",
        ),
        (spec_with("static", "yes"), "must be of type boolean"),
    ];
    for field in ["tunnel", "node", "connector"] {
        cases.extend([
            (spec_with(field, ""), "should be at least 1 chars long"),
            (
                spec_with(field, " x"),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "x "),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "x\n"),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "é"),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "x".repeat(254)),
                "may not be more than 253 bytes",
            ),
        ]);
    }
    for field in ["tunnel", "node", "connector", "address"] {
        let mut spec = spec();
        spec.as_object_mut().unwrap().remove(field);
        cases.push((spec, "Required value"));
    }
    for (spec, expected) in cases {
        let message = create(&api, spec.clone()).await.unwrap_err();
        assert!(message.contains(expected), "{spec}: {message}");
    }
    assert!(
        api.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn the_identity_cannot_change_and_the_rest_can() {
    let env = Env::start().await;
    let api = raw(&env);
    let name = create(&api, spec()).await.unwrap().metadata.name.unwrap();
    let patch = async |spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        answer(api.patch(&name, &PatchParams::default(), &patch).await)
    };
    for field in ["tunnel", "node", "connector"] {
        let message = patch(json!({ field: "other" })).await.unwrap_err();
        let expected = format!(
            "spec.{field}: Invalid value: \"other\": identifies the endpoint and cannot be changed; delete the object and make another"
        );
        assert!(message.contains(&expected), "{message}");
    }
    let moved = json!({ "address": "10.42.0.101:80", "network": "udp", "static": true });
    let object = patch(moved.clone()).await.unwrap();
    assert_eq!(object.metadata.generation, Some(2));
    for (field, value) in moved.as_object().unwrap() {
        assert_eq!(&object.data["spec"][field], value);
    }
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

/// A status that says so.
pub fn ready(status: &str) -> Value {
    json!({ "status": { "observedGeneration": 1, "conditions": [{
        "type": "Ready", "status": status, "reason": "Renewed", "observedGeneration": 1,
        "lastTransitionTime": "2026-07-01T12:00:00Z", "message": "a replica hears its renewals",
    }] } })
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
async fn conditions_are_bounded_and_one_of_a_type() {
    let env = Env::start().await;
    let api = raw(&env);
    let name = create(&api, spec()).await.unwrap().metadata.name.unwrap();
    let condition = |change: &dyn Fn(&mut Value)| {
        let mut condition = ready("True")["status"]["conditions"][0].take();
        change(&mut condition);
        condition
    };
    let set = async |conditions: Vec<Value>| {
        let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
        answer(
            api.patch_status(&name, &PatchParams::default(), &patch)
                .await,
        )
    };
    let many = |n: usize| -> Vec<_> {
        let typed = |n| condition(&|c| c["type"] = format!("Type{n}").into());
        (0..n).map(typed).collect()
    };
    assert!(set(many(MAX_CONDITIONS)).await.is_ok());
    for (conditions, expected) in [
        (many(MAX_CONDITIONS + 1), "must have at most 8 items"),
        (
            vec![condition(&|_| {}), condition(&|_| {})],
            "Duplicate value",
        ),
        (
            vec![condition(&|c| c["status"] = "Yes".into())],
            "supported values: \"True\", \"False\", \"Unknown\"",
        ),
        (
            vec![condition(&|c| c["reason"] = "two words".into())],
            "reason",
        ),
        (
            vec![condition(&|c| c["message"] = "m".repeat(32_769).into())],
            "may not be more than 32768 bytes",
        ),
        (
            vec![condition(&|c| c["lastTransitionTime"] = "now".into())],
            "must be of type date-time",
        ),
    ] {
        let message = set(conditions).await.unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
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

#[tokio::test]
async fn access_is_by_role() {
    let env = Env::start().await;
    let request = |user: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": user, "groups": ["system:authenticated"], "resourceAttributes": {
                "group": "tunnelregistry.io", "resource": "tunnelendpoints", "verb": "list",
                "namespace": env.namespace,
            } },
        });
        http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .body(serde_json::to_vec(&review).unwrap())
            .unwrap()
    };
    let answer: Value = env.client.request(request("somebody")).await.unwrap();
    assert_eq!(answer["status"]["allowed"], false);
}

/// Kubernetes keeps the name in the object's metadata.
#[test]
fn an_object_is_named_after_its_identity() {
    let record = record(TUNNEL, NODE, CONNECTOR, "h:80");
    let ObjectMeta { name, .. } = TunnelEndpoint::from_record(&record).unwrap().metadata;
    assert_eq!(name, Some(name::object_name(&record.endpoint.key)));
}
