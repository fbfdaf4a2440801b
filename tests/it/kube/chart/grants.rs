//! What the chart's Roles grant is what the product uses: no more with any set
//! of values, and nothing outside of the namespace unless that is asked for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pods::pod;
use super::values::{NAMESPACE, defaults, rendered, title};
use crate::kube::accounts::Account;
use crate::kube::rights::granted_by;

/// What of the chart is in no namespace; the first two only for whole clusters.
const OF_THE_CLUSTER: [&str; 5] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// A variable of any container of a pod.
fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let spec = &pod["spec"];
    let lists = [&spec["initContainers"], &spec["containers"]].into_iter();
    let mut variables = lists
        .flat_map(|list| list.as_array().into_iter().flatten())
        .flat_map(|container| container["env"].as_array().into_iter().flatten());
    let found = variables.find(|variable| variable["name"] == name)?;
    found["value"].as_str()
}

/// What only a pod that has to do with proxy sessions has.
const FOR_SESSIONS: [&str; 2] = ["TUNNEL_REGISTRY_SESSION_LISTEN", "TUNNEL_REGISTRY_GATEWAY"];

/// What only a pod that serves services has.
const FOR_SERVICES: &str = "TUNNEL_REGISTRY_SERVICES";

/// Whose rights a pod of the product needs.
fn account(pod: &Value) -> Option<Account> {
    if variable(pod, "TUNNEL_REGISTRY_ORPHAN_FOR").is_some() {
        return Some(Account::Controller);
    }
    (variable(pod, "TUNNEL_REGISTRY_STORE") == Some("kubernetes")).then_some(Account::Plugin)
}

#[tokio::test]
async fn pods_are_granted_what_is_used_and_no_more() {
    let mut checked = BTreeSet::new();
    for one in rendered().await {
        let made = one.objects.iter().any(|object| object["kind"] == "Role");
        for object in &one.objects {
            let Some(pod) = pod(object) else { continue };
            let name = pod["spec"]["serviceAccountName"].as_str();
            let granted = granted_by(&one.objects, name.unwrap_or("default"));
            let what = format!("{}: {}", one.set.name, title(object));
            let Some(account) = account(&pod) else {
                assert!(granted.is_empty(), "{what} needs no rights: {granted:?}");
                continue;
            };
            let mut used = account.granted();
            let is_on = |name: &&str| variable(&pod, name).is_some();
            let sessions = FOR_SESSIONS.iter().find(|name| is_on(name));
            if sessions.is_some() {
                used.extend(account.granted_for_sessions());
            }
            let services = variable(&pod, FOR_SERVICES);
            if services == Some("true") {
                used.extend(account.granted_for_services());
            }
            let watch = variable(&pod, "TUNNEL_REGISTRY_WATCH_PODS");
            if watch == Some("off") {
                used.retain(|right| right.resource != "pods");
            }
            if !made {
                used.clear();
            }
            assert_eq!(granted, used, "{what}");
            let services = services.map(|_| FOR_SERVICES);
            checked.insert(format!(
                "{account:?} {watch:?} {made} {sessions:?} {services:?}"
            ));
        }
    }
    let ways = |account: &str| checked.iter().filter(|it| it.starts_with(account)).count();
    assert!(ways("Plugin") > 3 && ways("Controller") > 3, "{checked:?}");
    for name in FOR_SESSIONS.into_iter().chain([FOR_SERVICES]) {
        let seen = checked.iter().any(|it| it.contains(name));
        assert!(seen, "no pod has {name}: {checked:?}");
    }
}

#[tokio::test]
async fn nothing_reaches_beyond_the_namespace_unless_asked_for() {
    for one in rendered().await {
        let whole = &one.set.values()["clusterWide"] == true;
        let extra = one.set.values()["extraObjects"].is_array();
        for object in &one.objects {
            let what = format!("{}: {}", one.set.name, title(object));
            let kind = object["kind"].as_str().unwrap();
            let namespace = object["metadata"]["namespace"].as_str();
            match OF_THE_CLUSTER.iter().position(|it| *it == kind) {
                Some(n) => {
                    assert!(n > 1 || whole, "{what}");
                    assert_eq!(namespace, None, "{what}");
                    let name = object["metadata"]["name"].as_str().unwrap();
                    let ours = kind == "CustomResourceDefinition" || name.contains(NAMESPACE);
                    assert!(ours, "{what}: two releases would share it");
                }
                None => assert!(namespace == Some(NAMESPACE) || extra, "{what}"),
            }
        }
    }
    assert_eq!(defaults()["clusterWide"], false);
}
