//! Sidecars of a release: pods that nobody runs, with the tokens that they would
//! have.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Client;
use kube::api::PostParams;
use serde_json::json;
use uuid::Uuid;

use super::accepted::Acceptance;
use super::helm::{CHART, Helm, RELEASE};
use crate::kube::env::Env;
use crate::kube::site::client;

/// The account of pods with a sidecar.
pub const ACCOUNT: &str = "tunnels-tunnel-registry-sidecar";

/// Tokens last as long as any run of the tests; one that is bound to a pod lasts
/// an hour at least.
const TOKEN_SECONDS: i64 = 24 * 3_600;

/// A release with sidecars, in a namespace of its own.
pub struct Sidecars {
    pub env: Env,
    pub helm: Helm,
}

/// A pod with a sidecar.
pub struct Sidecar {
    pub name: String,
    pub uid: Uuid,
    /// With the pod's token.
    pub kubeconfig: PathBuf,
}

impl Sidecars {
    /// Installs the chart. What it says is not in force yet.
    pub async fn install() -> Self {
        Acceptance::new().await;
        let env = Env::start().await;
        let helm = Helm::of(&env).await;
        let install = ["install", RELEASE, CHART, "--set", "crds.enabled=false"];
        let done = helm.run(install).await;
        done.unwrap_or_else(|error| panic!("helm install: {error}"));
        Self { env, helm }
    }

    /// Uninstalls it: its policies are the cluster's.
    pub async fn uninstall(self) {
        let done = self.helm.run(["uninstall", RELEASE]).await;
        done.unwrap_or_else(|error| panic!("helm uninstall: {error}"));
    }

    /// Makes a pod with a sidecar.
    pub async fn pod(&self, name: &str) -> Sidecar {
        let pod = json!({
            "metadata": { "name": name },
            "spec": {
                "serviceAccountName": ACCOUNT,
                "containers": [{ "name": "gost", "image": "gost" }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pods = self.env.api();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        let uid = pod.metadata.uid.unwrap();
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name.into()),
            uid: Some(uid.clone()),
        };
        Sidecar {
            name: name.into(),
            uid: uid.parse().unwrap(),
            kubeconfig: self.token(name, Some(bound)).await,
        }
    }

    /// A kubeconfig with a token of the sidecars' account.
    pub async fn token(&self, name: &str, bound: Option<BoundObjectReference>) -> PathBuf {
        let env = &self.env;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                bound_object_ref: bound,
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts = env.api::<ServiceAccount>();
        let create = PostParams::default();
        let answer = accounts.create_token_request(ACCOUNT, &create, &request);
        let token = answer.await.unwrap().status.unwrap().token.unwrap();
        let name = format!("{}-{name}", env.namespace);
        env.site
            .write_kubeconfig(&name, &token, &env.namespace, env.site.address)
    }
}

impl Sidecar {
    /// As it names itself.
    pub fn identity(&self) -> String {
        format!("{}_{}", self.name, self.uid)
    }

    pub async fn client(&self) -> Client {
        client(&self.kubeconfig).await.unwrap()
    }
}
