//! What is in a store and not served, and why. Pure.
//!
//! In a store that others can write to there may be what no record can be read
//! from. It is told to people, and nothing else is disturbed by it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::record::Kind;

/// The most that are named. Whoever looks at so many mends what they have in
/// common.
pub const MAX_PROBLEMS: usize = 256;

/// An object of Kubernetes, or a key of etcd, that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of which kind it should have been; none where not even that can be told.
    pub kind: Option<Kind>,
    /// The object's name, or the key.
    pub name: String,
    /// The object's uid, to refer to it in an event.
    pub uid: Option<Uuid>,
    /// Why it is not served, and what to do.
    pub text: String,
}

/// All that are known, by name.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    all: BTreeMap<String, Problem>,
    news: Vec<Problem>,
    /// How many more there were than are kept.
    more: usize,
}

impl Problems {
    /// Something is not served. Says so once, and again when the text changes.
    pub fn note(&mut self, problem: Problem) {
        let known = self.all.get(&problem.name);
        if known.is_some_and(|known| known.text == problem.text) {
            return;
        }
        if known.is_none() && self.all.len() >= MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        self.news.push(problem.clone());
        self.all.insert(problem.name.clone(), problem);
    }

    /// It is served, or gone.
    pub fn solved(&mut self, name: &str) {
        if !self.all.is_empty() {
            self.all.remove(name);
        }
        self.news.retain(|problem| problem.name != name);
    }

    /// What was known before is no news.
    pub fn known_from(&mut self, before: &Self) {
        self.news.retain(|news| {
            before
                .all
                .get(&news.name)
                .is_none_or(|old| old.text != news.text)
        });
    }

    /// What nobody was told yet.
    pub fn take_news(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.news)
    }

    /// How many there were beyond [`MAX_PROBLEMS`] since this was last asked.
    pub fn take_more(&mut self) -> usize {
        std::mem::take(&mut self.more)
    }

    /// Whether everything is served.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All that are kept.
    pub fn all(&self) -> impl Iterator<Item = &Problem> {
        self.all.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str, text: &str) -> Problem {
        Problem {
            kind: Some(Kind::Endpoint),
            name: name.into(),
            uid: None,
            text: text.into(),
        }
    }

    #[test]
    fn each_is_told_once_and_when_it_changes() {
        let mut problems = Problems::default();
        problems.note(problem("a", "1"));
        problems.note(problem("a", "1"));
        assert_eq!(problems.take_news(), [problem("a", "1")]);
        problems.note(problem("a", "1"));
        assert_eq!(problems.take_news(), []);
        problems.note(problem("a", "2"));
        assert_eq!(problems.take_news(), [problem("a", "2")]);
        assert_eq!(problems.all().count(), 1);
        problems.note(problem("b", "1"));
        problems.solved("b");
        assert_eq!(problems.take_news(), []);
        problems.solved("a");
        assert_eq!(problems.all().count(), 0);
    }

    #[test]
    fn what_a_list_finds_again_is_no_news() {
        let mut before = Problems::default();
        before.note(problem("a", "1"));
        before.note(problem("b", "1"));
        let mut after = Problems::default();
        after.note(problem("a", "1"));
        after.note(problem("b", "2"));
        after.note(problem("c", "1"));
        after.known_from(&before);
        assert_eq!(after.take_news(), [problem("b", "2"), problem("c", "1")]);
    }

    #[test]
    fn at_most_so_many_are_kept() {
        let mut problems = Problems::default();
        for number in 0..MAX_PROBLEMS + 5 {
            problems.note(problem(&number.to_string(), "1"));
        }
        assert_eq!(problems.all().count(), MAX_PROBLEMS);
        assert_eq!(problems.take_news().len(), MAX_PROBLEMS);
        assert_eq!(problems.take_more(), 5);
        assert_eq!(problems.take_more(), 0);
    }
}
