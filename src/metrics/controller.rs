//! What a controller of a cluster tells, asked for at each scrape.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::controller::plan::Reason;
use crate::controller::work::{Figures, Work};
use crate::metrics::registry::{counter, gauge};

/// Tells what a controller knows and has done.
pub struct Collected(Arc<Work>);

impl Collected {
    /// The figures of a controller.
    #[must_use]
    pub fn new(work: Arc<Work>) -> Self {
        Self(work)
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").finish_non_exhaustive()
    }
}

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        encode(encoder, &self.0.figures())
    }
}

fn encode(mut encoder: DescriptorEncoder, figures: &Figures) -> fmt::Result {
    by_reason(&mut encoder, figures)?;
    let flag = |flag: bool| usize::from(flag);
    for (name, help, value) in [
        (
            "controller_leader",
            "Whether this controller leads: collects, and writes statuses",
            flag(figures.leads),
        ),
        (
            "controller_endpoints",
            "Endpoints that are there",
            figures.endpoints,
        ),
        (
            "controller_nodes",
            "gost nodes that have endpoints, without those kept by hand",
            figures.nodes,
        ),
        (
            "controller_replicas",
            "Replicas whose leases have not run out",
            figures.replicas,
        ),
        (
            "controller_problems",
            "TunnelEndpoints that are not served: malformed, or of another's identity; 256 at most",
            figures.problems,
        ),
        (
            "controller_status_queue_length",
            "Endpoints whose status may have to change",
            figures.status_queue,
        ),
        (
            "controller_pods_watched",
            "Whether pods are watched",
            flag(figures.pods_watched),
        ),
    ] {
        gauge(&mut encoder, name, help, None, value as f64)?;
    }
    let seconds = Some(&Unit::Seconds);
    gauge(
        &mut encoder,
        "collector_braked",
        "For how long collecting has been braked because many nodes fell silent together; 0 when it is not",
        seconds,
        figures.braked.as_secs_f64(),
    )?;
    for (name, help, age) in [
        (
            "cache_age",
            "How long ago the watch of endpoints gave a sign; the API server does every minute or two",
            figures.cache_age,
        ),
        (
            "controller_contact_age",
            "How long ago the leases of replicas were read; no time counts while they are not",
            figures.contact_age,
        ),
    ] {
        if let Some(age) = age {
            gauge(&mut encoder, name, help, seconds, age.as_secs_f64())?;
        }
    }
    for (name, help, value) in [
        (
            "collector_deletes_failed",
            "Deletes that were not made and are tried again",
            figures.deletes_failed,
        ),
        (
            "controller_statuses_written",
            "Statuses that were written",
            figures.statuses,
        ),
        (
            "controller_statuses_failed",
            "Statuses that were not written and are tried again",
            figures.statuses_failed,
        ),
        (
            "controller_leases_deleted",
            "Leases of replicas that had been gone for long",
            figures.leases_deleted,
        ),
        (
            "controller_events_written",
            "Events that were written",
            figures.events.written,
        ),
        (
            "controller_events_dropped",
            "Events that were not written because there were too many",
            figures.events.dropped,
        ),
        (
            "controller_events_failed",
            "Events that the API server did not take",
            figures.events.failed,
        ),
    ] {
        counter(&mut encoder, name, help, None, ConstCounter::new(value))?;
    }
    Ok(())
}

fn by_reason(encoder: &mut DescriptorEncoder, figures: &Figures) -> fmt::Result {
    let mut waiting = encoder.encode_descriptor(
        "tunnel_registry_collector_waiting",
        "Endpoints that nobody maintains and that wait to be collected, by why",
        None,
        MetricType::Gauge,
    )?;
    for reason in Reason::ALL {
        let gauge = ConstGauge::new(figures.waiting[reason as usize] as f64);
        gauge.encode(waiting.encode_family(&[("reason", reason.as_str())])?)?;
    }
    let mut deleted = encoder.encode_descriptor(
        "tunnel_registry_collector_deletes",
        "Endpoints that were collected, by why",
        None,
        MetricType::Counter,
    )?;
    for reason in Reason::ALL {
        let counter = ConstCounter::new(figures.deleted[reason as usize]);
        counter.encode(deleted.encode_family(&[("reason", reason.as_str())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::controller::notices::Tally;
    use crate::metrics::Metrics;

    #[derive(Debug)]
    struct Fixed(Figures);

    impl Collector for Fixed {
        fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
            encode(encoder, &self.0)
        }
    }

    #[test]
    fn a_controller_tells_its_figures() {
        let figures = Figures {
            leads: true,
            waiting: [1, 2, 3, 4],
            deleted: [5, 6, 7, 8],
            braked: Duration::from_secs(9),
            contact_age: Some(Duration::from_secs(2)),
            events: Tally {
                dropped: 10,
                ..Tally::default()
            },
            ..Figures::default()
        };
        let metrics = Metrics::new();
        metrics.register(Box::new(Fixed(figures)));
        let text = metrics.encode().unwrap();
        for line in [
            "tunnel_registry_controller_leader 1.0",
            "tunnel_registry_collector_waiting{reason=\"holder_lost\"} 3.0",
            "tunnel_registry_collector_deletes_total{reason=\"pod_gone\"} 8",
            "tunnel_registry_collector_braked_seconds 9.0",
            "tunnel_registry_controller_contact_age_seconds 2.0",
            "tunnel_registry_controller_events_dropped_total 10",
        ] {
            assert!(
                text.lines().any(|told| told == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(!text.contains("cache_age_seconds "), "nothing was heard");
    }
}
