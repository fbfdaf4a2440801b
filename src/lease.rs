//! Lease arithmetic: when an endpoint is silent, released, collected.
//!
//! Everything here is pure. A lease's wall-clock time is written for people
//! and never compared; ages come from monotonic clocks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who maintains a record and since when, as in coordination.k8s.io.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The replica that hears the renewals; none once it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Arc<str>>,
    /// When the lease was last written, by the writer's wall clock.
    pub renew_time: Timestamp,
    /// How long it is valid from then, in whole seconds.
    pub duration_seconds: u32,
    /// Why it was released; none while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Released>,
    /// The longest interval between two renewals that was lately seen, in whole
    /// seconds rounded up, where that is longer than [`USUAL_INTERVAL`]: who
    /// holds the lease next is then as patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u32>,
}

/// Why a lease was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Released {
    /// Nothing was heard for the base time.
    Silent,
    /// Nothing was heard for the base time, after the peer had closed the last
    /// connection that carried the node's calls.
    ConnectionClosed,
}

impl Lease {
    /// A lease held by `holder`.
    #[must_use]
    pub fn held(holder: Arc<str>, now: Timestamp, duration: Duration) -> Self {
        Self {
            holder: Some(holder),
            renew_time: now,
            duration_seconds: whole_seconds(duration),
            released: None,
            interval_seconds: None,
        }
    }

    /// A lease that nobody holds any more. Whoever hears a renewal may take it
    /// over; when `duration` has passed without that, it is collected.
    #[must_use]
    pub fn released(why: Released, now: Timestamp, duration: Duration) -> Self {
        Self {
            holder: None,
            renew_time: now,
            duration_seconds: whole_seconds(duration),
            released: Some(why),
            interval_seconds: None,
        }
    }

    /// The same lease, of a node that was seen to renew at `interval`.
    #[must_use]
    pub fn renewed_every(mut self, interval: Duration) -> Self {
        let rounded_up = interval + Duration::from_nanos(999_999_999);
        let is_unusual = interval > USUAL_INTERVAL + SLACK;
        self.interval_seconds = is_unusual.then(|| whole_seconds(rounded_up));
        self
    }

    /// The interval at which it tells that its node renews.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.interval_seconds
            .map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether somebody holds it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.holder.is_some()
    }

    /// How long it is valid from its last write.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_seconds.into())
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The times that decide when something silent goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The least silence after which an endpoint is released. Four of gost's
    /// default renewal intervals (`tunnel.ttl`, 15 s).
    pub base: Duration,
    /// How long a released endpoint stays before it is collected.
    pub released_for: Duration,
    /// After a start nothing is released for this long: gost's gRPC client
    /// backs off up to 120 s (plus jitter) before it connects again.
    pub start_grace: Duration,
    /// The longest interval between two renewals that is believed to be the
    /// user's setting and not an outage.
    pub longest_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(60),
            released_for: Duration::from_secs(60),
            start_grace: Duration::from_secs(150),
            longest_interval: Duration::from_secs(600),
        }
    }
}

/// What an interval may be longer by until it is worth telling: calls are late.
const SLACK: Duration = Duration::from_secs(1);

/// gost's default renewal interval, assumed until a node has shown its own.
pub const USUAL_INTERVAL: Duration = Duration::from_secs(15);

impl Timing {
    /// How long an endpoint may be silent before it is released, given the
    /// longest interval seen between two renewals of its node.
    #[must_use]
    pub fn base_time(&self, longest_seen: Duration) -> Duration {
        self.base.max(longest_seen.saturating_mul(4))
    }

    /// Whether a gap between two renewals is believed to be the user's setting.
    #[must_use]
    pub fn is_believed(&self, interval: Duration) -> bool {
        interval <= self.longest_interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_time_follows_the_slowest_renewal_seen() {
        let timing = Timing::default();
        let seconds = Duration::from_secs;
        assert_eq!(timing.base_time(Duration::ZERO), seconds(60));
        assert_eq!(timing.base_time(seconds(15)), seconds(60));
        assert_eq!(timing.base_time(seconds(16)), seconds(64));
        assert_eq!(timing.base_time(seconds(120)), seconds(480));
        assert!(timing.is_believed(seconds(600)));
        assert!(!timing.is_believed(seconds(601)), "that was an outage");
    }

    #[test]
    fn a_lease_tells_an_unusual_interval() {
        let told = |millis| {
            let lease = Lease::held("a".into(), Timestamp::UNIX_EPOCH, Duration::from_secs(60));
            lease
                .renewed_every(Duration::from_millis(millis))
                .interval()
        };
        assert_eq!(told(0), None);
        assert_eq!(told(15_000), None);
        assert_eq!(told(16_000), None);
        assert_eq!(told(16_001), Some(Duration::from_secs(17)));
        assert_eq!(told(120_000), Some(Duration::from_secs(120)));
    }
}
