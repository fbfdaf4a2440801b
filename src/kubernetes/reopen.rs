//! How lists and watches are asked for, and when one that broke is opened again.
//! Pure, but for chance.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::follow::{LONGEST_WAIT, Pauses};
use crate::kubernetes::Failure;

/// How many objects a page of a list has: some 1 MiB.
pub const PAGE: u32 = 500;
/// How long a page may take. The API server lets lists wait for each other up to
/// 15 s (`--request-timeout` / 4) before it turns them away.
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The API server is asked to end a watch after so many seconds, at random so
/// that those of many processes do not end together.
const SECONDS: std::ops::RangeInclusive<u32> = 60..=120;
/// A watch that has not ended so much later hangs.
const MARGIN: Duration = Duration::from_secs(15);
/// How often a watch may be refused in a row before everything is listed again:
/// the version to go on from may be what is wrong.
pub const REFUSALS: u32 = 3;

/// How long a watch lasts: the seconds to ask the API server for, and when one
/// that has not ended hangs.
#[must_use]
pub fn lasting() -> (u32, Duration) {
    let seconds = fastrand::u32(SECONDS);
    (seconds, Duration::from_secs(seconds.into()) + MARGIN)
}

/// What is known of the attempts to watch one kind.
#[derive(Debug)]
pub struct Reopen {
    pauses: Pauses,
    refusals: u32,
    /// When the last watch began.
    opened: Option<Instant>,
}

/// What follows when a watch broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Whether it goes on where it was; else everything is listed again.
    pub goes_on: bool,
    /// How long to wait before.
    pub pause: Duration,
}

impl Reopen {
    /// Nothing was tried yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pauses: Pauses::new(),
            refusals: 0,
            opened: None,
        }
    }

    /// A watch was opened.
    pub fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// It told something.
    pub fn told(&mut self) {
        self.refusals = 0;
    }

    /// The API server ended it, in order. How long to wait before the next: one
    /// that lived for a while is not to blame for its end.
    pub fn ended(&mut self, now: Instant) -> Duration {
        match self.has_lived(now) {
            true => Duration::ZERO,
            false => self.pauses.next(),
        }
    }

    /// A list or a watch broke, or could not be opened.
    pub fn broke(&mut self, failure: &Failure, now: Instant) -> Next {
        self.has_lived(now);
        self.refusals = match failure {
            // The server was not there to refuse anything.
            Failure::Unreachable(_) | Failure::Unavailable(_) => self.refusals,
            Failure::Absent | Failure::Conflict | Failure::Refused(_) => self.refusals + 1,
            Failure::Expired => REFUSALS,
        };
        let goes_on = self.refusals < REFUSALS;
        if !goes_on {
            self.refusals = 0;
        }
        let pause = match failure {
            Failure::Unreachable(_) => self.pauses.next_unreached(),
            _ => self.pauses.next(),
        };
        Next { goes_on, pause }
    }

    fn has_lived(&mut self, now: Instant) -> bool {
        let lived = self.opened.take();
        let has_lived = lived.is_some_and(|opened| now - opened >= LONGEST_WAIT);
        if has_lived {
            self.pauses.reset();
        }
        has_lived
    }
}

impl Default for Reopen {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::follow::LONGEST_UNREACHED;

    const SECOND: Duration = Duration::from_secs(1);

    fn reopen() -> (Reopen, Instant) {
        (Reopen::new(), Instant::now())
    }

    #[test]
    fn a_server_that_nobody_reaches_is_tried_every_few_seconds() {
        let (mut reopen, now) = reopen();
        let away = Failure::Unreachable("refused".into());
        let pauses: Vec<_> = (0..100).map(|_| reopen.broke(&away, now).pause).collect();
        let most = LONGEST_UNREACHED.mul_f64(1.25);
        assert!(pauses.iter().all(|pause| *pause <= most), "{pauses:?}");
        assert!(most <= 4 * SECOND);
        let total: Duration = pauses.iter().sum();
        assert!(total > 250 * SECOND, "100 attempts in {total:?}");
        // One that starts refuses a few times; altogether that takes 5 s.
        let starting = Failure::Unavailable("not yet".into());
        let first: Duration = (0..2).map(|_| reopen.broke(&starting, now).pause).sum();
        assert!(first < 4 * SECOND, "{first:?}");
    }

    #[test]
    fn a_server_that_cannot_answer_is_left_alone_for_longer() {
        let (mut reopen, now) = reopen();
        let busy = Failure::Unavailable("429".into());
        let last = (0..20).map(|_| reopen.broke(&busy, now).pause).last();
        assert!(last.unwrap() >= LONGEST_WAIT.mul_f64(0.75));
    }

    #[test]
    fn one_that_changes_between_both_is_not_hammered() {
        let (mut reopen, now) = reopen();
        let away = Failure::Unreachable("refused".into());
        let busy = Failure::Unavailable("503".into());
        let total: Duration = (0..100)
            .map(|at| reopen.broke([&away, &busy][at % 2], now).pause)
            .sum();
        assert!(total > 100 * SECOND, "100 attempts in {total:?}");
    }

    #[test]
    fn a_watch_that_lived_is_not_to_blame() {
        let (mut reopen, now) = reopen();
        reopen.opened(now);
        assert_eq!(reopen.ended(now + LONGEST_WAIT), Duration::ZERO);
        reopen.opened(now);
        assert!(reopen.ended(now + SECOND) > Duration::ZERO);
    }

    #[test]
    fn refusals_in_a_row_make_it_list_again() {
        let (mut reopen, now) = reopen();
        let refused = Failure::Refused("400".into());
        let away = Failure::Unreachable("refused".into());
        for _ in 1..REFUSALS {
            assert!(reopen.broke(&refused, now).goes_on);
            assert!(reopen.broke(&away, now).goes_on);
        }
        assert!(!reopen.broke(&refused, now).goes_on);
        assert!(reopen.broke(&refused, now).goes_on);
        assert!(!reopen.broke(&Failure::Expired, now).goes_on);
    }
}
