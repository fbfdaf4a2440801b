//! The tasks of a process: begun together, stopped in order.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::signals::Signal;

/// A task that failed, or ended before it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {task} {reason}")]
pub struct Failure {
    /// Its name.
    pub task: &'static str,
    /// What it did, to be read after its name.
    pub reason: String,
}

/// How the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal asked for it, and every phase was gone through.
    Stopped,
    /// This task failed first; every phase was gone through.
    Failed(Failure),
    /// A second signal came before every phase was gone through.
    Aborted(Signal),
}

/// One step of a stop. Phases are stopped in the order in which they were made.
#[derive(Clone, Copy, Debug)]
pub struct Phase(usize);

#[derive(Debug)]
struct Step {
    name: &'static str,
    limit: Duration,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Task {
    name: &'static str,
    phase: usize,
    handle: AbortHandle,
}

/// Runs named tasks until a signal comes or one of them ends, then stops them
/// phase by phase. Dropping it aborts them all.
#[derive(Debug, Default)]
pub struct Supervisor {
    stopping: CancellationToken,
    steps: Vec<Step>,
    tasks: HashMap<Id, Task>,
    set: JoinSet<Result<(), String>>,
}

impl Supervisor {
    /// A supervisor without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a phase. When its turn has come its tasks are asked to stop; those
    /// that still run after `limit` are aborted.
    pub fn phase(&mut self, name: &'static str, limit: Duration) -> Phase {
        self.steps.push(Step {
            name,
            limit,
            stop: CancellationToken::new(),
        });
        Phase(self.steps.len() - 1)
    }

    /// Cancelled when the stop begins, before any phase.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Begins a task. It is given the token that asks it to stop, and must not
    /// end before that.
    pub fn spawn<F, E>(
        &mut self,
        phase: Phase,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let Phase(phase) = phase;
        let task = task(self.steps[phase].stop.clone());
        let handle = self
            .set
            .spawn(async move { task.await.map_err(|error| error.to_string()) });
        let task = Task {
            name,
            phase,
            handle: handle.clone(),
        };
        self.tasks.insert(handle.id(), task);
    }

    /// Runs until everything has ended. The first signal begins the stop, and
    /// so does a task that ends; a signal after the first one aborts.
    pub async fn run(mut self, mut signals: impl Stream<Item = Signal> + Unpin) -> Ended {
        let mut failure = None;
        let mut signalled = false;
        tokio::select! {
            Some(signal) = signals.next() => {
                info!(%signal, "stopping");
                signalled = true;
            }
            Some(end) = self.set.join_next_with_id() => failure = self.ended(end),
            else => {}
        }
        self.stopping.cancel();
        for phase in 0..self.steps.len() {
            self.steps[phase].stop.cancel();
            let deadline = Instant::now() + self.steps[phase].limit;
            while self.tasks.values().any(|task| task.phase == phase) {
                tokio::select! {
                    biased;
                    Some(signal) = signals.next() => {
                        if signalled {
                            warn!(%signal, "aborted while stopping");
                            return Ended::Aborted(signal);
                        }
                        signalled = true;
                    }
                    Some(end) = self.set.join_next_with_id() => {
                        let ended = self.ended(end);
                        failure = failure.or(ended);
                    }
                    () = sleep_until(deadline) => self.abort(phase),
                }
            }
        }
        failure.map_or(Ended::Stopped, Ended::Failed)
    }

    /// Forgets a task that has ended, and says what was wrong with that.
    fn ended(&mut self, end: Result<(Id, Result<(), String>), JoinError>) -> Option<Failure> {
        let id = end.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = self.tasks.remove(&id)?;
        let reason = match end {
            Ok((_, Err(error))) => format!("failed: {error}"),
            Ok((_, Ok(()))) if self.steps[task.phase].stop.is_cancelled() => return None,
            Ok((_, Ok(()))) => "ended by itself".to_owned(),
            Err(error) if error.is_cancelled() => return None,
            Err(error) => format!("panicked: {}", message(error)),
        };
        let failure = Failure {
            task: task.name,
            reason,
        };
        warn!("{failure}");
        Some(failure)
    }

    /// Aborts what is left of a phase. Nobody waits for it: a task that never
    /// yields would never end.
    fn abort(&mut self, phase: usize) {
        let Step { name, limit, .. } = self.steps[phase];
        for (_, task) in self.tasks.extract_if(|_, task| task.phase == phase) {
            let task_name = task.name;
            warn!("the {task_name} did not end within {limit:?} of {name}; aborted");
            task.handle.abort();
        }
    }
}

/// What a task said when it panicked.
fn message(error: JoinError) -> String {
    let payload = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(error) => return error.to_string(),
    };
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests;
