//! What is told of one of several replicas.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::args::values;
use crate::registry::vouch::Sharing;

/// Which of the replicas this is that share a store. Read with
/// `--store kubernetes` and `--store etcd:…` only.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Replicas (with --store kubernetes or etcd)")]
pub struct Replica {
    /// Who this replica is, as the holder of leases; unset, its pod, or else the host's name and --listen
    ///
    /// Must stay the same when the process starts anew, and no two processes may
    /// have the same.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_IDENTITY",
        value_name = "NAME",
        value_parser = values::identity
    )]
    pub identity: Option<String>,
    /// How long this replica's own lease is valid; it is renewed after a quarter
    ///
    /// When it was not renewed for so long, what the replica holds is offered
    /// last, and others take over what they hear. All replicas should have the same.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_REPLICA_LEASE",
        value_name = "TIME",
        default_value = "40s",
        value_parser = values::time(Duration::from_secs(4), Duration::from_secs(3600))
    )]
    pub replica_lease: Duration,
    /// How long an endpoint stays whose replica has died, unless another takes it over; with --store kubernetes a flag of the controller
    ///
    /// A replica that crashed comes back to a gost that will not register again,
    /// so this must be longer than it takes to start anew. All replicas should
    /// have the same.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ORPHAN_FOR",
        value_name = "TIME",
        default_value = "10m",
        value_parser = values::time(Duration::from_secs(1), Duration::from_secs(86_400))
    )]
    pub orphan_for: Duration,
}

/// There is nothing to be known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host has no name to be known by; give the replica one with --identity")]
pub struct NoIdentity;

impl Replica {
    /// Who this replica is: what it was named, else `pod`, else what follows from
    /// the host's name and where it listens.
    ///
    /// # Errors
    /// When there is nothing to be known by.
    pub fn identity(
        &self,
        pod: Option<Arc<str>>,
        host: &str,
        listen: SocketAddr,
    ) -> Result<Arc<str>, NoIdentity> {
        let named = self.identity.as_deref().map(Arc::from);
        if let Some(identity) = named.or(pod) {
            return Ok(identity);
        }
        let host = values::identity(host).map_err(|_| NoIdentity)?;
        Ok(format!("{host}_{listen}").into())
    }

    /// How the store is shared with other replicas.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        Sharing {
            validity: self.replica_lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::controller::plan::cluster::ORPHAN_FOR;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        replica: Replica,
    }

    fn parse(line: &str) -> Result<Replica, String> {
        Line::try_parse_from(format!("x {line}").split_whitespace())
            .map(|line| line.replica)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_replica_is_known_by_its_name_its_pod_or_its_host() {
        let listen = "127.0.0.1:8000".parse().unwrap();
        let known = |line: &str, pod: Option<&str>, host: &str| {
            let replica = parse(line).unwrap();
            replica.identity(pod.map(Into::into), host, listen)
        };
        for (line, pod, identity) in [
            ("--identity a", Some("pod"), "a"),
            ("", Some("pod"), "pod"),
            ("", None, "host_127.0.0.1:8000"),
        ] {
            assert_eq!(known(line, pod, "host").as_deref(), Ok(identity));
        }
        assert_eq!(known("", None, ""), Err(NoIdentity));
    }

    #[test]
    fn defaults_are_those_of_the_controller() {
        let told = parse("").unwrap();
        assert_eq!(told.orphan_for, ORPHAN_FOR);
        assert_eq!(told.sharing().validity, crate::replicas::VALIDITY);
        for line in ["--replica-lease 1s", "--orphan-for 0s"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
