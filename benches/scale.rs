//! What size costs: memory, Get among many, many expiring at once, starting
//! with much to read. `docs/benchmarks.md` explains how to run it and how to
//! read it.

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
#[path = "scale/expiry.rs"]
mod expiry;
#[path = "scale/size.rs"]
mod size;
#[path = "scale/start.rs"]
mod start;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use common::client::Client;
use common::options::Options;
use common::report::{Verdict, judge};
use common::wire::{Call, Endpoint, Protocol, Request};
use common::{Result, load, machine};

/// Measures what size costs.
#[derive(Debug, Parser)]
#[command(name = "scale")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory, and Get among many.
    Size,
    /// Get while many expire.
    Expiry,
    /// Starting with much to read.
    Start,
}

/// Nothing that is registered goes during a measurement that is about what stays.
const NOTHING_GOES: [&str; 2] = ["--start-grace", "1h"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::main(arguments.options.check, measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<Verdict> {
    let options = &arguments.options;
    println!("# Scale\n\n{}.", machine::line(&options.server_bin));
    println!("Median of {} rounds.", options.rounds());
    if options.quick {
        println!("A quick run: these figures are not for comparing.");
    }
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut promises = Vec::new();
    if wanted(Part::Size) {
        promises.extend(size::measure(options).await?);
    }
    if wanted(Part::Expiry) {
        promises.extend(expiry::measure(options).await?);
    }
    if wanted(Part::Start) {
        promises.extend(start::measure(options).await?);
    }
    Ok(judge(&promises))
}

/// Registers each endpoint, as many at a time as there are callers.
async fn register(client: &mut Client, endpoints: &[Endpoint]) -> Result<()> {
    call_each(client, Call::Register, endpoints).await
}

async fn call_each(client: &mut Client, call: Call, endpoints: &[Endpoint]) -> Result<()> {
    let requests = endpoints
        .iter()
        .map(|endpoint| Request::new(Protocol::Grpc, call, endpoint));
    load::each(&mut client.callers, requests).await
}

/// A Get for each tunnel.
fn gets(endpoints: &[Endpoint]) -> Result<Vec<Request>> {
    endpoints
        .iter()
        .step_by(common::wire::CONNECTORS)
        .map(|endpoint| Request::new(Protocol::Grpc, Call::Get, endpoint))
        .collect()
}

/// One of the requests, by chance.
fn any(requests: &[Request]) -> Request {
    requests[fastrand::usize(..requests.len())].clone()
}
