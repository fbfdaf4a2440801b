//! What a controller tells of proxy sessions, asked for at each scrape.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::controller::plan::routes::Kind;
use crate::controller::sessions::{Figures, Sessions};
use crate::metrics::registry::{counter, gauge};

/// Tells what a controller knows of sessions, and has done for them.
pub struct Routed(Arc<Sessions>);

impl Routed {
    /// The figures of a controller.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self(sessions)
    }
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routed").finish_non_exhaustive()
    }
}

impl Collector for Routed {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        encode(encoder, &self.0.figures())
    }
}

fn encode(mut encoder: DescriptorEncoder, figures: &Figures) -> fmt::Result {
    by_kind(
        &mut encoder,
        "tunnel_registry_gateway_objects_wanted",
        "Objects that there should be for proxy sessions, by kind",
        figures.wanted,
    )?;
    by_kind(
        &mut encoder,
        "tunnel_registry_gateway_objects",
        "Objects that there are for proxy sessions, by kind",
        figures.made,
    )?;
    for (name, help, value) in [
        (
            "gateway_sessions",
            "ProxySessions that the controller knows",
            figures.sessions,
        ),
        (
            "gateway_malformed",
            "ProxySessions that cannot be read; 256 at most",
            figures.malformed,
        ),
        (
            "gateway_api",
            "Whether HTTPRoutes can be written, and there is a Gateway to name in them",
            usize::from(figures.gateway_api),
        ),
        (
            "gateway_sessions_refused",
            "ProxySessions whose HTTPRoutes a Gateway does not take",
            figures.refused,
        ),
        (
            "gateway_hosts_unresolved",
            "Hosts of backends that have no address",
            figures.unresolved,
        ),
    ] {
        gauge(&mut encoder, name, help, None, value as f64)?;
    }
    for (name, help, value) in [
        (
            "gateway_objects_applied",
            "Objects that were written for proxy sessions",
            figures.applied,
        ),
        (
            "gateway_objects_deleted",
            "Objects of proxy sessions that were deleted",
            figures.deleted,
        ),
        (
            "gateway_objects_failed",
            "Objects that were not written or deleted, and are tried again",
            figures.failed,
        ),
        (
            "gateway_statuses_written",
            "Statuses of ProxySessions that were written",
            figures.statuses,
        ),
        (
            "gateway_statuses_failed",
            "Statuses of ProxySessions that were not written and are tried again",
            figures.statuses_failed,
        ),
        (
            "gateway_lookups_failed",
            "Lookups of backends' hosts that found no address",
            figures.lookups_failed,
        ),
    ] {
        counter(&mut encoder, name, help, None, ConstCounter::new(value))?;
    }
    Ok(())
}

fn by_kind(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    counts: [usize; Kind::ALL.len()],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (kind, count) in Kind::ALL.into_iter().zip(counts) {
        let gauge = ConstGauge::new(count as f64);
        gauge.encode(family.encode_family(&[("kind", kind.as_str())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[derive(Debug)]
    struct Fixed(Figures);

    impl Collector for Fixed {
        fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
            encode(encoder, &self.0)
        }
    }

    #[test]
    fn a_controller_tells_of_its_sessions() {
        let metrics = Metrics::new();
        metrics.register(Box::new(Fixed(Figures {
            sessions: 7,
            wanted: [1, 2, 3],
            made: [4, 5, 6],
            gateway_api: true,
            applied: 8,
            ..Figures::default()
        })));
        let text = metrics.encode().unwrap();
        for line in [
            "tunnel_registry_gateway_sessions 7.0",
            "tunnel_registry_gateway_api 1.0",
            "tunnel_registry_gateway_objects_wanted{kind=\"HTTPRoute\"} 3.0",
            "tunnel_registry_gateway_objects{kind=\"Service\"} 4.0",
            "tunnel_registry_gateway_objects_applied_total 8",
        ] {
            assert!(
                text.lines().any(|told| told == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
