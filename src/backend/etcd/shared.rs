//! What the last watch knows, for whoever asks.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::problems::{MAX_PROBLEMS, Problem, Problems};

/// Why etcd cannot be watched now, and what is not served.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    trouble: Option<String>,
    problems: Problems,
}

impl Shared {
    /// etcd cannot be read or watched now, or can.
    pub fn trouble(&self, why: Option<String>) {
        self.0.lock().trouble = why;
    }

    /// Why it cannot.
    pub fn any_trouble(&self) -> Option<String> {
        self.0.lock().trouble.clone()
    }

    /// What is not served.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.lock().problems.all().cloned().collect()
    }

    /// Everything was read, and this is not served. What was known before is no
    /// news.
    pub fn listed(&self, mut problems: Problems) {
        let mut state = self.0.lock();
        problems.known_from(&state.problems);
        state.problems = problems;
        drop(state);
        self.tell();
    }

    /// A key is not served.
    pub fn unserved(&self, problem: Problem) {
        self.0.lock().problems.note(problem);
    }

    /// A key is served, or gone.
    pub fn served(&self, path: &[u8]) {
        let mut state = self.0.lock();
        if !state.problems.is_empty() {
            state.problems.solved(&String::from_utf8_lossy(path));
        }
    }

    /// Tells each problem once, until it changes.
    pub fn tell(&self) {
        let mut state = self.0.lock();
        let (news, more) = (state.problems.take_news(), state.problems.take_more());
        drop(state);
        for problem in &news {
            tracing::warn!(key = problem.name, "not served: {}", problem.text);
        }
        if more > 0 {
            tracing::warn!(
                more,
                "further keys are not served; only {MAX_PROBLEMS} are named"
            );
        }
    }
}
