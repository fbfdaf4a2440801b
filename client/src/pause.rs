//! How long to wait between attempts.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double from one failure to the next, up to [`LONGEST`]; each is
/// shortened by up to a half at random, so that many clients of one server do not
/// come at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    /// The next pause; `random` is 0 up to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.0.min(16)).min(LONGEST);
        self.0 = self.0.saturating_add(1);
        shortened(whole, 0.5, random)
    }
}

/// A time less up to `share` of it; `random` is 0 up to 1.
pub(crate) fn shortened(time: Duration, share: f64, random: f64) -> Duration {
    time.mul_f64(1.0 - share * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut pauses = Pauses::default();
        let longest: Vec<u128> = (0..8).map(|_| pauses.next(0.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(pauses.next(1.0), LONGEST / 2);
        }
        assert_eq!(Pauses(u32::MAX).next(0.0), LONGEST);
    }
}
