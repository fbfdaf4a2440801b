//! Thousands of schedules, and bugs that must be found.

use super::*;

/// Schedules that are run.
const SCHEDULES: u64 = 2_000;
/// Schedules in which a bug must be found.
const ENOUGH: u64 = 1_500;

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

/// The first seed by which a bug is found.
fn found(bug: Mutation) {
    let found = (0..ENOUGH).find(|seed| run(*seed, Size::Small, Some(bug)).is_err());
    let seed = found.unwrap_or_else(|| panic!("{bug:?} is not found in {ENOUGH} schedules"));
    println!("{bug:?} is found by seed {seed}");
}

#[test]
fn writing_without_a_condition_is_found() {
    found(Mutation::BlindWrites);
}

#[test]
fn taking_over_early_is_found() {
    found(Mutation::TakesOverEarly);
}

#[test]
fn forgetting_what_has_gone_is_found() {
    found(Mutation::ForgetsGhosts);
}

#[test]
fn comparing_wall_clocks_is_found() {
    found(Mutation::ComparesWallClocks);
}

#[test]
fn counting_outages_is_found() {
    found(Mutation::CountsOutages);
}

#[test]
fn a_schedule_is_a_function_of_its_seed() {
    let trace = |seed| {
        let mut world = World::new(seed, Size::Small, None, true);
        world.run();
        world.history.unwrap().hash()
    };
    let traces: std::collections::BTreeSet<u64> = (0..20)
        .map(|seed| {
            let first = trace(seed);
            assert_eq!(trace(seed), first, "seed {seed}");
            first
        })
        .collect();
    assert_eq!(traces.len(), 20, "each seed has its own");
}
