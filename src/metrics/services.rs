//! What discoverd's services come to.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::discoverd::Services;

/// Tells what services there are, and who is told of them.
#[derive(Debug)]
pub struct ServiceFigures(Arc<Services>);

impl ServiceFigures {
    /// The figures of these services.
    #[must_use]
    pub fn new(services: Arc<Services>) -> Self {
        Self(services)
    }
}

impl Collector for ServiceFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let figures = self.0.figures();
        for (name, help, value) in [
            (
                "tunnel_registry_services",
                "Services of discoverd",
                figures.services,
            ),
            (
                "tunnel_registry_service_instances",
                "Instances of services that are known or asked for",
                figures.instances,
            ),
            (
                "tunnel_registry_service_subscribers",
                "Those who are told of the events of services",
                figures.subscribers,
            ),
            (
                "tunnel_registry_service_write_queue_length",
                "Writes of services that wait for the store or are under way",
                figures.waiting_writes,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = MetricType::Gauge;
            gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        for (name, help, value) in [
            (
                "tunnel_registry_service_events",
                "Events of services, whoever was told",
                figures.events,
            ),
            (
                "tunnel_registry_service_subscribers_ended",
                "Subscribers that were ended because they did not read",
                figures.ended,
            ),
            (
                "tunnel_registry_service_requests_given_up",
                "Requests that the store did not take within 4 s; they were answered 503",
                figures.given_up,
            ),
        ] {
            let kind = MetricType::Counter;
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}
