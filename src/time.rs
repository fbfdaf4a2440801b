//! The one place that reads a clock. Everything that decides takes a [`Now`].

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The present, on both clocks.
///
/// Ages are measured on `mono` only; `wall` is what gets written down for
/// people and for other processes, and is never compared.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time.
    pub mono: Instant,
    /// Wall-clock time, in whole microseconds: no store keeps it finer
    /// (`MicroTime` in Kubernetes), and what is read back must equal what was
    /// written.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks. The monotonic one is tokio's, so that a test that
    /// pauses time pauses this too.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn read() -> Self {
        Self {
            mono: tokio::time::Instant::now().into_std(),
            wall: in_microseconds(Timestamp::now()),
        }
    }

    /// The moment `by` later on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self {
            mono: self.mono + by,
            wall: self.wall.saturating_add(by).unwrap_or(Timestamp::MAX),
        }
    }
}

fn in_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_time_is_in_whole_microseconds() {
        for (fine, coarse) in [
            (
                "2026-01-01T00:00:00.123456789Z",
                "2026-01-01T00:00:00.123456Z",
            ),
            ("2026-01-01T00:00:00.000000999Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.5Z"),
        ] {
            let fine: Timestamp = fine.parse().unwrap();
            assert_eq!(in_microseconds(fine).to_string(), coarse);
        }
        assert_eq!(Now::read().wall.subsec_nanosecond() % 1_000, 0);
    }
}
