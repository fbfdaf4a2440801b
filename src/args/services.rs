//! What `serve` is told of discoverd's services.

use std::time::Duration;

use clap::builder::BoolishValueParser;

use crate::args::serve::count;
use crate::args::{Store, values};
use crate::discoverd::engine::{Limits, Setup};

/// What `serve` is told of discoverd's services.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Services")]
pub struct Services {
    /// Serve discoverd's API at --listen, or not (=false); unset, it is served, but not with --store kubernetes
    ///
    /// There its definitions and rights must be installed; see docs/discoverd.md.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVICES",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    services: Option<bool>,
    /// How long an instance of a service stays without a heartbeat
    ///
    /// All replicas should have the same.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVICE_TTL",
        value_name = "TIME",
        default_value = "10s",
        value_parser = values::time(Setup::TTL / 10, Setup::TTL * 360)
    )]
    pub service_ttl: Duration,
    /// The most services
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVICE_MAX_SERVICES",
        value_name = "N",
        default_value = "10000",
        value_parser = count()
    )]
    pub service_max_services: usize,
    /// The most instances of all services together
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVICE_MAX_INSTANCES",
        value_name = "N",
        default_value = "100000",
        value_parser = count()
    )]
    pub service_max_instances: usize,
    /// The most instances of one service
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVICE_MAX_PER_SERVICE",
        value_name = "N",
        default_value = "10000",
        value_parser = count()
    )]
    pub service_max_per_service: usize,
    /// The most who are told of the events of services
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVICE_MAX_SUBSCRIBERS",
        value_name = "N",
        default_value = "10000",
        value_parser = count()
    )]
    pub service_max_subscribers: usize,
}

impl Services {
    /// Whether they are served, given the store.
    #[must_use]
    pub fn are_served(&self, store: &Store) -> bool {
        let is_usual = !matches!(store, Store::Kubernetes);
        self.services.unwrap_or(is_usual)
    }

    /// How much there may be.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            services: self.service_max_services,
            per_service: self.service_max_per_service,
            instances: self.service_max_instances,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::discoverd::services::SUBSCRIBERS;

    fn services(line: &str) -> Result<Services, String> {
        let words = format!("tunnel-registry {line}");
        match Args::try_parse(words.split_whitespace().map(Into::into), None) {
            Ok(Args::Serve(serve)) => Ok(serve.services),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn whether_they_are_served_depends_on_the_store() {
        let file = Store::File("x".into());
        let served = |line: &str| {
            let services = services(line).unwrap();
            [&Store::Memory, &file, &Store::Kubernetes].map(|store| services.are_served(store))
        };
        assert_eq!(served(""), [true, true, false]);
        for on in ["--services", "--services=true"] {
            assert_eq!(served(on), [true; 3]);
        }
        assert_eq!(served("--services=false"), [false; 3]);
        assert!(services("--services=maybe").is_err());
    }

    #[test]
    fn an_instance_stays_for_as_long_as_the_protocol_promises() {
        let usual = services("").unwrap();
        assert_eq!(usual.service_ttl, Setup::TTL);
        assert_eq!(usual.limits(), Limits::default());
        assert_eq!(usual.service_max_subscribers, SUBSCRIBERS);
        for line in ["--service-ttl 1s", "--service-ttl 1h"] {
            assert!(services(line).is_ok(), "{line}");
        }
        for line in ["--service-ttl 900ms", "--service-ttl 61m"] {
            let error = services(line).unwrap_err();
            assert!(error.contains("must be from 1s to 1h"), "{error}");
        }
    }
}
