//! The product's accounts in a test's namespace, with the Roles that it ships.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use serde_json::Value;

use super::env::Env;
use super::rights::{Deeds, Right, granted, objects};
use crate::process::until;

/// The Roles that the product ships.
pub const MANIFEST: &str = include_str!("../../../manifests/rbac.yaml");

/// The Role of replicas that take proxy sessions.
pub const SESSIONS: &str = include_str!("../../../manifests/sessions.yaml");

/// The Role of replicas that serve discoverd's services.
pub const SERVICES: &str = include_str!("../../../manifests/services.yaml");

/// The Roles of a controller that makes HTTPRoutes for them.
pub const GATEWAY: &str = include_str!("../../../manifests/gateway.yaml");

/// What lets both accounts watch pods, which they can do without.
const PODS: &str = "tunnel-registry-pods";

/// Tokens last as long as any run of the tests.
const TOKEN_SECONDS: i64 = 24 * 3_600;

/// An account of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The replicas.
    Plugin,
    /// The controller.
    Controller,
}

impl Account {
    /// The ServiceAccount's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plugin => "tunnel-registry-plugin",
            Self::Controller => "tunnel-registry-controller",
        }
    }

    /// The user that it is to the API server.
    pub fn user(self, namespace: &str) -> String {
        format!("system:serviceaccount:{namespace}:{}", self.name())
    }

    /// What the product's manifest lets it do.
    pub fn granted(self) -> BTreeSet<Right> {
        granted(MANIFEST, self.name())
    }

    /// What the manifest for services lets it do besides.
    pub fn granted_for_services(self) -> BTreeSet<Right> {
        granted(SERVICES, self.name())
    }

    /// What the manifests for proxy sessions let it do besides.
    pub fn granted_for_sessions(self) -> BTreeSet<Right> {
        let manifests = [SESSIONS, GATEWAY].into_iter();
        manifests
            .flat_map(|manifest| granted(manifest, self.name()))
            .collect()
    }
}

impl Env {
    /// A kubeconfig of an account, in the test's namespace.
    pub async fn kubeconfig_of(&self, account: Account) -> PathBuf {
        self.kubeconfig_through(account, self.site.address).await
    }

    /// [`Env::kubeconfig_of`], with the API server behind another address of
    /// 127.0.0.1.
    pub async fn kubeconfig_through(&self, account: Account, server: SocketAddr) -> PathBuf {
        self.accounts.get_or_init(|| self.make_accounts()).await;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = self
            .api::<ServiceAccount>()
            .create_token_request(account.name(), &PostParams::default(), &request)
            .await
            .unwrap();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{n}", self.namespace, account.name());
        let token = answer.status.unwrap().token.unwrap();
        self.site
            .write_kubeconfig(&name, &token, &self.namespace, server)
    }

    /// Applies the product's manifest to the test's namespace, and waits until
    /// the API server goes by it.
    async fn make_accounts(&self) {
        for object in objects(MANIFEST) {
            self.apply(&object).await;
        }
        self.may_what_is_granted().await;
    }

    /// Waits until both accounts have the rights of the product's manifest.
    pub async fn may_what_is_granted(&self) {
        for account in [Account::Plugin, Account::Controller] {
            for right in account.granted() {
                self.may(account, &right, true).await;
            }
        }
    }

    /// Applies an object to the test's namespace.
    pub async fn apply(&self, object: &Value) -> DynamicObject {
        let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
        let resource = ApiResource::from_gvk(&(&types).try_into().unwrap());
        let api =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let name = object["metadata"]["name"].as_str().unwrap();
        let apply = PatchParams::apply("tests");
        api.patch(name, &apply, &Patch::Apply(object))
            .await
            .unwrap()
    }

    /// Applies another manifest of Roles that the product ships, and waits until
    /// an account has what it grants.
    pub async fn grant(&self, manifest: &str, account: Account) {
        self.accounts.get_or_init(|| self.make_accounts()).await;
        for object in objects(manifest) {
            self.apply(&object).await;
        }
        for right in granted(manifest, account.name()) {
            self.may(account, &right, true).await;
        }
    }

    /// Takes the right to watch pods away from both accounts.
    pub async fn forbid_pods(&self) {
        self.accounts.get_or_init(|| self.make_accounts()).await;
        let bindings = self.api::<RoleBinding>();
        let delete = DeleteParams::default();
        bindings.delete(PODS, &delete).await.unwrap();
        for account in [Account::Plugin, Account::Controller] {
            let pods = account.granted().into_iter();
            for right in pods.filter(|right| right.resource == "pods") {
                self.may(account, &right, false).await;
            }
        }
    }

    /// Waits until an account has a right, or has it no longer.
    async fn may(&self, account: Account, right: &Right, allowed: bool) {
        let text = |text: &str| Some(text.to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(account.user(&self.namespace)),
                resource_attributes: Some(ResourceAttributes {
                    namespace: text(&self.namespace),
                    group: text(&right.group),
                    resource: text(&right.resource),
                    subresource: text(&right.subresource),
                    verb: text(&right.verb),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let what = format!("{account:?} may {right}: {allowed}");
        until(&what, async || {
            let answer = reviews.create(&PostParams::default(), &review).await;
            let status = answer.unwrap().status.unwrap();
            (status.allowed == allowed).then_some(())
        })
        .await;
    }

    /// What an account has done in the test's namespace. The API server writes
    /// a request down after it has answered it, so look again until it is there.
    pub fn deeds(&self, account: Account) -> Deeds {
        let log = fs::read_to_string(self.site.audit_log()).unwrap();
        Deeds::read(&log, &account.user(&self.namespace), &self.namespace)
    }
}

#[cfg(test)]
mod tests;
