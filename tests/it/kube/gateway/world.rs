//! A namespace with sessions, and a controller that makes objects for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tunnel_registry::resources::ProxySession;
use tunnel_registry::resources::gateway::HttpRoute;

use super::super::accounts::{Account, GATEWAY};
use super::super::cluster::{Cluster, common, condition};
use super::super::env::Env;
use super::super::product::{Controller, Product};
use super::super::rights::objects;
use super::super::tools::{exists, say};
use crate::process::until;

/// The Role for what is made for sessions.
pub const ROUTES: &str = "tunnel-registry-controller-gateway";

/// The label of all that is made for sessions.
pub const OURS: &str = "tunnelregistry.io/made-by=controller";

/// The Gateway API's definitions, of the module that Traefik is built with.
fn definitions() -> Option<Vec<Value>> {
    let skip = |why: &str| {
        say(&format!("SKIPPED: every test `kube::gateway::…`: {why}"));
        None
    };
    if !exists("go") {
        return skip("Go is missing, which has the Gateway API's definitions");
    }
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-tools/traefik");
    if !modules.join("go.mod").is_file() {
        return skip("tests/kube-tools/traefik is missing, which names their version");
    }
    let found = Command::new("go")
        .args([
            "list",
            "-mod=readonly",
            "-m",
            "-f",
            "{{.Dir}}",
            "sigs.k8s.io/gateway-api",
        ])
        .current_dir(&modules)
        .envs([("GOFLAGS", ""), ("GOWORK", "off")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut folder = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    if folder.as_os_str().is_empty() {
        let fetched = Command::new("go")
            .args(["mod", "download", "-json", "sigs.k8s.io/gateway-api"])
            .current_dir(&modules)
            .envs([("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&fetched.stdout).unwrap_or_default();
        folder = told["Dir"].as_str().unwrap_or_default().into();
    }
    let folder = folder.join("config/crd/standard");
    let Ok(files) = fs::read_dir(&folder) else {
        return skip("the module sigs.k8s.io/gateway-api is not to be had");
    };
    let mut all = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("gateway.networking.k8s.io_") {
            let text = fs::read_to_string(&path).unwrap();
            all.push(serde_saphyr::from_str(&text).unwrap());
        }
    }
    assert!(
        all.len() >= 6,
        "{} has {} definitions",
        folder.display(),
        all.len()
    );
    Some(all)
}

/// The Gateway API is there when this returns true.
pub async fn install(cluster: &Cluster) -> bool {
    let Some(all) = tokio::task::spawn_blocking(definitions).await.unwrap() else {
        return false;
    };
    let api = Api::<CustomResourceDefinition>::all(cluster.site.admin().await.unwrap());
    for definition in all {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let apply = PatchParams::apply("tests").force();
        api.patch(name, &apply, &Patch::Apply(&definition))
            .await
            .unwrap();
        until(&format!("{name} is served"), async || {
            let definition = api.get(name).await.unwrap();
            (condition(&definition, "Established").as_deref() == Some("True")).then_some(())
        })
        .await;
    }
    true
}

/// A namespace whose controller may write what is for sessions.
pub struct World {
    pub env: Env,
}

impl World {
    /// In the cluster that tests share; none without the Gateway API.
    pub async fn start() -> Option<Self> {
        let cluster = common().await;
        install(cluster).await.then_some(())?;
        Some(Self::of(Env::of(cluster).await).await)
    }

    /// In a namespace, with all rights.
    pub async fn of(env: Env) -> Self {
        let world = Self { env };
        world.env.kubeconfig_of(Account::Controller).await;
        world.grant("tunnel-registry-controller-sessions").await;
        world.grant(ROUTES).await;
        world
    }

    /// Gives the controller the rights of a Role of the product's manifest.
    pub async fn grant(&self, name: &str) {
        let named = |object: &Value| object["metadata"]["name"] == name;
        let both: Vec<_> = objects(GATEWAY).into_iter().filter(named).collect();
        assert_eq!(both.len(), 2, "a Role and its binding");
        for object in both {
            self.env.apply(&object).await;
        }
    }

    /// Takes rights away again.
    pub async fn revoke(&self, name: &str) {
        let delete = DeleteParams::default();
        self.env
            .api::<RoleBinding>()
            .delete(name, &delete)
            .await
            .unwrap();
        self.env.api::<Role>().delete(name, &delete).await.unwrap();
    }

    /// A controller with these flags.
    pub async fn controller(&self, product: &Product<'_>, flags: &str) -> Controller {
        let setup = product.controller(0).await;
        setup
            .flags(&format!("--leader-lease 3s {flags}"))
            .start()
            .await
    }

    /// A session that was made by hand.
    pub async fn session(&self, name: &str, service: &str, spec: Value) -> ProxySession {
        let mut all = json!({ "service": service, "hostname": name, "servicePort": 9000 });
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        let object = json!({
            "apiVersion": "tunnelregistry.io/v1alpha1", "kind": "ProxySession",
            "metadata": { "name": name }, "spec": all,
        });
        let made = self.env.apply(&object).await;
        made.try_parse().unwrap()
    }

    /// A session with one route.
    pub async fn serve(&self, name: &str, service: &str, domain: &str, backend: &str) {
        let routes = json!([{ "domains": [domain], "path": "/", "backend": backend }]);
        self.session(name, service, json!({ "routes": routes }))
            .await;
    }

    pub fn sessions(&self) -> Api<ProxySession> {
        self.env.api()
    }

    pub async fn end(&self, name: &str) {
        self.sessions()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Changes the spec of a session.
    pub async fn change(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.sessions()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// All objects of a kind that were made for sessions, by their names.
    pub async fn made<K: kube::Resource<DynamicType = ()>>(&self) -> Vec<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        let api = Api::<DynamicObject>::namespaced_with(
            self.env.client.clone(),
            &self.env.namespace,
            &resource,
        );
        let list = api.list(&ListParams::default().labels(OURS)).await.unwrap();
        list.items
    }

    /// Waits until there are so many Services, slices and HTTPRoutes.
    pub async fn counts(&self, services: usize, slices: usize, routes: usize) {
        until("there are as many objects as there should be", async || {
            let counts = [
                self.made::<Service>().await.len(),
                self.made::<EndpointSlice>().await.len(),
                self.made::<HttpRoute>().await.len(),
            ];
            match counts == [services, slices, routes] {
                true => Ok(()),
                false => Err(format!("{counts:?}")),
            }
        })
        .await;
    }

    /// The one HTTPRoute of a session.
    pub async fn route_of(&self, session: &str) -> Option<DynamicObject> {
        let routes = self.made::<HttpRoute>().await;
        let mut its = routes.into_iter().filter(|route| {
            let owners = route.metadata.owner_references.iter().flatten();
            owners.into_iter().any(|owner| owner.name == session)
        });
        its.next()
    }

    /// Waits until a session's condition is `Status/Reason`, and returns its text.
    pub async fn says(&self, session: &str, condition: &str, expected: &str) -> String {
        until(
            &format!("{session} is {condition} {expected}"),
            async || {
                let object = self.sessions().get(session).await.unwrap();
                let conditions = object.status.unwrap_or_default().conditions;
                let found = conditions.iter().find(|one| one.type_ == condition);
                let Some(found) = found else {
                    return Err(format!("{conditions:?}"));
                };
                match format!("{}/{}", found.status, found.reason) == expected {
                    true => Ok(found.message.clone()),
                    false => Err(format!("{found:?}")),
                }
            },
        )
        .await
    }
}

/// Whether a gauge is 1.
pub async fn is_so(controller: &Controller, metric: &str) -> bool {
    let (_, text) = controller.admin("/metrics").await;
    let line = format!("{metric} 1.0");
    text.lines().any(|told| told == line)
}
