//! A release from its first day to its last: nothing is lost on the way, and
//! nothing left behind.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;

use super::accepted::Acceptance;
use super::helm::{CHART, Helm, RELEASE};
use super::inventory::inventory;
use super::values::{Rendered, rendered, title};
use crate::kube::env::Env;

/// The definition is there already, for all tests.
const COMMON: [&str; 2] = ["--set", "crds.enabled=false"];

/// A release in a namespace of its own.
struct Released {
    env: Env,
    helm: Helm,
}

impl Released {
    async fn new() -> Self {
        // Whatever there may be is defined before everything is listed.
        Acceptance::new().await;
        let env = Env::start().await;
        let helm = Helm::of(&env).await;
        Self { env, helm }
    }

    async fn helm(&self, arguments: &[&str]) -> String {
        let done = self.helm.run(arguments).await;
        done.unwrap_or_else(|error| panic!("helm {arguments:?}: {error}"))
    }

    async fn install(&self, flags: &[&str]) -> String {
        let install = ["install", RELEASE, CHART];
        self.helm(&[&install[..], &COMMON, flags].concat()).await
    }

    async fn upgrade(&self, flags: &[&str]) -> String {
        let upgrade = ["upgrade", RELEASE, CHART];
        self.helm(&[&upgrade[..], &COMMON, flags].concat()).await
    }

    /// What there is without Helm's own records.
    async fn inventory(&self) -> BTreeSet<String> {
        let mut all = inventory(&self.env).await;
        all.retain(|title| !title.starts_with("Secret sh.helm.release."));
        all
    }
}

/// What the objects of the release are called.
const NAME: &str = "tunnels-tunnel-registry";

impl Released {
    /// The token that callers of the plugin present, as it is stored.
    async fn token(&self) -> Vec<u8> {
        let secrets = self.env.api::<Secret>();
        let secret = secrets.get(&format!("{NAME}-plugin-token")).await.unwrap();
        secret.data.unwrap().remove("tokens").unwrap().0
    }

    /// How many controllers are wanted.
    async fn controllers(&self) -> i32 {
        let deployments = self.env.api::<Deployment>();
        let controller = deployments.get(&format!("{NAME}-controller")).await;
        controller.unwrap().spec.unwrap().replicas.unwrap()
    }
}

#[tokio::test]
async fn a_release_changes_goes_back_and_leaves_nothing() {
    let release = Released::new().await;
    let before = release.inventory().await;
    let notes = release.install(&[]).await;
    assert!(notes.contains("NOTES"), "{notes}");
    let installed = release.inventory().await;
    assert!(installed.len() > before.len() + 10, "{installed:?}");
    let token = release.token().await;
    assert!(token.len() >= 32 && token.is_ascii(), "{token:?}");
    assert_eq!(release.controllers().await, 2);

    release.upgrade(&["--set", "controller.replicas=3"]).await;
    assert_eq!(release.controllers().await, 3);
    assert_eq!(release.token().await, token, "made once");
    assert_eq!(release.inventory().await, installed);

    release.helm(&["rollback", RELEASE, "1"]).await;
    assert_eq!(release.controllers().await, 2);
    assert_eq!(release.token().await, token);
    assert_eq!(release.inventory().await, installed);

    // What a value turns off goes.
    release.upgrade(&["--set", "plugin.enabled=false"]).await;
    let fewer = release.inventory().await;
    assert!(fewer.is_subset(&installed) && fewer.len() < installed.len());
    assert!(
        !fewer.iter().any(|title| title.contains("-plugin")),
        "{fewer:?}"
    );

    release.helm(&["uninstall", RELEASE]).await;
    assert_eq!(release.inventory().await, before);
}

#[tokio::test]
async fn the_largest_release_leaves_nothing_either() {
    let release = Released::new().await;
    let before = release.inventory().await;
    let largest = rendered().await.iter().max_by_key(|one| one.objects.len());
    let largest = largest.unwrap();
    release
        .install(&["--values", largest.set.file.to_str().unwrap()])
        .await;
    let made: BTreeSet<_> = &release.inventory().await - &before;
    assert!(made.len() > 20, "{made:?}");
    release.helm(&["uninstall", RELEASE]).await;
    assert_eq!(release.inventory().await, before);
}

/// The names of Secrets that a set makes.
fn secrets(one: &Rendered) -> Vec<String> {
    let secrets = one
        .objects
        .iter()
        .filter(|object| object["kind"] == "Secret");
    secrets.map(title).collect()
}

#[tokio::test]
async fn no_token_is_made_where_there_is_one() {
    let mut seen = BTreeSet::new();
    for one in rendered().await {
        let values = one.set.values();
        let auth = &values["plugin"]["auth"];
        let wanted = values["plugin"]["enabled"] != false
            && auth["enabled"] != false
            && auth["existingSecret"].as_str().is_none_or(str::is_empty);
        let made = secrets(one)
            .iter()
            .any(|title| title.ends_with("-plugin-token"));
        assert_eq!(made, wanted, "{}", one.set.name);
        seen.insert(made);
    }
    assert_eq!(seen.len(), 2, "there are sets of both");
}
