//! The registry's own figures, asked for at each scrape.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::controller::plan::own::Own;
use crate::registry::Registry;
use crate::registry::view::Tally;

/// Tells what a registry and the collector beside it hold and have done.
#[derive(Debug)]
pub struct Figures {
    registry: Arc<Registry>,
    plan: Option<Arc<Mutex<Own>>>,
}

impl Figures {
    /// The figures of `registry`, and of the `plan` by which its store is
    /// collected, where this process does that.
    #[must_use]
    pub fn new(registry: Arc<Registry>, plan: Option<Arc<Mutex<Own>>>) -> Self {
        Self { registry, plan }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let figures = self.registry.figures();
        by_health(&mut encoder, figures.endpoints, &figures.tally)?;
        for (name, help, value) in [
            ("tunnels", "Tunnels that have endpoints", figures.tunnels),
            ("nodes", "gost nodes that have endpoints", figures.nodes),
            (
                "ghosts",
                "Endpoints that are gone and that a renewal would bring back",
                figures.ghosts,
            ),
            (
                "endpoints_held",
                "Endpoints whose renewals this replica maintains",
                usize::try_from(figures.tally.held).unwrap_or(usize::MAX),
            ),
            (
                "replicas",
                "Replicas that share the store and live, as far as this one can see; itself included",
                figures.replicas,
            ),
            (
                "write_queue_length",
                "Writes that wait for the store or are under way",
                figures.queue,
            ),
        ] {
            gauge(&mut encoder, name, help, None, value as f64)?;
        }
        let seconds = Some(&Unit::Seconds);
        let queue_age = figures.queue_age.as_secs_f64();
        for (name, help, unit, value) in [
            (
                "write_queue_oldest_age",
                "How long the oldest write has been in the queue",
                seconds,
                queue_age,
            ),
            (
                "store_up",
                "Whether the store took writes at the last attempt",
                None,
                f64::from(u8::from(!figures.store_away)),
            ),
            (
                "store_read",
                "Whether the store has been read since the start",
                None,
                f64::from(u8::from(figures.ready)),
            ),
        ] {
            gauge(&mut encoder, name, help, unit, value)?;
        }
        if let Some(age) = figures.contact_age {
            gauge(
                &mut encoder,
                "cache_age",
                "How long ago the store last told this replica of its own lease: how old what it knows may be",
                seconds,
                age.as_secs_f64(),
            )?;
        }
        if let Some(plan) = &self.plan {
            collecting(&mut encoder, &plan.lock())?;
        }
        let counts = &figures.counts;
        for (name, help, value) in [
            (
                "endpoints_released",
                "Endpoints that were silent for their base time",
                counts.released,
            ),
            (
                "endpoints_expired",
                "Endpoints that went without a Deregister",
                counts.expired,
            ),
            (
                "endpoints_superseded",
                "Endpoints left behind by a previous life of their gost",
                counts.superseded,
            ),
            (
                "endpoints_restored",
                "Endpoints that a renewal brought back",
                counts.restored,
            ),
            (
                "endpoints_taken_over",
                "Endpoints taken over from a replica whose lease had run out",
                counts.taken_over,
            ),
            (
                "leases_refreshed",
                "Leases of endpoints that were written anew for their age",
                counts.refreshed,
            ),
            (
                "lease_disturbed",
                "Times that somebody else had written this replica's own lease",
                figures.disturbed,
            ),
            (
                "calls_absorbed",
                "Late calls that a Deregister had overtaken",
                counts.absorbed,
            ),
            (
                "renewals_unknown",
                "Renewals of endpoints that nobody registered here",
                counts.unknown_renewals,
            ),
            (
                "nodes_suspected",
                "Times that a node's last connection was closed from its side",
                counts.suspected,
            ),
        ] {
            counter(&mut encoder, name, help, None, ConstCounter::new(value))?;
        }
        let frozen = ConstCounter::new(figures.frozen.as_secs_f64());
        counter(
            &mut encoder,
            "frozen",
            "Time in which this process did not run",
            seconds,
            frozen,
        )
    }
}

fn collecting(encoder: &mut DescriptorEncoder, plan: &Own) -> fmt::Result {
    gauge(
        encoder,
        "collector_waiting",
        "Endpoints that nobody maintains and that wait to be collected",
        None,
        plan.waiting() as f64,
    )?;
    gauge(
        encoder,
        "collector_braked",
        "For how long collecting has been braked because many nodes fell silent together; 0 when it is not",
        Some(&Unit::Seconds),
        plan.braked_for().map_or(0.0, |time| time.as_secs_f64()),
    )
}

/// The tally is as old as the last sweep, so what it does not explain is healthy:
/// the sum is right at any time.
fn by_health(encoder: &mut DescriptorEncoder, endpoints: usize, tally: &Tally) -> fmt::Result {
    let doubtful = [
        ("released", tally.released),
        ("suspect", tally.suspect),
        ("challenged", tally.challenged),
        ("unheard", tally.unheard),
        ("holder-silent", tally.holder_silent),
        ("terminating", tally.terminating),
    ];
    let mut left = endpoints as u64;
    let doubtful = doubtful.map(|(health, count)| {
        let count = count.min(left);
        left -= count;
        (health, count)
    });
    let mut family = encoder.encode_descriptor(
        "tunnel_registry_endpoints",
        "Endpoints by their health; all but the healthy ones are offered last",
        None,
        prometheus_client::metrics::MetricType::Gauge,
    )?;
    for (health, count) in [("healthy", left)].into_iter().chain(doubtful) {
        let gauge = ConstGauge::new(count as f64);
        gauge.encode(family.encode_family(&[("health", health)])?)?;
    }
    Ok(())
}

pub(super) fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    let name = format!("tunnel_registry_{name}");
    gauge.encode(encoder.encode_descriptor(&name, help, unit, gauge.metric_type())?)
}

pub(super) fn counter<N>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    counter: ConstCounter<N>,
) -> fmt::Result
where
    ConstCounter<N>: EncodeMetric,
{
    let name = format!("tunnel_registry_{name}");
    counter.encode(encoder.encode_descriptor(&name, help, unit, counter.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::plan::{Pace, Plan};
    use crate::metrics::Metrics;
    use crate::registry::testing::registry;
    use crate::time::Now;

    #[test]
    fn an_empty_registry_tells_its_figures() {
        let registry = Arc::new(registry());
        let plan = Own::Alone(Box::new(Plan::new(Pace::default(), Now::read().mono)));
        let metrics = Metrics::new();
        metrics.register(Box::new(Figures::new(
            registry,
            Some(Arc::new(Mutex::new(plan))),
        )));
        let text = metrics.encode().unwrap();
        for line in [
            "tunnel_registry_endpoints{health=\"healthy\"} 0.0",
            "tunnel_registry_endpoints{health=\"suspect\"} 0.0",
            "tunnel_registry_write_queue_length 0.0",
            "tunnel_registry_write_queue_oldest_age_seconds 0.0",
            "tunnel_registry_store_up 1.0",
            "tunnel_registry_store_read 0.0",
            "tunnel_registry_endpoints_restored_total 0",
            "tunnel_registry_frozen_seconds_total 0.0",
        ] {
            assert!(
                text.lines().any(|told| told == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
