//! How large a world is and how rough, drawn from the seed.

use std::time::Duration;

use fastrand::Rng;

/// How much a schedule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few processes, a few minutes: thousands of them in a test.
    Small,
    /// More processes, up to an hour, and all times as they are by default.
    Large,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Replicas that hear one gost only.
    pub sidecars: usize,
    /// Replicas behind a Service.
    pub shared: usize,
    /// Gosts that call those.
    pub strangers: usize,
    /// Controllers.
    pub controllers: usize,
    /// Connectors that a gost may have at once.
    pub connectors: usize,
    /// How long there are disturbances.
    pub rough_for: Duration,
    /// The mean time between two disturbances.
    pub pause: Duration,
    /// The longest time that a disturbance lasts.
    pub longest: Duration,
    /// How long an orphan waits.
    pub orphan_for: Duration,
    /// How long the brake holds back.
    pub brake_for: Duration,
    /// Whether pods may be watched.
    pub pods: bool,
    /// Whether wall clocks are right.
    pub clocks_agree: bool,
}

impl Settings {
    /// Draws a world of a size.
    pub fn draw(random: &mut Rng, size: Size) -> Self {
        let seconds = Duration::from_secs;
        let small = size == Size::Small;
        let most = if small { 2 } else { 3 };
        let sidecars = random.usize(0..=most);
        let shared = random.usize(usize::from(sidecars == 0)..=most.max(1));
        let strangers = match shared {
            0 => 0,
            _ => random.usize(1..=most),
        };
        let (rough, longest) = match small {
            // Some outages outlast a lease and the wait of an orphan together.
            true if random.u8(0..8) == 0 => (random.u64(200..=400), 400),
            true => (random.u64(60..=300), random.u64(5..=120)),
            false => (random.u64(600..=2_400), random.u64(10..=900)),
        };
        let waits = match small {
            true => seconds(120),
            false => seconds(600),
        };
        Self {
            sidecars,
            shared,
            strangers,
            controllers: random.usize(1..=2),
            connectors: random.usize(1..=most),
            rough_for: seconds(rough),
            pause: seconds(random.u64(3..=60)),
            longest: seconds(longest),
            orphan_for: waits,
            brake_for: waits,
            pods: random.bool(),
            clocks_agree: random.u8(0..4) == 0,
        }
    }
}
