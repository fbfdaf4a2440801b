//! Resident memory with many endpoints, and what Get costs among them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::load::{self, Window};
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, mebibytes, median, micros, percentile};
use crate::common::servers::{Registry, Store};
use crate::common::wire::{CONNECTORS, Protocol, Request};
use crate::common::{Error, Result};
use crate::{NOTHING_GOES, any, gets, register};

/// Endpoints of the large registry, on this many gost servers.
const MANY: (usize, usize) = (150_000, 100);
/// Endpoints of the small one.
const FEW: (usize, usize) = (1_000, 10);
/// Registrations at a time.
const PIPELINE: usize = 64;
/// How long the metrics may lag behind the last registration.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// A registry with its endpoints.
struct Filled {
    registry: Registry,
    /// Open throughout, as a gost's is.
    _keeper: Client,
    gets: Vec<Request>,
    empty: u64,
    full: u64,
}

impl Filled {
    async fn start(options: &Options, (count, nodes): (usize, usize)) -> Result<Self> {
        let mut registry =
            Registry::start(&options.server_bin, &Store::Memory, &NOTHING_GOES).await?;
        let empty = registry.process().resident()?;
        let endpoints = Endpoints::new(1, nodes).tunnels(count / CONNECTORS);
        let mut keeper = Client::connect(Protocol::Grpc, registry.at, PIPELINE, 1).await?;
        let registered = register(&mut keeper, &endpoints).await;
        registered.map_err(|error| registry.process().blamed(error))?;
        registry.holds(count, SETTLE_WITHIN).await?;
        Ok(Self {
            full: registry.process().resident()?,
            _keeper: keeper,
            gets: gets(&endpoints)?,
            empty,
            registry,
        })
    }

    /// The p50 of Get at concurrency 1, in µs.
    async fn round(&self, time: Duration) -> Result<f64> {
        let measured = p50(self.registry.at, &self.gets, time).await;
        measured.map_err(|error| self.registry.process().blamed(error))
    }
}

async fn p50(at: SocketAddr, gets: &[Request], time: Duration) -> Result<f64> {
    let mut client = Client::connect(Protocol::Grpc, at, 1, 1).await?;
    let script = async {
        sleep(time.mul_f64(0.15)).await;
        let from = Instant::now();
        sleep(time).await;
        let to = Instant::now();
        Ok(Window { from, to })
    };
    let next = || Ok(any(gets));
    let (window, samples) = load::during(&mut client.callers, next, script).await?;
    let latencies = window.latencies(&samples);
    if latencies.is_empty() {
        return Err(Error::from("not one Get was answered"));
    }
    Ok(micros(percentile(&latencies, 0.50)))
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("size");
    let many = Filled::start(options, MANY).await?;
    let few = Filled::start(options, FEW).await?;
    let (mut among_many, mut among_few) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        among_many.push(many.round(options.round()?).await?);
        among_few.push(few.round(options.round()?).await?);
    }
    let (among_many, among_few) = (median(among_many), median(among_few));

    let mut table = Table::new(["endpoints", "resident, MiB", "p50 of Get at 1, µs"]);
    let resident = |bytes| format!("{:.1}", mebibytes(bytes));
    table.row(["0".into(), resident(many.empty), "–".into()]);
    for ((count, _), filled, p50) in [(FEW, &few, among_few), (MANY, &many, among_many)] {
        table.row([
            count.to_string(),
            resident(filled.full),
            format!("{p50:.0}"),
        ]);
    }
    println!("\n## Memory store, gRPC\n\n{table}");
    Ok(vec![
        Promise {
            what: format!("resident memory with {} endpoints", MANY.0),
            figure: mebibytes(many.full),
            unit: "MiB",
            bound: Bound::AtMost(150.0),
        },
        Promise {
            what: format!("p50 of Get, {} endpoints/{}", MANY.0, FEW.0),
            figure: among_many / among_few,
            unit: "",
            bound: Bound::AtMost(1.3),
        },
    ])
}
