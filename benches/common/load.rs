//! The closed loop: each caller sends its next request when it has the reply
//! to the last one.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::Result;
use super::client::Caller;
use super::wire::Request;

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When its reply was complete.
    pub ended: Instant,
    /// How long that took.
    pub took: Duration,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its first moment.
    pub from: Instant,
    /// Its last moment.
    pub to: Instant,
}

impl Window {
    /// How long it is.
    pub fn length(&self) -> Duration {
        self.to - self.from
    }

    /// How long the calls took that ended in it, shortest first.
    pub fn latencies(&self, samples: &[Sample]) -> Vec<Duration> {
        let inside = |sample: &&Sample| (self.from..=self.to).contains(&sample.ended);
        let mut took: Vec<_> = samples.iter().filter(inside).map(|s| s.took).collect();
        took.sort_unstable();
        took
    }
}

/// A server that does not answer ends the run after this long.
const LOOP_WITHIN: Duration = Duration::from_secs(600);

/// Room for the calls of two seconds, so that recording rarely allocates.
const USUAL_SAMPLES: usize = 100_000;

/// Keeps every caller busy with what `next` gives while `script` runs, and
/// returns what the script returns, and every call. A wrong answer is an error.
pub async fn during<T>(
    callers: &mut [Caller],
    next: impl Fn() -> Result<Request>,
    script: impl Future<Output = Result<T>>,
) -> Result<(T, Vec<Sample>)> {
    let over = Cell::new(false);
    let samples = RefCell::new(Vec::with_capacity(USUAL_SAMPLES));
    let next = || (!over.get()).then(&next).transpose();
    let script = async {
        let outcome = script.await;
        over.set(true);
        outcome
    };
    let load = drive(callers, &next, |sample| samples.borrow_mut().push(sample));
    let (value, ()) = bounded(async { tokio::try_join!(script, load) }).await?;
    Ok((value, samples.into_inner()))
}

/// Makes each request once, as many at a time as there are callers.
pub async fn each(
    callers: &mut [Caller],
    requests: impl IntoIterator<Item = Result<Request>>,
) -> Result<()> {
    let requests = RefCell::new(requests.into_iter());
    let next = || requests.borrow_mut().next().transpose();
    bounded(drive(callers, &next, |_| {})).await
}

async fn bounded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LOOP_WITHIN, work)
        .await
        .unwrap_or_else(|_| Err(format!("not done within {LOOP_WITHIN:?}").into()))
}

async fn drive(
    callers: &mut [Caller],
    next: &impl Fn() -> Result<Option<Request>>,
    record: impl Fn(Sample),
) -> Result<()> {
    let record = &record;
    let mut workers: FuturesUnordered<_> = callers
        .iter_mut()
        .map(|caller| async move {
            while let Some(request) = next()? {
                let began = Instant::now();
                let body = caller.send(&request).await?;
                let ended = Instant::now();
                request.check(&body)?;
                record(Sample {
                    ended,
                    took: ended - began,
                });
            }
            Result::Ok(())
        })
        .collect();
    while let Some(ended) = workers.next().await {
        ended?;
    }
    Ok(())
}
