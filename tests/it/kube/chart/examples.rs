//! `examples/`: what is written there for Argo CD and Flux is what the chart and
//! the product know.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tunnel_registry::resources::tunnel_endpoint::{
    HOLDER, LEASE_DURATION, ORIGIN, POD_UID, RELEASED, RENEW_INTERVAL, RENEW_TIME,
};

use super::accepted::Acceptance;
use super::helm::{Helm, parsed};
use super::values::{NAMESPACE, title};

fn example(file: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let text = fs::read_to_string(folder.join(file));
    parsed(&text.unwrap_or_else(|error| panic!("{file}: {error}")))
}

fn of_kind(objects: Vec<Value>, kind: &str) -> Value {
    let found = objects.into_iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

fn release() -> Value {
    of_kind(example("flux/registry.yaml"), "HelmRelease")
}

#[tokio::test]
async fn their_values_are_the_charts() {
    let application = of_kind(example("argo-cd/application.yaml"), "Application");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    let helm = Helm::offline(NAMESPACE).await;
    let mut acceptance = Acceptance::new().await;
    for values in [
        &application["spec"]["source"]["helm"]["valuesObject"],
        &release()["spec"]["values"],
    ] {
        fs::write(&file, values.to_string()).unwrap();
        let objects = helm.template(&file).await.unwrap();
        for object in &objects {
            assert_eq!(acceptance.of(object).await, Ok(()), "{}", title(object));
        }
        // One that is made anew at each rendering would be another each time.
        let token = |object: &Value| title(object).ends_with("-token");
        assert!(!objects.iter().any(token));
    }
}

#[test]
fn what_replicas_write_is_no_difference() {
    let written = [
        HOLDER,
        LEASE_DURATION,
        ORIGIN,
        POD_UID,
        RELEASED,
        RENEW_INTERVAL,
        RENEW_TIME,
    ];
    let pointer = |key: &str| format!("/metadata/annotations/{}", key.replace('/', "~1"));
    let mut expected: BTreeSet<_> = written.map(pointer).into();
    expected.insert("/status".into());
    let pointers = |list: &Value| -> BTreeSet<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let config = &example("argo-cd/argocd-cm.yaml")[0]["data"];
    let key = "resource.customizations.ignoreDifferences.tunnelregistry.io_TunnelEndpoint";
    let ignored = &parsed(config[key].as_str().unwrap())[0];
    assert_eq!(pointers(&ignored["jsonPointers"]), expected);
    let ignored = &release()["spec"]["driftDetection"]["ignore"][0];
    assert_eq!(pointers(&ignored["paths"]), expected);
}

/// The API server's language is Flux's, and it compiles what a policy says.
#[tokio::test]
async fn the_health_checks_of_flux_compile() {
    let mut acceptance = Acceptance::new().await;
    let kustomization = of_kind(example("flux/endpoints.yaml"), "Kustomization");
    let check = &kustomization["spec"]["healthCheckExprs"][0];
    assert_eq!(check["kind"], "TunnelEndpoint");
    let policy = |expression: &str| {
        // There the fields of an object are variables.
        let expression = expression
            .replace("status.?", "object.status.?")
            .replace("metadata.", "object.metadata.");
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "compiles" },
            "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["tunnelregistry.io"], "apiVersions": ["v1alpha1"],
                    "resources": ["tunnelendpoints"], "operations": ["UPDATE"],
                }] },
                "validations": [{ "expression": expression }],
            },
        })
    };
    for when in ["current", "failed"] {
        let expression = check[when].as_str().unwrap();
        assert_eq!(acceptance.of(&policy(expression)).await, Ok(()), "{when}");
        let wrong = policy(&expression.replace("exists", "exist"));
        assert!(acceptance.of(&wrong).await.is_err(), "{when}");
    }
}

#[tokio::test]
async fn an_endpoint_kept_in_git_is_accepted() {
    let mut acceptance = Acceptance::new().await;
    let endpoint = &example("flux/endpoints/printer.yaml")[0];
    assert_eq!(acceptance.of(endpoint).await, Ok(()));
}
