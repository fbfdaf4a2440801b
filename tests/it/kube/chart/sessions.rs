//! What the chart makes for proxy sessions fits together.

use serde_json::Value;
use tunnel_registry::session::policy::Policy;

use super::values::{NAMESPACE, Rendered, rendered};

const NAME: &str = "tunnels-tunnel-registry";

fn object<'a>(one: &'a Rendered, kind: &str, name: &str) -> Option<&'a Value> {
    one.objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// The container of the shared replicas.
fn replica(one: &Rendered) -> Option<&Value> {
    let deployment = object(one, "Deployment", &format!("{NAME}-plugin"))?;
    Some(&deployment["spec"]["template"]["spec"]["containers"][0])
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let mut all = container["env"].as_array().unwrap().iter();
    let name = format!("TUNNEL_REGISTRY_{name}");
    all.find(|one| one["name"] == name)?["value"].as_str()
}

/// The sets with proxy sessions.
async fn sets() -> Vec<&'static Rendered> {
    let all = rendered().await.iter();
    let sets: Vec<_> = all
        .filter(|one| one.set.values()["sessions"]["enabled"] == true)
        .collect();
    assert!(sets.len() >= 3, "{sets:?}");
    sets
}

#[tokio::test]
async fn every_service_leads_to_a_port_of_the_replicas() {
    for one in sets().await {
        let name = &one.set.name;
        let container = replica(one).unwrap();
        let ports = container["ports"].as_array().unwrap();
        let mut found = 0;
        for part in ["sessions", "maintenance"] {
            let listen = match part {
                "sessions" => variable(container, "SESSION_LISTEN"),
                _ => variable(container, "MAINTENANCE_LISTEN"),
            };
            let port = ports.iter().find(|port| port["name"] == part);
            let port = port.map(|port| port["containerPort"].to_string());
            let service = object(one, "Service", &format!("{NAME}-{part}"));
            assert_eq!(listen.is_some(), service.is_some(), "{name}: {part}");
            assert_eq!(
                listen.and_then(|listen| listen.rsplit(':').next()),
                port.as_deref(),
                "{name}: {part}"
            );
            let Some(service) = service else { continue };
            assert_eq!(service["spec"]["ports"][0]["targetPort"], part, "{name}");
            found += 1;
        }
        assert!(found > 0, "{name}");
    }
}

/// The responder's Service is named three times: to the Gateways, to a Traefik,
/// and by itself.
#[tokio::test]
async fn the_responder_is_named_as_its_service_is() {
    let mut found = 0;
    for one in sets().await {
        let Some(service) = object(one, "Service", &format!("{NAME}-maintenance")) else {
            continue;
        };
        let port = &service["spec"]["ports"][0]["port"];
        let url = variable(replica(one).unwrap(), "MAINTENANCE_URL");
        let expected = format!("http://{NAME}-maintenance.{NAMESPACE}:{port}");
        assert_eq!(url, Some(&*expected), "{}", one.set.name);
        let controller = object(one, "Deployment", &format!("{NAME}-controller")).unwrap();
        let controller = &controller["spec"]["template"]["spec"]["containers"][0];
        if variable(controller, "GATEWAY").is_none() {
            continue;
        }
        let expected = format!("{NAME}-maintenance:{port}");
        let told = variable(controller, "MAINTENANCE_SERVICE");
        assert_eq!(told, Some(&*expected), "{}", one.set.name);
        found += 1;
    }
    assert!(found > 1);
}

#[tokio::test]
async fn the_policy_is_one() {
    let mut found = 0;
    for one in sets().await {
        let name = format!("{NAME}-session-policy");
        let Some(config) = object(one, "ConfigMap", &name) else {
            continue;
        };
        let with_certificates = variable(replica(one).unwrap(), "SESSION_TLS_CLIENT_CA").is_some();
        let text = config["data"]["policy.yaml"].as_str().unwrap();
        let parsed = Policy::parse(text, with_certificates);
        assert!(parsed.is_ok(), "{}: {}", one.set.name, parsed.unwrap_err());
        found += 1;
    }
    assert!(found > 0);
}

/// Every file that a replica is told of is in a folder that it mounts.
#[tokio::test]
async fn every_file_is_mounted() {
    for one in rendered().await {
        let Some(container) = replica(one) else {
            continue;
        };
        let mounts = container["volumeMounts"].as_array();
        let mounts: Vec<_> = mounts.into_iter().flatten().collect();
        for variable in container["env"].as_array().unwrap() {
            let value = variable["value"].as_str().unwrap_or_default();
            let Some((folder, _)) = value.rsplit_once('/').filter(|_| value.starts_with('/'))
            else {
                continue;
            };
            let is_mounted = mounts.iter().any(|mount| mount["mountPath"] == folder);
            assert!(is_mounted, "{}: {value}", one.set.name);
        }
    }
}

/// Sidecars, and whoever has no use for sessions, know nothing of them.
#[tokio::test]
async fn without_sessions_there_is_nothing_of_them() {
    for one in rendered().await {
        if one.set.values()["sessions"]["enabled"] == true {
            continue;
        }
        for object in &one.objects {
            // The definition is installed all the same, and its name is known.
            if object["kind"] == "CustomResourceDefinition" || object["kind"] == "ConfigMap" {
                continue;
            }
            let text = object.to_string();
            for word in [
                "SESSION_",
                "proxysessions",
                "MAINTENANCE_",
                "-sessions",
                "httproutes",
            ] {
                assert!(!text.contains(word), "{}: {word} in {text}", one.set.name);
            }
        }
    }
}
