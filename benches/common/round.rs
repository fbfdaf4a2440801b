//! One round: the same kind of call, again and again, for a while.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Result;
use super::client::Caller;
use super::load::{self, Window};
use super::process::Cpu;
use super::report::{micros, percentile};
use super::wire::Request;

/// The share of a round that runs before it is measured.
pub const WARM_UP: f64 = 0.15;

/// What one round measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The server's processor time a call, in µs.
    pub cpu: f64,
    /// Calls a second.
    pub rate: f64,
    /// Half of the calls took at most this many µs.
    pub p50: f64,
    /// 99 % of the calls took at most this many µs.
    pub p99: f64,
}

impl Figures {
    /// Of calls that ended in a stretch of time of this length, and took so long,
    /// shortest first.
    pub fn new(latencies: &[Duration], length: Duration, spent: Duration) -> Result<Self> {
        if latencies.is_empty() {
            return Err("not one call was answered".into());
        }
        let calls = latencies.len() as f64;
        Ok(Self {
            cpu: micros(spent) / calls,
            rate: calls / length.as_secs_f64(),
            p50: micros(percentile(latencies, 0.50)),
            p99: micros(percentile(latencies, 0.99)),
        })
    }
}

/// Keeps every caller busy with what `next` gives, and measures for `time` after
/// a moment of warming up. `cpu` tells the processor time of the servers.
pub async fn round(
    callers: &mut [Caller],
    next: impl Fn() -> Result<Request>,
    time: Duration,
    cpu: impl Fn() -> Result<Vec<Cpu>>,
) -> Result<Figures> {
    let script = async {
        sleep(time.mul_f64(WARM_UP)).await;
        let (before, from) = (cpu()?, Instant::now());
        sleep(time).await;
        let (after, to) = (cpu()?, Instant::now());
        let spent = after.iter().zip(&before).map(|(a, b)| a.since(b)).sum();
        Ok((Window { from, to }, spent))
    };
    let ((window, spent), samples) = load::during(callers, next, script).await?;
    Figures::new(&window.latencies(&samples), window.length(), spent)
}
