//! What stands in the way, told once and not with every attempt.

use std::time::{Duration, Instant};

use crate::remembered::Remembered;

/// A cause that lasts is told again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// So many causes are told apart; of more the oldest is forgotten, and told again.
const MAX: usize = 256;

/// The causes that were told lately.
#[derive(Debug)]
pub struct Causes(Remembered<String, ()>);

impl Causes {
    /// Nothing was told.
    #[must_use]
    pub fn new() -> Self {
        Self(Remembered::new(AGAIN_AFTER, MAX))
    }

    /// Whether `cause` is to be told: it was not within the last minute.
    pub fn is_news(&mut self, cause: &str, now: Instant) -> bool {
        let cause = cause.to_owned();
        let is_news = self.0.get(&cause, now).is_none();
        if is_news {
            self.0.insert(cause, (), now);
        }
        is_news
    }

    /// Nothing stands in the way any more: whatever does next is news.
    pub fn mended(&mut self) {
        if !self.0.is_empty() {
            *self = Self::new();
        }
    }
}

impl Default for Causes {
    fn default() -> Self {
        Self::new()
    }
}

/// An error with all that caused it: the outermost seldom says what is wrong.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    /// A cause that causes itself ends somewhere.
    const DEEPEST: usize = 8;
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..DEEPEST {
        let Some(error) = cause else { break };
        let more = error.to_string();
        // Some repeat what caused them.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_cause_is_told_once_a_minute_and_when_it_comes_back() {
        let now = Now::read().mono;
        let mut causes = Causes::new();
        assert!(causes.is_news("refused", now));
        assert!(!causes.is_news("refused", now + SECOND));
        assert!(causes.is_news("forbidden", now + SECOND));
        assert!(!causes.is_news("refused", now + 59 * SECOND));
        assert!(causes.is_news("refused", now + 60 * SECOND));
        causes.mended();
        assert!(causes.is_news("refused", now + 61 * SECOND));
    }

    #[test]
    fn not_every_cause_is_remembered() {
        let now = Now::read().mono;
        let mut causes = Causes::new();
        for n in 0..=MAX {
            assert!(causes.is_news(&n.to_string(), now));
        }
        assert!(causes.is_news("0", now));
        assert!(!causes.is_news(&MAX.to_string(), now));
    }
}
