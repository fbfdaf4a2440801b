//! What the Kubernetes store costs and what it bears, on a real API server: how
//! soon replicas see each other's registrations, Register, Renew, very many
//! endpoints, and outages. `docs/benchmarks.md` explains how to run it and how
//! to read it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is the purpose"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measuring needs the clock as it is"
)]

#[path = "kubernetes/api_server.rs"]
mod api_server;
#[expect(dead_code, reason = "each program uses a part")]
mod common;
/// How the tests start an API server.
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests use all of it, and fail by panicking"
)]
#[path = "../tests/it"]
mod it {
    pub mod kube {
        pub mod cluster;
        mod ports;
        mod program;
        mod site;
        mod supervisor;
        mod tools;
    }
    pub mod process;
    pub mod tunnels {
        pub mod web;
    }
}
#[path = "kubernetes/objects.rs"]
mod objects;
#[path = "kubernetes/outage.rs"]
mod outage;
#[path = "kubernetes/register.rs"]
mod register;
#[path = "kubernetes/renew.rs"]
mod renew;
#[path = "kubernetes/scale.rs"]
mod scale;
#[path = "kubernetes/spread.rs"]
mod spread;
#[path = "kubernetes/watch.rs"]
mod watch;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use common::client::Client;
use common::options::Options;
use common::report::{Verdict, judge};
use common::wire::{CONNECTORS, Call, Endpoint, Protocol, Request};
use common::{Result, load, machine};
use it::process;

/// Measures the Kubernetes store on a real API server.
#[derive(Debug, Parser)]
#[command(name = "kubernetes")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// The parts to run [default: all]
    parts: Vec<Part>,
    /// Outages that last longer than an orphan waits: 11 minutes each
    #[arg(long)]
    long: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How soon one replica serves what another has registered
    Watch,
    /// Register against a bare loop of creates
    Register,
    /// What renewing costs
    Renew,
    /// Very many endpoints
    Scale,
    /// One gost's calls at two replicas by chance
    Spread,
    /// The API server or etcd is away
    Outage,
}

/// Nothing goes during a measurement that is about what stays.
const NOTHING_GOES: [&str; 2] = ["--start-grace", "1h"];

/// Short leases, for a quick run.
const IMPATIENT: [&str; 6] = [
    "--start-grace",
    "0s",
    "--base-time",
    "4s",
    "--replica-lease",
    "4s",
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::main(arguments.options.check, measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<Verdict> {
    let options = &arguments.options;
    println!("# Kubernetes\n\n{}.", machine::line(&options.server_bin));
    println!(
        "etcd without fsync and kube-apiserver on the same cores; median of {} rounds of {:?}.",
        options.rounds(),
        options.round()?,
    );
    if options.quick {
        println!("A quick run: these figures are not for comparing.");
    }
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut promises = Vec::new();
    if wanted(Part::Watch) {
        promises.extend(watch::measure(options).await?);
    }
    if wanted(Part::Register) {
        promises.extend(register::measure(options).await?);
    }
    if wanted(Part::Renew) {
        promises.extend(renew::measure(options).await?);
    }
    if wanted(Part::Scale) {
        promises.extend(scale::measure(options).await?);
    }
    if wanted(Part::Spread) {
        promises.extend(spread::measure(options).await?);
    }
    if wanted(Part::Outage) {
        promises.extend(outage::measure(options, arguments.long).await?);
    }
    Ok(judge(&promises))
}

/// Makes a call about each endpoint, as many at a time as there are callers.
async fn call_each(client: &mut Client, call: Call, endpoints: &[Endpoint]) -> Result<()> {
    load::each(
        &mut client.callers,
        requests(call, endpoints)?.into_iter().map(Ok),
    )
    .await
}

/// A request about each endpoint.
fn requests(call: Call, endpoints: &[Endpoint]) -> Result<Vec<Request>> {
    let each = endpoints.iter();
    each.map(|endpoint| Request::new(Protocol::Grpc, call, endpoint))
        .collect()
}

/// A Get for each tunnel.
fn gets(endpoints: &[Endpoint]) -> Result<Vec<Request>> {
    let tunnels = endpoints.iter().step_by(CONNECTORS);
    tunnels
        .map(|endpoint| Request::new(Protocol::Grpc, Call::Get, endpoint))
        .collect()
}

/// One of the requests, by chance.
fn any(requests: &[Request]) -> Request {
    requests[fastrand::usize(..requests.len())].clone()
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
