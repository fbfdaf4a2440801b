//! What a call costs: Get, Renew and Register over gRPC and HTTP, against a
//! server that does nothing and against today's peer. `docs/benchmarks.md`
//! explains how to run it and how to read it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is the purpose"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measuring needs the clock as it is"
)]

#[path = "calls/cells.rs"]
mod cells;
#[expect(dead_code, reason = "each program uses a part")]
mod common;
#[path = "calls/nothing.rs"]
mod nothing;
#[path = "calls/rounds.rs"]
mod rounds;
#[path = "calls/verdict.rs"]
mod verdict;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cells::{Cell, Only};
use common::options::Options;
use common::report::Verdict;
use common::servers::Peer;
use common::wire::Protocol;
use common::{Result, machine};
use rounds::{CONNECTORS, Load, Subject, TUNNELS};
use verdict::Results;

/// Measures what a call costs, against a server that does nothing and (where
/// PEER_BIN names it) today's peer.
#[derive(Debug, Parser)]
#[command(name = "calls", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    options: Options,
    /// Only these cells: call/protocol/concurrency, where * and what is left
    /// out mean all
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    only: Only,
    /// Connections that the gRPC callers share; a gost has one
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    connections: usize,
}

#[derive(Debug, clap::Subcommand)]
enum Child {
    /// Be the server that does nothing
    #[command(hide = true)]
    Nothing {
        protocol: Protocol,
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Child::Nothing { protocol, listen }) = arguments.child {
        return match nothing::serve(protocol, listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    common::main(arguments.options.check, measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<Verdict> {
    let options = &arguments.options;
    let cells: Vec<Cell> = Cell::all()
        .filter(|cell| arguments.only.takes(cell))
        .collect();
    if cells.is_empty() {
        return Err("--only leaves nothing to measure".into());
    }
    let load = Load::new(options.round()?, arguments.connections);
    let peer = Peer::named();
    preface(options, &load, peer.as_deref())?;

    let mut subjects = vec![Subject::registry(&options.server_bin).await?];
    for protocol in [Protocol::Grpc, Protocol::Http] {
        subjects.push(Subject::nothing(protocol).await?);
    }
    if let Some(binary) = &peer {
        subjects.push(Subject::peer(binary).await?);
    }
    for subject in &mut subjects {
        load.verify(subject).await?;
    }

    let mut results = Results::new(peer.is_some());
    for cell in cells {
        eprintln!("{cell}");
        for _ in 0..options.rounds() {
            for subject in &mut subjects {
                if subject.speaks(cell.protocol) {
                    let figures = load.round(subject, cell).await?;
                    results.add(cell, subject.column, figures);
                }
            }
        }
    }
    Ok(results.report())
}

fn preface(options: &Options, load: &Load, peer: Option<&Path>) -> Result<()> {
    println!("# Calls\n\n{}.", machine::line(&options.server_bin));
    println!(
        "{TUNNELS} tunnels × {CONNECTORS} connectors, memory store; \
         median of {} interleaved rounds of {:?}; {} gRPC connection(s).",
        options.rounds(),
        options.round()?,
        load.connections,
    );
    match peer {
        Some(_) => {
            let redis = machine::said(Path::new("redis-server"), "--version");
            println!("Peer: gost-plugins with {redis}; their processor time together.");
        }
        None => println!("No peer: set PEER_BIN to a gost-plugins binary to compare with it."),
    }
    if options.quick {
        println!("A quick run: these figures are not for comparing.");
    }
    Ok(())
}
