//! Bounds what is logged, so that a flood of requests is not one of log lines.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets [`Throttle::LINES`] lines through each [`Throttle::WINDOW`].
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the window began; none before the first line.
    began: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Throttle {
    /// Lines in a window. A person reads no more.
    pub(crate) const LINES: u32 = 10;

    /// How long a window is.
    pub(crate) const WINDOW: Duration = Duration::from_secs(10);

    /// Whether a line may be written now; if so, how many were not since the
    /// last one that was.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= Self::WINDOW)
        {
            state.began = Some(now);
            state.said = 0;
        }
        if state.said == Self::LINES {
            state.unsaid += 1;
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..Throttle::LINES {
            assert_eq!(throttle.admit(now), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(throttle.admit(now), None);
        }
        let later = now + Throttle::WINDOW;
        assert_eq!(throttle.admit(later - Duration::from_nanos(1)), None);
        assert_eq!(throttle.admit(later), Some(1_001));
        assert_eq!(throttle.admit(later), Some(0));
    }
}
