//! What proxy sessions cost: memory of many that are silent, commands among them,
//! and all coming back after a restart. `docs/benchmarks.md` explains how to run
//! it and how to read it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is the purpose"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measuring needs the clock as it is"
)]

#[path = "sessions/backend.rs"]
mod backend;
#[expect(dead_code, reason = "each program uses a part")]
mod common;
#[path = "sessions/idle.rs"]
mod idle;
#[path = "sessions/storm.rs"]
mod storm;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use common::options::Options;
use common::report::{Verdict, judge};
use common::{Result, machine};

/// Measures what proxy sessions cost.
#[derive(Debug, Parser)]
#[command(name = "sessions")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Many silent sessions, and commands among them.
    Idle,
    /// All come back after a restart.
    Storm,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::main(arguments.options.check, measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<Verdict> {
    let options = &arguments.options;
    println!(
        "# Proxy sessions\n\n{}.",
        machine::line(&options.server_bin)
    );
    if options.quick {
        println!("A quick run: these figures are not for comparing.");
    }
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut promises = Vec::new();
    if wanted(Part::Idle) {
        promises.extend(idle::measure(options).await?);
    }
    if wanted(Part::Storm) {
        promises.extend(storm::measure(options).await?);
    }
    Ok(judge(&promises))
}
