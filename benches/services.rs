//! What following services costs: many subscribers of a service with many
//! instances that changes all the time. `docs/benchmarks.md` explains how to run it
//! and how to read it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is the purpose"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measuring needs the clock as it is"
)]

#[expect(dead_code, reason = "each program uses a part")]
mod common;
#[path = "services/fan_out.rs"]
mod fan_out;
#[path = "services/instances.rs"]
mod instances;
#[path = "services/nothing.rs"]
mod nothing;
#[path = "services/subscriber.rs"]
mod subscriber;

use std::process::ExitCode;

use clap::Parser;

use common::options::Options;
use common::report::{Verdict, judge};
use common::{Result, machine};

/// Measures what following services costs.
#[derive(Debug, Parser)]
#[command(name = "services")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::main(arguments.options.check, measure(&arguments.options))
}

async fn measure(options: &Options) -> Result<Verdict> {
    println!("# Services\n\n{}.", machine::line(&options.server_bin));
    if options.quick {
        println!("A quick run: these figures are not for comparing.");
    }
    Ok(judge(&fan_out::measure(options).await?))
}
