//! What discoverd's services come to, and what is asked of them.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::discoverd::Services;
use crate::metrics::labels;

labels! {
    /// What was asked for over HTTP.
    Asked {
        /// All services.
        List = "list",
        /// To make a service.
        Create = "create",
        /// To remove one.
        Remove = "remove",
        /// To be told of its events.
        Watch = "watch",
        /// Its meta data.
        Meta = "meta",
        /// To replace it.
        SetMeta = "set_meta",
        /// Its instances, or to be told of them.
        Instances = "instances",
        /// To register one, or its heartbeat.
        Register = "register",
        /// To unregister one.
        Unregister = "unregister",
        /// Who leads, or to be told of that.
        Leader = "leader",
        /// To name who does.
        SetLeader = "set_leader",
    }
}

labels! {
    /// What it was answered.
    Answered {
        /// It was done, or told.
        Ok = "ok",
        /// There is no such thing.
        NotFound = "not_found",
        /// There is one already, or it is another one now.
        Conflict = "conflict",
        /// The request was malformed.
        Invalid = "invalid",
        /// No valid token.
        Unauthenticated = "unauthenticated",
        /// A limit is reached.
        Exhausted = "exhausted",
        /// The request did not arrive in time.
        TimedOut = "timed_out",
        /// The store was not read yet, or did not take it in time.
        Unavailable = "unavailable",
        /// The store refused it, or the answer could not be made.
        Failed = "failed",
    }
}

impl Answered {
    /// What an answer with this status says.
    fn with(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Self::Conflict,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::TOO_MANY_REQUESTS => Self::Exhausted,
            StatusCode::REQUEST_TIMEOUT => Self::TimedOut,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_success() => Self::Ok,
            status if status.is_client_error() => Self::Invalid,
            _ => Self::Failed,
        }
    }
}

/// The requests, counted.
#[derive(Debug)]
pub struct ServiceMetrics {
    requests: [[Counter; Answered::ALL.len()]; Asked::ALL.len()],
}

impl ServiceMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let requests = Family::<[(&str, &str); 2], Counter>::default();
        registry.register(
            "tunnel_registry_service_requests",
            "Requests about services over HTTP; those of heartbeats are among register",
            requests.clone(),
        );
        Self {
            requests: Asked::ALL.map(|asked| {
                Answered::ALL.map(|outcome| {
                    requests.get_or_create_owned(&[
                        ("request", asked.as_str()),
                        ("outcome", outcome.as_str()),
                    ])
                })
            }),
        }
    }

    /// A request was answered with this status.
    pub fn answered(&self, asked: Asked, status: StatusCode) {
        self.requests[asked as usize][Answered::with(status) as usize].inc();
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn requests_are_counted_by_what_they_were_answered() {
        let metrics = Metrics::new();
        for status in [200, 404, 409, 412, 413, 503, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            metrics.services.answered(Asked::Register, status);
        }
        let text = metrics.encode().unwrap();
        for (outcome, count) in [("ok", 1), ("conflict", 2), ("invalid", 1), ("failed", 1)] {
            let line = format!(
                "tunnel_registry_service_requests_total{{request=\"register\",outcome=\"{outcome}\"}} {count}"
            );
            assert!(text.contains(&line), "{line}");
        }
    }
}
