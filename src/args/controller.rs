//! What `controller` is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::args::kubernetes::{Place, WatchPods};
use crate::args::{Gateways, Logs, values};

/// What `controller` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Controller {
    /// Where the TunnelEndpoints are.
    #[command(flatten, next_help_heading = "Kubernetes")]
    pub place: Place,
    /// Who this controller is; unset, the host's name and something random
    ///
    /// No two controllers of a namespace may have the same.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_IDENTITY",
        value_name = "NAME",
        help_heading = "Kubernetes",
        value_parser = values::identity
    )]
    pub identity: Option<String>,
    /// Whose pods to watch, so that what ran in a pod that is gone goes at once
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_WATCH_PODS",
        value_name = "WHICH",
        help_heading = "Kubernetes",
        default_value = "own",
        value_enum
    )]
    pub watch_pods: WatchPods,
    /// Say what would be collected, and write nothing
    #[arg(long, env = "TUNNEL_REGISTRY_DRY_RUN", help_heading = "Kubernetes")]
    pub dry_run: bool,
    /// Where /livez, /readyz and /metrics are
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ADMIN_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Listening",
        default_value = "127.0.0.1:8090",
        value_parser = values::ip_port
    )]
    pub admin_listen: SocketAddr,
    /// How long an endpoint stays whose replica has died, unless another takes it over
    ///
    /// A replica that crashed comes back to a gost that will not register again,
    /// so this must be longer than it takes to start anew.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ORPHAN_FOR",
        value_name = "TIME",
        help_heading = "Times",
        default_value = "10m",
        value_parser = values::time(Duration::from_secs(1), Duration::from_secs(86_400))
    )]
    pub orphan_for: Duration,
    /// How long a leader's Lease is valid: another takes over so much later
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_LEADER_LEASE",
        value_name = "TIME",
        help_heading = "Times",
        default_value = "15s",
        value_parser = values::time(Duration::from_secs(3), Duration::from_secs(300))
    )]
    pub leader_lease: Duration,
    /// What becomes of proxy sessions.
    #[command(flatten, next_help_heading = "Proxy sessions")]
    pub gateways: Gateways,
    /// What it writes about itself.
    #[command(flatten)]
    pub logs: Logs,
}

impl Controller {
    /// Who this controller is, on a host of this name, given something random.
    #[must_use]
    pub fn identity(&self, host: &str, random: u32) -> Arc<str> {
        match &self.identity {
            Some(identity) => identity.as_str().into(),
            None => format!("{host}_{random:08x}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        controller: Controller,
    }

    fn parse(line: &str) -> Result<Controller, String> {
        Line::try_parse_from(format!("x {line}").split_whitespace())
            .map(|line| line.controller)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_as_promised() {
        let told = parse("").unwrap();
        assert_eq!(told.orphan_for, Duration::from_secs(600));
        assert_eq!(told.leader_lease, Duration::from_secs(15));
        assert_eq!(told.admin_listen.to_string(), "127.0.0.1:8090");
        assert_eq!(told.watch_pods, WatchPods::Own);
        assert!(!told.dry_run);
    }

    #[test]
    fn each_controller_is_somebody() {
        let told = parse("").unwrap();
        assert_eq!(&*told.identity("pod-0", 0x2a), "pod-0_0000002a");
        let told = parse("--identity a").unwrap();
        assert_eq!(&*told.identity("pod-0", 0x2a), "a");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--orphan-for 10ms",
            "--leader-lease 1s",
            "--namespace A",
            "--watch-pods none",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
