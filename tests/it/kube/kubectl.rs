//! What a person sees who uses kubectl.

use kube::api::{Patch, PatchParams, PostParams};
use tokio::process::Command;
use tunnel_registry::resources::TunnelEndpoint;
use tunnel_registry::resources::tunnel_endpoint::{TUNNEL_LABEL, name};

use super::env::Env;
use super::objects::{ready, record};
use super::tools::{exists, say};
use crate::process::output;
use crate::testenv::{CONNECTOR, NODE, PATIENCE, TUNNEL};

/// Runs kubectl in the test's namespace; the result is what it printed.
pub(super) async fn kubectl(env: &Env, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    command
        .arg("--kubeconfig")
        .arg(env.kubeconfig())
        .args(["--namespace", &env.namespace])
        .args(arguments)
        // Its cache of what there is would outlive the API server.
        .arg("--cache-dir")
        .arg(env.kubeconfig().with_file_name("kubectl"));
    output(&mut command, PATIENCE).await
}

/// The words of a line that has `part` in it.
pub(super) fn words<'a>(text: &'a str, part: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.contains(part));
    line.unwrap_or_else(|| panic!("no {part} in:\n{text}"))
        .split_whitespace()
        .collect()
}

/// An API server with two endpoints, of which the first is ready; none where
/// there is no kubectl.
async fn two_endpoints() -> Option<(Env, String)> {
    if !exists("kubectl") {
        say("skipped: there is no kubectl on the PATH");
        return None;
    }
    let env = Env::start().await;
    let api = env.endpoints();
    let first = record(TUNNEL, NODE, CONNECTOR, "10.42.0.100:80");
    let second = record("office-printer", "gost-1", "laptop", "[fd00::1]:8080");
    for record in [&first, &second] {
        let object = TunnelEndpoint::from_record(record).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let name = name::object_name(&first.endpoint.key);
    let patch = Patch::Merge(ready("True"));
    api.patch_status(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
    Some((env, name))
}

#[tokio::test]
async fn get_shows_what_matters() {
    let Some((env, name)) = two_endpoints().await else {
        return;
    };
    let text = kubectl(&env, &["get", "tep"]).await.unwrap();
    assert_eq!(
        words(&text, "NAME"),
        [
            "NAME", "TUNNEL", "NODE", "NETWORK", "ADDRESS", "HOLDER", "RENEWED", "READY", "AGE"
        ]
    );
    let line = words(&text, &name);
    assert_eq!(
        line[..6],
        [&name, TUNNEL, NODE, "tcp", "10.42.0.100:80", NODE]
    );
    assert_eq!(line[7], "True");
    assert_eq!(line.len(), 9, "{text}");
    let text = kubectl(&env, &["get", "tunnels", "--output", "wide"])
        .await
        .unwrap();
    assert_eq!(
        words(&text, "NAME")[9..],
        ["CONNECTOR", "LEASE", "ORIGIN", "STATIC", "REASON"]
    );
    assert_eq!(
        words(&text, &name)[9..],
        [CONNECTOR, "60", "10.42.0.100", "false", "Renewed"]
    );
}

#[tokio::test]
async fn selectors_select() {
    let Some((env, _)) = two_endpoints().await else {
        return;
    };
    let tunnel = format!("spec.tunnel={TUNNEL}");
    let hash = name::tunnel_hash(&TUNNEL.parse().unwrap());
    let label = format!("{TUNNEL_LABEL}={hash}");
    for selector in [["--field-selector", &tunnel], ["--selector", &label]] {
        let get = ["get", "tep", "--no-headers", selector[0], selector[1]];
        let text = kubectl(&env, &get).await.unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(TUNNEL), "{text}");
    }
    let get = [
        "get",
        "tep",
        "--no-headers",
        "--field-selector",
        "spec.node=gost-1",
    ];
    let text = kubectl(&env, &get).await.unwrap();
    assert!(text.starts_with("office-printer-"), "{text}");
}

#[tokio::test]
async fn describe_and_explain_tell_more() {
    let Some((env, name)) = two_endpoints().await else {
        return;
    };
    let text = kubectl(&env, &["describe", "tep", &name]).await.unwrap();
    for part in [
        "tunnelregistry.io/renew-time: 2026-07-01T12:00:00.000000Z",
        "Address:    10.42.0.100:80",
        "a replica hears its renewals",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    let text = kubectl(&env, &["explain", "tep.spec.address"])
        .await
        .unwrap();
    assert!(
        text.contains("Where other servers dial the connector"),
        "{text}"
    );
    let text = kubectl(&env, &["explain", "tep"]).await.unwrap();
    assert!(text.contains("TunnelEndpoint says where"), "{text}");
}

#[tokio::test]
async fn waiting_ends_when_an_endpoint_becomes_ready() {
    let Some((env, name)) = two_endpoints().await else {
        return;
    };
    let api = env.endpoints();
    let patch = async |status| {
        let patch = Patch::Merge(ready(status));
        let params = PatchParams::default();
        api.patch_status(&name, &params, &patch).await.unwrap();
    };
    let object = format!("tep/{name}");
    let wait = |time| ["wait", "--for=condition=Ready", time, object.as_str()];
    assert!(kubectl(&env, &wait("--timeout=10s")).await.is_ok());
    patch("False").await;
    let error = kubectl(&env, &wait("--timeout=0")).await.unwrap_err();
    assert!(!error.is_empty());
    let wait = wait("--timeout=15s");
    let (waited, ()) = tokio::join!(kubectl(&env, &wait), patch("True"));
    let text = waited.unwrap();
    assert!(text.contains("condition met"), "{text}");
}

#[tokio::test]
async fn a_hand_made_endpoint_is_applied_and_its_mistakes_are_explained() {
    if !exists("kubectl") {
        say("skipped: there is no kubectl on the PATH");
        return;
    }
    let env = Env::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("static.yaml");
    let object = |address: &str| {
        format!(
            "apiVersion: tunnelregistry.io/v1alpha1\nkind: TunnelEndpoint\n\
             metadata: {{name: printer}}\n\
             spec: {{tunnel: printer, node: hand, connector: hand, address: '{address}', static: true}}\n"
        )
    };
    let apply = async |address: &str| {
        std::fs::write(&file, object(address)).unwrap();
        kubectl(&env, &["apply", "--filename", file.to_str().unwrap()]).await
    };
    let error = apply("printer").await.unwrap_err();
    assert!(
        error.contains("must be host:port, such as 10.42.0.100:80"),
        "{error}"
    );
    apply("192.0.2.7:631").await.unwrap();
    let text = kubectl(&env, &["get", "tep", "printer", "--output", "wide"])
        .await
        .unwrap();
    assert!(words(&text, "192.0.2.7").contains(&"true"), "{text}");
    let stored = env.endpoints().get("printer").await.unwrap();
    assert!(stored.spec.is_static);
    assert_eq!(
        stored.to_record().unwrap().endpoint.address.to_string(),
        "192.0.2.7:631"
    );
}

/// The accounts in the bindings are those of the namespace that it is applied to.
#[tokio::test]
async fn the_roles_are_applied_to_any_namespace() {
    if !exists("kubectl") {
        say("skipped: there is no kubectl on the PATH");
        return;
    }
    let env = Env::start().await;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/rbac.yaml");
    let apply = ["apply", "--filename", manifest];
    kubectl(&env, &apply).await.unwrap();
    env.may_what_is_granted().await;
}
