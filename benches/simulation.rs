//! Runs many schedules of the simulation. `docs/simulation.md` explains it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is the purpose"
)]

use std::process::ExitCode;

use clap::Parser;
use tunnel_registry::simulation::{Counts, Size, run};

/// How often it is said how far it has come.
const TOLD_EVERY: u64 = 1_000;

/// Runs schedules of the simulation, and ends with 1 at the first that breaks a
/// promise.
#[derive(Debug, Parser)]
#[command(name = "simulation")]
struct Arguments {
    /// How many schedules
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Larger worlds and longer schedules
    #[arg(long)]
    large: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let size = match arguments.large {
        true => Size::Large,
        false => Size::Small,
    };
    let mut counts = Counts::default();
    for done in 0..arguments.seeds {
        match run(arguments.from.saturating_add(done), size, None) {
            Ok(report) => counts.merge(&report.counts),
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
        if (done + 1) % TOLD_EVERY == 0 {
            eprintln!("{} of {} schedules", done + 1, arguments.seeds);
        }
    }
    println!("{counts}");
    ExitCode::SUCCESS
}
