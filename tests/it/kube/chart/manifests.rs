//! `manifests/`: a base and overlays for kustomize, rendered from the chart.
//!
//! The base is what all overlays have in common, so that no overlay patches it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tunnel_registry::session::policy::Policy;

use super::accepted::Acceptance;
use super::helm::{Helm, parsed};
use super::values::title;
use crate::kube::tools::{exists, say};

/// Which is also the release's name, so that nothing has a name of two parts.
const NAMESPACE: &str = "tunnel-registry";

const OVERLAYS: [&str; 3] = ["shared", "sidecar", "sessions"];

/// What kustomize makes of files, and of which kind that is.
const GENERATED: [(&str, &str); 2] = [
    ("secretGenerator", "Secret"),
    ("configMapGenerator", "ConfigMap"),
];

/// The only file here that is generated, in each folder.
const RESOURCES: &str = "resources.yaml";

const HEADER: &str = "# Rendered from charts/tunnel-registry; do not edit.\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn overlay(name: &str) -> PathBuf {
    folder().join("overlays").join(name)
}

/// What an overlay and the base have together.
async fn render(overlay_name: &str) -> Vec<Value> {
    let helm = Helm::offline(NAMESPACE).await;
    let values = overlay(overlay_name).join("values.yaml");
    let rendered = helm.template_as(NAMESPACE, &values).await;
    let mut objects = rendered.unwrap_or_else(|error| panic!("{overlay_name}: {error}"));
    // Hooks are Helm's.
    objects.retain(|object| {
        object["metadata"]["annotations"]
            .get("helm.sh/hook")
            .is_none()
    });
    objects.iter_mut().for_each(without_helm);
    objects
}

/// Says no longer that Helm manages it, and what that is told in the words of
/// others.
fn without_helm(object: &mut Value) {
    let labels = object["metadata"]["labels"].as_object_mut().unwrap();
    labels.remove("helm.sh/chart");
    labels.remove("app.kubernetes.io/managed-by");
    let annotations = object.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut)
        && annotations.remove("helm.sh/resource-policy") == Some("keep".into())
    {
        let words = [
            (
                "argocd.argoproj.io/sync-options",
                "Prune=false,Delete=false",
            ),
            ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
        ];
        annotations.extend(words.map(|(name, value)| (name.into(), value.into())));
    }
}

/// The base and the overlays, as they should be.
async fn generated() -> Vec<(PathBuf, Vec<Value>)> {
    let mut overlays = Vec::new();
    for name in OVERLAYS {
        overlays.push((overlay(name).join(RESOURCES), render(name).await));
    }
    let everywhere = |object: &Value| overlays.iter().all(|(_, all)| all.contains(object));
    let base = overlays[0].1.iter().filter(|object| everywhere(object));
    let base: Vec<_> = base.cloned().collect();
    for (_, objects) in &mut overlays {
        objects.retain(|object| !base.contains(object));
    }
    overlays.insert(0, (folder().join("base").join(RESOURCES), base));
    overlays
}

/// Run with `UPDATE_GENERATED=1` to write the files anew.
#[tokio::test]
async fn generated_manifests_are_up_to_date() {
    let update = std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1");
    for (path, objects) in generated().await {
        assert!(!objects.is_empty(), "{}", path.display());
        let documents = objects.iter().map(serde_saphyr::to_string);
        let documents: Vec<_> = documents.map(Result::unwrap).collect();
        let after = format!("{HEADER}{}", documents.join("---\n"));
        assert_eq!(parsed(&after), objects, "YAML loses nothing");
        if update {
            fs::write(&path, after).unwrap();
        } else {
            let up_to_date = fs::read_to_string(&path).is_ok_and(|before| before == after);
            let path = path.display();
            assert!(up_to_date, "run with UPDATE_GENERATED=1, commit {path}");
        }
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path);
    parsed(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// What a kustomization is made of, as far as files go.
fn built(folder: &Path) -> Vec<Value> {
    let kustomization = &read(&folder.join("kustomization.yaml"))[0];
    let mut objects = Vec::new();
    for resource in kustomization["resources"].as_array().unwrap() {
        let path = folder.join(resource.as_str().unwrap());
        match path.is_dir() {
            true => objects.extend(built(&path)),
            false => objects.extend(read(&path)),
        }
    }
    for (generator, _) in GENERATED {
        for made in kustomization[generator].as_array().into_iter().flatten() {
            for file in made["files"].as_array().unwrap() {
                read(&folder.join(file.as_str().unwrap()));
            }
        }
    }
    objects
}

#[tokio::test]
async fn every_overlay_is_accepted_and_one_of_a_name() {
    let mut acceptance = Acceptance::new().await;
    for name in OVERLAYS {
        let objects = built(&overlay(name));
        let titles: BTreeSet<_> = objects.iter().map(title).collect();
        assert_eq!(titles.len(), objects.len(), "{titles:?}");
        for object in &objects {
            let accepted = acceptance.of(object).await;
            assert_eq!(accepted, Ok(()), "{name}: {}", title(object));
        }
    }
}

#[tokio::test]
async fn kustomize_builds_every_overlay() {
    if !exists("kubectl") {
        say("skipped: there is no kubectl on the PATH");
        return;
    }
    let mut acceptance = Acceptance::new().await;
    for name in OVERLAYS {
        let folder = overlay(name);
        let output = Command::new("kubectl")
            .arg("kustomize")
            .arg(&folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = output.await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said, "", "{name}");
        let objects = parsed(&String::from_utf8(output.stdout).unwrap());
        for object in &objects {
            let accepted = acceptance.of(object).await;
            assert_eq!(accepted, Ok(()), "{name}: {}", title(object));
        }
        let made = |object: &Value| GENERATED.iter().any(|(_, kind)| object["kind"] == *kind);
        let count = |all: &[Value]| all.iter().filter(|object| !made(object)).count();
        assert_eq!(count(&objects), count(&built(&folder)));
    }
}

/// gost's configuration is a file here, so that it can be edited; its Secret gets
/// a name with a hash in it, so that an edit reaches the pods.
#[tokio::test]
async fn gosts_configuration_is_the_charts() {
    let helm = Helm::offline(NAMESPACE).await;
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values.yaml");
    fs::write(&values, "{plugin: {enabled: false}, gost: {enabled: true}}").unwrap();
    let objects = helm.template_as(NAMESPACE, &values).await.unwrap();
    let secret = objects.iter().find(|object| object["kind"] == "Secret");
    let secret = secret.unwrap();
    assert_eq!(secret["metadata"]["name"], "tunnel-registry-gost");
    let config = parsed(secret["stringData"]["gost.yaml"].as_str().unwrap());
    assert_eq!(read(&overlay("sidecar").join("gost.yaml")), config);
}

/// The policy is a file here as well; replicas find it under the name that they
/// were told.
#[tokio::test]
async fn the_policy_is_one_and_where_replicas_look_for_it() {
    let folder = overlay("sessions");
    let text = fs::read_to_string(folder.join("policy.yaml")).unwrap();
    assert!(Policy::parse(&text, false).is_ok());
    let kustomization = &read(&folder.join("kustomization.yaml"))[0];
    let made = &kustomization["configMapGenerator"][0];
    assert_eq!(made["options"]["disableNameSuffixHash"], true);
    let objects = read(&folder.join(RESOURCES));
    let mut volumes = objects
        .iter()
        .filter_map(|object| object["spec"]["template"]["spec"]["volumes"].as_array())
        .flatten();
    let volume = volumes.find(|volume| volume["configMap"]["name"] == made["name"]);
    let volume = volume.expect("a volume with the policy");
    let mut mounts = objects
        .iter()
        .map(|object| &object["spec"]["template"]["spec"]["containers"][0])
        .filter_map(|container| container["volumeMounts"].as_array())
        .flatten();
    let mount = mounts.find(|mount| mount["name"] == volume["name"]);
    let path = format!(
        "{}/policy.yaml",
        mount.unwrap()["mountPath"].as_str().unwrap()
    );
    let told = objects
        .iter()
        .any(|object| object.to_string().contains(&path));
    assert!(told, "{path}");
}
