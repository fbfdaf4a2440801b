//! What a write costs in each store: one after the other, and many at once.
//! `docs/benchmarks.md` explains how to run it and how to read it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the report is the purpose, and its records are the tests'"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measuring needs the clock as it is"
)]

#[expect(dead_code, reason = "each program uses a part")]
mod common;
#[path = "stores/etcd.rs"]
mod etcd;
#[expect(dead_code, reason = "of the records of tests one is enough")]
#[path = "../src/backend/contract/records.rs"]
mod records;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::{StreamExt as _, stream};
use tunnel_registry::backend::etcd::{Etcd, Settings, TlsFiles};
use tunnel_registry::backend::file::File;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::backend::{Backend, Write};

use common::options::Options;
use common::report::{Table, Verdict, judge, percentile};
use common::{Result, machine};
use etcd::Cluster;

/// Writes that are under way at once, at most.
const AT_ONCE: usize = 256;

/// Measures what a write costs in each store.
#[derive(Debug, Parser)]
#[command(name = "stores")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::main(arguments.options.check, measure(&arguments.options))
}

async fn measure(options: &Options) -> Result<Verdict> {
    println!("# Stores\n\n{}.\n", machine::line(&options.server_bin));
    if options.quick {
        println!("A quick run: these figures are not for comparing.\n");
    }
    let mut table = Table::new([
        "store",
        "one after the other: p50, ms",
        "p99, ms",
        "at once",
        "a second",
    ]);
    let (single, many) = match options.quick {
        true => (100, 500),
        false => (1_000, 5_000),
    };
    let mut measure = async |name: &str, store: Arc<dyn Backend>| -> Result<()> {
        let took = one_by_one(&*store, single).await?;
        let at_once = store.writes_at_once().min(AT_ONCE);
        let rate = together(&*store, many, at_once).await?;
        let ms = |share| format!("{:.3}", percentile(&took, share).as_secs_f64() * 1e3);
        table.row([
            name.into(),
            ms(0.5),
            ms(0.99),
            at_once.to_string(),
            format!("{rate:.0}"),
        ]);
        Ok(())
    };
    measure("memory", Arc::new(Memory::new())).await?;
    let folder = tempfile::tempdir()?;
    let file = File::open(folder.path().join("registry.redb"))?;
    measure("file", Arc::new(file)).await?;
    for members in [1, 3] {
        let Some(cluster) = Cluster::start(members).await? else {
            println!(
                "SKIPPED: etcd: run the tests once, which build it, or name its folder with KUBEBUILDER_ASSETS.\n"
            );
            break;
        };
        let settings = Settings {
            urls: cluster.urls()?,
            prefix: "/bench/".into(),
            tls: TlsFiles::default(),
            user: None,
        };
        let store = Etcd::open(settings).await?;
        measure(&format!("etcd, {members} here"), Arc::new(store)).await?;
    }
    println!("{table}");
    Ok(judge(&[]))
}

fn create(way: &str, number: usize) -> Write {
    // As long as the names that gost gives.
    let name = format!("{way}-{number:08}-42b3-8b74-88ab6455d33a");
    Write::Create(records::record(
        "c23d4f42-c892-42b3-8b74-88ab6455d33a",
        &name,
        80,
    ))
}

/// How long each write takes, shortest first.
async fn one_by_one(store: &dyn Backend, count: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let began = Instant::now();
        store.write(create("one", number)).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

/// How many writes are made a second.
async fn together(store: &dyn Backend, count: usize, at_once: usize) -> Result<f64> {
    let began = Instant::now();
    let mut writes = stream::iter(0..count)
        .map(|number| store.write(create("many", number)))
        .buffer_unordered(at_once);
    while let Some(written) = writes.next().await {
        written?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
