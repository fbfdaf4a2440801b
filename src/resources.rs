//! Records as objects of Kubernetes, and the definitions of their kinds.
//!
//! Everything here is pure: no client, no clock.

pub mod decimal;
pub mod discovery_instance;
pub mod discovery_service;
pub mod gateway;
pub mod lease;
pub mod name;
pub mod proxy_session;
pub mod replica_lease;
pub mod status;
#[cfg(test)]
mod testing;
pub mod tunnel_endpoint;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

pub use discovery_instance::{DiscoveryInstance, DiscoveryInstanceSpec};
pub use discovery_service::{DiscoveryService, DiscoveryServiceSpec};
pub use proxy_session::{ProxySession, ProxySessionSpec, ProxySessionStatus};
pub use tunnel_endpoint::{TunnelEndpoint, TunnelEndpointSpec, TunnelEndpointStatus};

/// The API group of all kinds, and the prefix of their annotations and labels.
pub const GROUP: &str = "tunnelregistry.io";

/// The definitions of all kinds.
#[must_use]
pub fn definitions() -> [CustomResourceDefinition; 4] {
    [
        TunnelEndpoint::crd(),
        ProxySession::crd(),
        DiscoveryService::crd(),
        DiscoveryInstance::crd(),
    ]
}

/// The definitions of all kinds in YAML, as `kubectl apply -f -` takes it.
///
/// # Errors
/// When a definition cannot be written as YAML, which the tests rule out.
pub fn definitions_in_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let texts: Result<Vec<String>, _> = definitions().iter().map(serde_saphyr::to_string).collect();
    Ok(texts?.join("---\n"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Run with `UPDATE_GENERATED=1` to write the files anew.
    #[test]
    fn generated_definitions_are_up_to_date() {
        for definition in definitions() {
            let file = format!("{}.yaml", definition.spec.names.plural);
            let after = serde_saphyr::to_string(&definition).unwrap();
            for folder in ["crds", "charts/tunnel-registry/files/crds"] {
                let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join(folder)
                    .join(&file);
                if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
                    fs::write(&path, &after).unwrap();
                } else {
                    let up_to_date = fs::read_to_string(&path).is_ok_and(|before| before == after);
                    assert!(up_to_date, "run with UPDATE_GENERATED=1, commit {path:?}");
                }
            }
        }
    }

    #[test]
    fn kinds_are_in_our_group() {
        for definition in definitions() {
            assert_eq!(definition.spec.group, GROUP);
            let name = format!("{}.{GROUP}", definition.spec.names.plural);
            assert_eq!(definition.metadata.name, Some(name));
        }
    }

    #[test]
    fn all_definitions_are_printed() {
        let text = definitions_in_yaml().unwrap();
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(documents.len(), definitions().len());
        assert!(
            documents
                .iter()
                .all(|text| text.starts_with("apiVersion: "))
        );
    }
}
