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
    /// Wall-clock time.
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
            wall: Timestamp::now(),
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
