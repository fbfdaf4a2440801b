//! What is told of Kubernetes.

use std::sync::Arc;

use uuid::Uuid;

use crate::args::values;
use crate::kubernetes::pods::Scope;

/// Where the records are, and the pod that this runs in. Read with
/// `--store kubernetes` only.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Kubernetes (with --store kubernetes)")]
pub struct Kubernetes {
    /// Where its records are.
    #[command(flatten)]
    pub place: Place,
    /// The pod that this runs in: `metadata.name` of the downward API
    ///
    /// With --pod-uid and --pod-namespace. In a pod with a gost it owns what
    /// that gost registers, so that Kubernetes removes it with the pod.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_POD_NAME",
        value_name = "NAME",
        requires = "pod_uid"
    )]
    pub pod_name: Option<String>,
    /// Its namespace: `metadata.namespace` of the downward API
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_POD_NAMESPACE",
        value_name = "NAME",
        requires = "pod_uid",
        value_parser = values::label
    )]
    pub pod_namespace: Option<String>,
    /// Its uid: `metadata.uid` of the downward API
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_POD_UID",
        value_name = "UID",
        requires = "pod_name"
    )]
    pub pod_uid: Option<Uuid>,
    /// Whose pods to watch, so that what is in a pod that ends is offered last
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_WATCH_PODS",
        value_name = "WHICH",
        default_value = "own",
        value_enum
    )]
    pub watch_pods: WatchPods,
}

/// Where all replicas and controllers of a registry keep their records.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Place {
    /// The namespace of the TunnelEndpoints; unset, that of the pod or the kubeconfig
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_NAMESPACE",
        value_name = "NAME",
        value_parser = values::label
    )]
    pub namespace: Option<String>,
}

impl Place {
    /// The namespace; `default` is that of the client's configuration.
    #[must_use]
    pub fn namespace_or(&self, default: &str) -> String {
        self.namespace.as_deref().unwrap_or(default).to_owned()
    }
}

/// Whose pods are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WatchPods {
    /// Those of the namespace of the TunnelEndpoints.
    Own,
    /// Those of all namespaces.
    All,
    /// None: leases alone decide.
    Off,
}

impl WatchPods {
    /// Whose pods these are, for a process with this namespace; none to be watched.
    #[must_use]
    pub fn scope(self, namespace: &str) -> Option<Scope> {
        match self {
            Self::Own => Some(Scope::Namespace(namespace.to_owned())),
            Self::All => Some(Scope::All),
            Self::Off => None,
        }
    }
}

impl Kubernetes {
    /// Who a replica in this pod is, if it is in one. The pod's uid is part of it,
    /// so that the next pod of that name is somebody else.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<str>> {
        let (name, uid) = self.pod_name.as_ref().zip(self.pod_uid)?;
        // What is longest is the name; the uid alone is enough.
        let room = values::MAX_IDENTITY - uid.to_string().len() - 1;
        let name = &name[..name.floor_char_boundary(room)];
        Some(format!("{name}_{uid}").into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        kubernetes: Kubernetes,
    }

    fn parse(line: &str) -> Result<Kubernetes, String> {
        Line::try_parse_from(format!("x {line}").split_whitespace())
            .map(|line| line.kubernetes)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_replica_is_known_by_its_pod() {
        let uid = "8f14e45f-ceea-467f-a0e6-d1cb2a1c5f3b";
        let pod = parse(&format!("--pod-name gost-0 --pod-uid {uid}")).unwrap();
        assert_eq!(*pod.identity().unwrap(), *format!("gost-0_{uid}"));
        let long = "x".repeat(253);
        let pod = parse(&format!("--pod-name {long} --pod-uid {uid}")).unwrap();
        let identity = pod.identity().unwrap();
        assert!(identity.len() == values::MAX_IDENTITY && identity.ends_with(uid));
        assert_eq!(parse("").unwrap().identity(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--pod-name a",
            "--pod-uid 8f14e45f-ceea-467f-a0e6-d1cb2a1c5f3b",
            "--pod-name a --pod-uid b",
            "--namespace A_b",
            "--watch-pods some",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
