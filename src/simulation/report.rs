//! What became of a schedule.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _};

use crate::simulation::agenda::Time;

/// So many events are told of a schedule that broke a promise.
const TOLD: usize = 400;

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Something happened so often.
    pub fn add(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// How often something happened.
    #[must_use]
    pub fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// What happened elsewhere, too.
    pub fn merge(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.0 {
            writeln!(f, "{times:>12}  {what}")?;
        }
        Ok(())
    }
}

/// A schedule in which every promise was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How long it was.
    pub lasted: Time,
    /// How often what happened in it.
    pub counts: Counts,
}

/// The last events of a schedule, and a hash of all.
#[derive(Debug, Default)]
pub struct History(VecDeque<(Time, String)>, DefaultHasher);

impl History {
    /// Something happened.
    pub fn push(&mut self, at: Time, text: String) {
        (at, &text).hash(&mut self.1);
        self.0.push_back((at, text));
        if self.0.len() > TOLD {
            self.0.pop_front();
        }
    }

    /// The same for the same events, and hardly for others.
    #[cfg(test)]
    pub fn hash(&self) -> u64 {
        std::hash::Hasher::finish(&self.1)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, text) in &self.0 {
            writeln!(f, "{:>10.3}  {text}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which: the name of the function that checks it.
    pub promise: &'static str,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// A promise was broken.
    pub fn new(at: Time, promise: &'static str, text: String) -> Self {
        Self { at, promise, text }
    }
}

/// A schedule in which a promise was broken, and all that is needed to see why.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{history}\nSEED {seed}: after {:.3} s {} was broken: {}\nreplay it: {replay}",
    .violation.at.as_secs_f64(), .violation.promise, .violation.text
)]
pub struct Failure {
    /// The seed of the schedule.
    pub seed: u64,
    /// The promise that was broken.
    pub violation: Violation,
    /// The last events before.
    pub history: String,
    /// How to see it again.
    pub replay: String,
}
