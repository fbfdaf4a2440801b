//! What there is in a cluster, of every kind that can be listed.

use std::collections::BTreeSet;

use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use kube::discovery::{Discovery, Scope, verbs};

use super::helm::RELEASE;
use crate::kube::env::Env;
use crate::process::until;

/// Everything in a test's namespace, and what is in none and the release there
/// has made; as `Kind name`. Helm's own records are among the Secrets.
pub async fn inventory(env: &Env) -> BTreeSet<String> {
    let discovery = Discovery::new(env.client.clone());
    let discovery = discovery.run_aggregated().await.unwrap();
    let mut all = BTreeSet::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let client = env.client.clone();
            let (api, select): (Api<DynamicObject>, _) = match capabilities.scope {
                Scope::Namespaced => {
                    let api = Api::namespaced_with(client, &env.namespace, &resource);
                    (api, ListParams::default())
                }
                Scope::Cluster => {
                    let instance = format!("app.kubernetes.io/instance={RELEASE}");
                    let api = Api::all_with(client, &resource);
                    (api, ListParams::default().labels(&instance))
                }
            };
            let what = format!("objects of kind {} are listed", resource.kind);
            // Those of a new definition are not for a moment (429).
            let objects = until(&what, async || match api.list(&select).await {
                Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
                Err(error) => panic!("{what}: {error}"),
                Ok(objects) => Ok(objects),
            })
            .await;
            let ours = objects.items.iter().filter(|object| {
                let made_in = object.metadata.annotations.as_ref();
                let made_in = made_in.and_then(|all| all.get("meta.helm.sh/release-namespace"));
                capabilities.scope == Scope::Namespaced || made_in == Some(&env.namespace)
            });
            let title = |object: &DynamicObject| {
                let name = object.metadata.name.as_deref();
                format!("{} {}", resource.kind, name.unwrap_or_default())
            };
            all.extend(ours.map(title));
        }
    }
    all
}
