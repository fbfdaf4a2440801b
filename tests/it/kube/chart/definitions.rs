//! The definition of TunnelEndpoint over the years: older ones are upgraded, and
//! it outlives its release, with its objects, unless told otherwise.
//!
//! A cluster has one definition, so each test has a cluster.

use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tunnel_registry::resources;

use super::helm::{CHART, Helm, RELEASE};
use crate::kube::cluster::Cluster;
use crate::kube::env::Env;
use crate::kube::objects::{create, raw, spec};
use crate::kube::product::Product;
use crate::process::until;
use crate::sd::{Protocol, Sd};

/// Where the definition is in the chart.
const DEFINITION: &str = "files/crds/tunnelendpoints.yaml";

fn definitions(env: &Env) -> Api<CustomResourceDefinition> {
    Api::all(env.client.clone())
}

/// Takes the definitions away that the tests' clusters begin with.
async fn undefined(env: &Env) {
    let api = definitions(env);
    for definition in resources::definitions() {
        let delete = DeleteParams::default();
        api.delete(&definition.name_any(), &delete).await.unwrap();
    }
    gone(env).await;
}

async fn gone(env: &Env) {
    let api = definitions(env);
    for definition in resources::definitions() {
        until("the definition is gone", async || {
            let found = api.get_opt(&definition.name_any()).await;
            found.unwrap().is_none().then_some(())
        })
        .await;
    }
}

/// Waits until objects of the definition are served.
async fn served(env: &Env) {
    until("endpoints are served", async || {
        env.endpoints().list(&ListParams::default()).await.map(drop)
    })
    .await;
}

async fn helm(helm: &Helm, words: &[&str]) {
    let done = helm.run(words).await;
    done.unwrap_or_else(|error| panic!("helm {words:?}: {error}"));
}

/// The chart as it was before TunnelEndpoints could be kept by hand, or have
/// attributes and a status.
fn older() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(CHART), folder.path());
    let file = folder.path().join(DEFINITION);
    let text = fs::read_to_string(&file).unwrap();
    let mut definition: Value = serde_saphyr::from_str(&text).unwrap();
    let version = &mut definition["spec"]["versions"][0];
    let schema = &mut version["schema"]["openAPIV3Schema"]["properties"];
    let fields = schema["spec"]["properties"].as_object_mut().unwrap();
    for field in ["attributes", "static"] {
        assert!(fields.remove(field).is_some());
    }
    assert!(schema.as_object_mut().unwrap().remove("status").is_some());
    for part in [
        "subresources",
        "selectableFields",
        "additionalPrinterColumns",
    ] {
        assert!(version.as_object_mut().unwrap().remove(part).is_some());
    }
    fs::write(file, definition.to_string()).unwrap();
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_definition_is_upgraded_and_its_objects_are_served() {
    let cluster = Cluster::own().await;
    let env = Env::of(&cluster).await;
    let release = Helm::of(&env).await;
    undefined(&env).await;
    let older = older();
    helm(
        &release,
        &["install", RELEASE, older.path().to_str().unwrap()],
    )
    .await;
    served(&env).await;
    let api = raw(&env);
    let made = create(&api, spec()).await.unwrap();
    assert_eq!(made.data["spec"].get("static"), None, "no such field yet");

    helm(&release, &["upgrade", RELEASE, CHART]).await;
    let kept = until("what is new is filled in", async || {
        let kept = api.get(made.metadata.name.as_deref().unwrap()).await;
        let kept = kept.unwrap();
        (kept.data["spec"]["static"] == false).then_some(kept)
    })
    .await;
    assert_eq!(kept.metadata.uid, made.metadata.uid);
    let mut by_hand = spec();
    by_hand["connector"] = "by-hand".into();
    by_hand["static"] = true.into();
    by_hand["attributes"] = json!({ "floor": "2" });
    until("the new fields are taken", async || {
        let made = create(&api, by_hand.clone()).await?;
        match made.data["spec"]["attributes"] == by_hand["attributes"] {
            true => Ok(()),
            false => Err("they are dropped".to_owned()),
        }
    })
    .await;

    let product = Product::new(&env);
    let replica = product.replica(1).await.start().await;
    let sd = Sd::new(Protocol::Grpc, replica.setup.listen);
    let tunnel = spec()["tunnel"].as_str().unwrap().to_owned();
    until("both are served", async || {
        let mut told = sd.get(&tunnel).await.map_err(|error| error.to_string())?;
        told.sort_by(|a, b| a.id.cmp(&b.id));
        let told: Vec<_> = told.iter().map(|service| &*service.id).collect();
        (told == ["by-hand", "c"])
            .then_some(())
            .ok_or(format!("{told:?}"))
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definition_outlives_its_release_unless_told_otherwise() {
    let cluster = Cluster::own().await;
    let env = Env::of(&cluster).await;
    let release = Helm::of(&env).await;
    undefined(&env).await;
    let uninstall = ["uninstall", RELEASE];
    helm(&release, &["install", RELEASE, CHART]).await;
    served(&env).await;
    let made = create(&raw(&env), spec()).await.unwrap();
    let name = made.metadata.name.as_deref().unwrap();
    helm(&release, &uninstall).await;
    let kept = env.endpoints().get(name).await.unwrap();
    assert_eq!(kept.metadata.uid, made.metadata.uid);

    // It is taken up again, and then goes.
    helm(
        &release,
        &["install", RELEASE, CHART, "--set", "crds.keep=false"],
    )
    .await;
    let kept = env.endpoints().get(name).await.unwrap();
    assert_eq!(kept.metadata.uid, made.metadata.uid);
    helm(&release, &uninstall).await;
    gone(&env).await;
}
