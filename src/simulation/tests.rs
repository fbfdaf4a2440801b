//! Thousands of schedules, and bugs that must be found.

use super::*;

/// Schedules that are run.
const SCHEDULES: u64 = 300;

#[test]
fn every_promise_is_kept_in_every_schedule() {
    let one = std::env::var("SIMULATION_SEED").ok();
    let one = one.map(|seed| seed.parse().expect("SIMULATION_SEED is a number"));
    let seeds = one.map_or(0..SCHEDULES, |seed| seed..seed + 1);
    let mut counts = Counts::default();
    for seed in seeds {
        match run(seed, Size::Small, None) {
            Ok(report) => counts.merge(&report.counts),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{counts}");
}

#[test]
#[ignore]
fn survey() {
    let number = |name: &str, or| std::env::var(name).map_or(or, |v| v.parse().unwrap());
    let (from, count): (u64, u64) = (number("FROM", 0), number("COUNT", 1000));
    let size = if number("LARGE", 0) > 0 {
        Size::Large
    } else {
        Size::Small
    };
    let mut counts = Counts::default();
    let mut failed = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for seed in from..from + count {
        let mutation = Mutation::ALL.get(number("MUTATION", 99) as usize).copied();
        match run(seed, size, mutation) {
            Ok(report) => counts.merge(&report.counts),
            Err(failure) if number("SHOW", 0) > 0 => println!("{failure}"),
            Err(failure) => failed
                .entry(failure.violation.promise)
                .or_default()
                .push(seed),
        }
    }
    println!("{counts}\n{failed:?}");
}
