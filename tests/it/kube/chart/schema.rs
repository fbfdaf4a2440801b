//! Wrong values are refused, with the value's name and what it should be.

use std::fs;

use serde_json::{Value, json};

use super::helm::{CHART, Helm};
use super::values::{NAMESPACE, defaults, is_open};

/// What Helm says of some values.
async fn said(values: &Value) -> Result<Vec<Value>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    Helm::offline(NAMESPACE).await.template(&file).await
}

#[tokio::test]
async fn wrong_values_are_refused_and_named() {
    for (values, words) in [
        (
            "controler: {}",
            "additional properties 'controler' not allowed",
        ),
        (
            "image: {tagg: x}",
            "at '/image': additional properties 'tagg' not allowed",
        ),
        (
            "image: {digest: abc}",
            "at '/image/digest': 'abc' does not match",
        ),
        (
            "image: {pullPolicy: Sometimes}",
            "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        (
            "imagePullSecrets: [regcred]",
            "at '/imagePullSecrets/0': got string, want object",
        ),
        (
            "log: {level: loud}",
            "at '/log/level': value must be one of 'off', 'error'",
        ),
        (
            "admin: {host: localhost}",
            "at '/admin/host': 'localhost' does not match",
        ),
        (
            "admin: {port: '8090'}",
            "at '/admin/port': got string, want integer",
        ),
        (
            "controller: {replicas: two}",
            "at '/controller/replicas': got string, want integer",
        ),
        (
            "controller: {replicas: -1}",
            "at '/controller/replicas': minimum",
        ),
        (
            "controller: {orphanFor: 10}",
            "at '/controller/orphanFor': got number, want string",
        ),
        (
            "controller: {leaderLease: soon}",
            "at '/controller/leaderLease': 'soon' does not match",
        ),
        (
            "controller: {terminationGracePeriodSeconds: 5}",
            "at '/controller/terminationGracePeriodSeconds': minimum: got 5, want 9",
        ),
        (
            "plugin: {port: 70000}",
            "at '/plugin/port': maximum: got 70,000, want 65,535",
        ),
        (
            "plugin: {service: {type: Foo}}",
            "at '/plugin/service/type': value must be one of",
        ),
        (
            "plugin: {auth: {enabled: 'no'}}",
            "at '/plugin/auth/enabled': got string, want boolean",
        ),
        (
            "plugin: {extraArgs: --flush=1s}",
            "at '/plugin/extraArgs': got string, want array",
        ),
        (
            "sidecar: {serviceAccounts: [{namespace: a}]}",
            "missing property 'name'",
        ),
        (
            "gost: {ingress: [{hostname: a.example.com}]}",
            "missing property 'endpoint'",
        ),
        (
            "commonLabels: {a: 1}",
            "at '/commonLabels/a': got number, want string",
        ),
        (
            "sessions: {gateways: [{namespace: edge}]}",
            "at '/sessions/gateways/0': missing property 'name'",
        ),
        (
            "sessions: {gateways: [{name: web, section: https}]}",
            "at '/sessions/gateways/0': additional properties 'section' not allowed",
        ),
        (
            "sessions: {policy: {rules: [{networks: [10.0.0.0/8]}]}}",
            "at '/sessions/policy/rules/0': missing property 'services'",
        ),
        (
            "sessions: {policy: {rules: [{services: [a], domains: [b]}]}}",
            "at '/sessions/policy/rules/0': missing property 'networks'",
        ),
        (
            "sessions: {grace: 60}",
            "at '/sessions/grace': got number, want string",
        ),
        (
            "sessions: {port: 81}",
            "at '/sessions/port': minimum: got 81, want 1,024",
        ),
        (
            "sessions: {limits: {connections: 0}}",
            "at '/sessions/limits/connections': minimum: got 0, want 1",
        ),
        // What one value asks of another.
        (
            "controller: {podDisruptionBudget: {minAvailable: 1}}",
            "controller.podDisruptionBudget: set one of maxUnavailable and minAvailable, and the other to null",
        ),
        (
            "plugin: {tls: {enabled: true}}",
            "plugin.tls.enabled needs plugin.tls.existingSecret or plugin.tls.certManager.enabled",
        ),
        (
            "plugin: {preStopSeconds: 25}",
            "plugin.terminationGracePeriodSeconds must be more than",
        ),
        (
            "sidecar: {serviceAccounts: [{namespace: elsewhere, name: a}]}",
            "elsewhere/a is in another namespace than the release; set clusterWide: true",
        ),
        (
            "{services: {enabled: true}, plugin: {enabled: false}}",
            "services.enabled needs plugin.enabled: the shared replicas serve them",
        ),
        (
            "{sessions: {enabled: true}, plugin: {enabled: false}}",
            "sessions.enabled needs plugin.enabled: the shared replicas take the sessions",
        ),
        (
            "{sessions: {enabled: true, gateways: [{name: web}]}, controller: {enabled: false}}",
            "sessions.gateways needs controller.enabled: the controller makes the HTTPRoutes",
        ),
        (
            "sessions: {enabled: true, tls: {enabled: true}}",
            "sessions.tls.enabled needs sessions.tls.existingSecret or sessions.tls.certManager.enabled",
        ),
        (
            "sessions: {enabled: true, tls: {clientCA: true}}",
            "sessions.tls.clientCA needs sessions.tls.enabled",
        ),
        (
            "sessions: {enabled: true, policy: {rules: [{certificates: [a], services: [a]}]}}",
            "a rule with certificates needs sessions.tls.clientCA",
        ),
        (
            "sessions: {enabled: true, policy: {rules: [{networks: [a], services: [a]}], existingConfigMap: {name: a}}}",
            "sessions.policy: set rules or existingConfigMap, not both",
        ),
        (
            "sessions: {enabled: true, port: 8000}",
            "sessions.port, sessions.maintenance.port, plugin.port and admin.port must differ",
        ),
    ] {
        let parsed: Value = serde_saphyr::from_str(values).unwrap();
        let error = said(&parsed).await.expect_err(values);
        assert!(error.contains(words), "{values}: {error}");
    }
}

/// Puts something into every map that has fields of its own, or into every
/// switch; the paths where.
fn spoilt(values: &mut Value, path: &str, spoil: &impl Fn(&mut Value) -> bool) -> Vec<String> {
    let mut paths = Vec::new();
    if spoil(values) {
        paths.push(path.to_owned());
    }
    if let Value::Object(fields) = values {
        for (name, value) in fields {
            if !is_open(name) {
                paths.extend(spoilt(value, &format!("{path}/{name}"), spoil));
            }
        }
    }
    paths
}

#[tokio::test]
async fn no_field_may_be_misspelt_anywhere() {
    let mut values = defaults();
    let misspell = |value: &mut Value| match value.as_object_mut() {
        Some(fields) if !fields.is_empty() => {
            fields.insert("misspelt".into(), json!("x"));
            true
        }
        _ => false,
    };
    let paths = spoilt(&mut values, "", &misspell);
    assert!(paths.len() > 30, "{paths:?}");
    let error = said(&values).await.unwrap_err();
    for path in paths {
        let words = format!("at '{path}': additional properties 'misspelt' not allowed");
        assert!(error.contains(&words), "{path}: {error}");
    }
}

#[tokio::test]
async fn no_switch_takes_a_text() {
    let mut values = defaults();
    let quote = |value: &mut Value| match value {
        Value::Bool(_) => {
            *value = "true".into();
            true
        }
        _ => false,
    };
    let paths = spoilt(&mut values, "", &quote);
    assert!(paths.len() > 20, "{paths:?}");
    let error = said(&values).await.unwrap_err();
    for path in paths {
        let words = format!("at '{path}': got string, want boolean");
        assert!(error.contains(&words), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_kubernetes_that_is_too_old_is_refused() {
    let helm = Helm::offline(NAMESPACE).await;
    let words = ["template", "x", CHART, "--kube-version"];
    let with = async |version| helm.run(words.into_iter().chain([version])).await;
    let error = with("v1.30.99").await.unwrap_err();
    assert!(error.contains("requires kubeVersion: >=1.31"), "{error}");
    assert!(with("v1.31.0").await.is_ok());
    // As clouds name theirs.
    assert!(with("v1.31.4-eks-1234567").await.is_ok());
}
