//! Every pod that the chart makes is let in where Pod Security's level
//! `restricted` is enforced.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::accepted::Acceptance;
use super::values::{NAMESPACE, rendered, title};
use crate::kube::cluster::common;

/// The pod that an object makes, or is.
pub fn pod(object: &Value) -> Option<Value> {
    let template = match object["kind"].as_str()? {
        "Pod" => object,
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
            &object["spec"]["template"]
        }
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    let mut pod = template.clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = object["metadata"]["name"].clone();
    Some(pod)
}

/// Whether the API server would take the pod.
async fn admitted(client: &Client, pod: &Value) -> Result<(), String> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod.clone()).unwrap();
    match pods.create(&params, &pod).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) => Err(status.message),
        Err(error) => panic!("{error}"),
    }
}

/// Every container of a pod, by the pointer to it.
fn containers(pod: &Value) -> Vec<String> {
    let lists = ["initContainers", "containers"];
    let each = lists.iter().flat_map(|list| {
        let count = pod["spec"][list].as_array().map_or(0, Vec::len);
        (0..count).map(move |n| format!("/spec/{list}/{n}"))
    });
    each.collect()
}

#[tokio::test]
async fn every_pod_is_let_in_and_each_container_matters() {
    // It makes the namespace.
    Acceptance::new().await;
    let client = common().await.site.admin().await.unwrap();
    let mut seen = 0;
    for one in rendered().await {
        for object in &one.objects {
            let Some(pod) = pod(object) else { continue };
            let what = format!("{}: {}", one.set.name, title(object));
            let answer = admitted(&client, &pod).await;
            assert_eq!(answer, Ok(()), "{what}");
            for container in containers(&pod) {
                let mut bad = pod.clone();
                let container = bad.pointer_mut(&container).unwrap();
                container["securityContext"]["allowPrivilegeEscalation"] = true.into();
                let refused = admitted(&client, &bad).await.unwrap_err();
                assert!(refused.contains("\"restricted"), "{what}: {refused}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0);
}

#[test]
fn pods_are_found_in_what_makes_them() {
    let template =
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{}] } });
    let meta = json!({ "name": "x" });
    let job = json!({ "kind": "Job", "metadata": meta, "spec": { "template": template } });
    let cron = json!({ "kind": "CronJob", "metadata": meta, "spec": { "jobTemplate": job } });
    for object in [&job, &cron] {
        let pod = pod(object).unwrap();
        assert_eq!(
            pod["metadata"],
            json!({ "name": "x", "labels": { "a": "b" } })
        );
        assert_eq!(containers(&pod), ["/spec/containers/0"]);
    }
    assert_eq!(pod(&json!({ "kind": "Service", "metadata": meta })), None);
}
