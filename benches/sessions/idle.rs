//! Many sessions that say nothing, and what a command takes among them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::backend::{Backend, announce, announce_all};
use super::common::Result;
use super::common::options::Options;
use super::common::report::{Bound, Promise, Table, mebibytes, percentile};
use super::common::servers::{Registry, SESSION_LISTEN, Store, free_port};

/// Backends that send commands at the same time.
const TALKERS: [usize; 2] = [1, 16];

pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    let count = if options.quick { 500 } else { 10_000 };
    println!("\n## {count} silent sessions\n");
    let folder = tempfile::tempdir()?;
    let listen = free_port()?;
    let at = listen.to_string();
    let flags = [SESSION_LISTEN, &at, "--session-max-connections", "20000"];
    let store = Store::File(folder.path().join("registry.redb"));
    let mut registry = Registry::start(&options.server_bin, &store, &flags).await?;
    let empty = registry.process().resident()?;
    let silent = announce_all(listen, count).await?;
    registry
        .says("tunnel_registry_sessions", count, Duration::from_secs(10))
        .await?;
    let resident = registry.process().resident()?;
    println!(
        "Resident memory: {:.0} MiB, {:.0} MiB before there was one; the most that it was: {:.0} MiB.\n",
        mebibytes(resident),
        mebibytes(empty),
        mebibytes(registry.process().peak()?),
    );
    let disk = flushes(folder.path(), options.round()?)?;
    let disk = [percentile(&disk, 0.5), percentile(&disk, 0.99)];
    println!(
        "A write of 4 KiB and fsync on the same disk: p50 {}, p99 {}.\n",
        ms(disk[0]),
        ms(disk[1])
    );

    let mut table = Table::new([
        "command", "backends", "a second", "p50, ms", "p99, ms", "max, ms",
    ]);
    let mut worst = [Duration::ZERO; 2];
    for talkers in TALKERS {
        for (of, command) in [(0, "VALIDATE"), (1, "OPTIONS")] {
            let mut backends = Vec::new();
            for n in 0..talkers {
                let mut backend = Backend::connect(listen, n).await?;
                let id = announce(&mut backend, count + talkers * 100 + n + of * 50).await?;
                backends.push((backend, id));
            }
            let time = options.round()? * u32::try_from(options.rounds())?;
            let began = Instant::now();
            let talks = backends
                .iter_mut()
                .map(|(backend, id)| talk(backend, id, command, began + time));
            let mut took: Vec<Duration> =
                try_join_all(talks).await?.into_iter().flatten().collect();
            let rate = took.len() as f64 / began.elapsed().as_secs_f64();
            took.sort_unstable();
            let p99 = percentile(&took, 0.99);
            worst[of] = worst[of].max(p99);
            table.row([
                command.into(),
                talkers.to_string(),
                format!("{rate:.0}"),
                ms(percentile(&took, 0.5)),
                ms(p99),
                ms(took.last().copied().unwrap_or_default()),
            ]);
            for (mut backend, id) in backends {
                backend.gets(&format!("SHUTDOWN|{id}"), "GOODBYE").await?;
            }
        }
    }
    println!("{table}");
    // Nobody was forgotten meanwhile.
    for (mut backend, id) in silent {
        backend.gets(&format!("VALIDATE|{id}"), "OK").await?;
    }
    registry.stop().await?;
    Ok(vec![
        Promise {
            what: format!("memory with {count} silent sessions"),
            figure: mebibytes(resident),
            unit: "MiB",
            bound: Bound::AtMost(150.0),
        },
        Promise {
            what: "p99 of a command that reads".into(),
            figure: worst[0].as_secs_f64() * 1e3,
            unit: "ms",
            bound: Bound::AtMost(5.0),
        },
        Promise {
            what: "p99 of a command that is written to the disk".into(),
            figure: worst[1].as_secs_f64() * 1e3,
            unit: "ms",
            bound: Bound::AtMost(5.0),
        },
    ])
}

/// One backend sends a command, again and again; tells how long each took.
async fn talk(
    backend: &mut Backend,
    id: &str,
    command: &str,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut n = 0_u32;
    while Instant::now() < until {
        n += 1;
        let (line, reply) = match command {
            "VALIDATE" => (format!("VALIDATE|{id}"), "OK"),
            // Another value each time, so that there is something to store.
            _ => (
                format!("OPTIONS|{id}|timeout|{}s", n % 3_600 + 1),
                "OPTIONS_OK",
            ),
        };
        let began = Instant::now();
        backend.gets(&line, reply).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// How long the disk takes for a small write that lasts, shortest first.
fn flushes(folder: &Path, time: Duration) -> Result<Vec<Duration>> {
    let mut file = File::create(folder.join("yardstick"))?;
    let (mut took, began) = (Vec::new(), Instant::now());
    while began.elapsed() < time {
        let from = Instant::now();
        file.write_all(&[1; 4_096])?;
        file.sync_data()?;
        took.push(from.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
