//! Records as objects of Kubernetes, and the definitions of their kinds.
//!
//! Everything here is pure: no client, no clock.

pub mod gateway;
pub mod name;
pub mod replica_lease;
pub mod tunnel_endpoint;

use kube::CustomResourceExt as _;

pub use tunnel_endpoint::{TunnelEndpoint, TunnelEndpointSpec, TunnelEndpointStatus};

/// The API group of all kinds, and the prefix of their annotations and labels.
pub const GROUP: &str = "tunnelregistry.io";

/// The definitions of all kinds in YAML, as `kubectl apply -f -` takes it.
///
/// # Errors
/// When a definition cannot be written as YAML, which the tests rule out.
pub fn definitions() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&TunnelEndpoint::crd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Run with `UPDATE_GENERATED=1` to write the file anew.
    #[test]
    fn generated_definitions_are_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/tunnelendpoints.yaml");
        let after = definitions().unwrap();
        if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
            fs::write(&path, after).unwrap();
        } else {
            let up_to_date = fs::read_to_string(&path).is_ok_and(|before| before == after);
            assert!(up_to_date, "run with UPDATE_GENERATED=1, commit {path:?}");
        }
    }

    #[test]
    fn kinds_are_in_our_group() {
        assert_eq!(TunnelEndpoint::crd().spec.group, GROUP);
        assert_eq!(
            TunnelEndpoint::crd_name(),
            format!("tunnelendpoints.{GROUP}")
        );
    }
}
