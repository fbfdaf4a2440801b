//! A sign that the process does its work: its tasks get their turn.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::time::Now;

/// How often the pulse beats.
const EVERY: Duration = Duration::from_secs(1);
/// How old the last beat may be. A busy machine delays tasks by seconds.
const FRESH: Duration = Duration::from_secs(10);

/// When the pulse last beat.
#[derive(Debug)]
pub struct Pulse(Mutex<Instant>);

impl Pulse {
    pub fn new(now: Now) -> Self {
        Self(Mutex::new(now.mono))
    }

    /// Beats until it is asked to stop.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => *self.0.lock() = Now::read().mono,
            }
        }
    }

    /// Whether it beats.
    pub fn check(&self, now: Now) -> Result<(), String> {
        let age = now.mono.saturating_duration_since(*self.0.lock());
        if age <= FRESH {
            Ok(())
        } else {
            Err(format!("no task had its turn for {} s", age.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pulse_beats_until_it_is_stopped() {
        let pulse = Pulse::new(Now::read());
        let stop = CancellationToken::new();
        let hour = async {
            // Between two beats.
            tokio::time::sleep(Duration::from_millis(3_600_500)).await;
            let alive = pulse.check(Now::read());
            stop.cancel();
            alive
        };
        let (alive, ended) = tokio::join!(hour, pulse.run(stop.clone()));
        assert_eq!((alive, ended), (Ok(()), Ok(())));
        let later = |age| pulse.check(Now::read().plus(age));
        assert_eq!(later(FRESH - EVERY), Ok(()));
        assert_eq!(
            later(FRESH + EVERY),
            Err("no task had its turn for 11 s".into())
        );
    }
}
