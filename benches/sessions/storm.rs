//! The registry is killed and started again, and all backends come back at once.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::backend::{Backend, announce_all};
use super::common::Result;
use super::common::options::Options;
use super::common::report::{Bound, Promise, Table, percentile};
use super::common::servers::{Registry, SESSION_LISTEN, Store, free_port};

pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    let counts: &[usize] = if options.quick {
        &[200]
    } else {
        &[1_000, 9_000]
    };
    println!("\n## All come back after a restart\n");
    let mut table = Table::new([
        "sessions",
        "ended by",
        "OK",
        "REREGISTER",
        "else",
        "last after, s",
        "p99 of a RECONNECT, ms",
    ]);
    let mut failed = 0;
    for &count in counts {
        for kill in [true, false] {
            let came = restart(options, count, kill).await?;
            failed += came.reregister + came.other;
            let p99 = percentile(&came.took, 0.99);
            table.row([
                count.to_string(),
                if kill { "SIGKILL" } else { "SIGTERM" }.into(),
                came.took.len().to_string(),
                came.reregister.to_string(),
                came.other.to_string(),
                format!("{:.2}", came.last.as_secs_f64()),
                format!("{:.0}", p99.as_secs_f64() * 1e3),
            ]);
        }
    }
    println!("{table}");
    Ok(vec![Promise {
        what: "sessions that were not taken up again".into(),
        figure: failed as f64,
        unit: "",
        bound: Bound::AtMost(0.0),
    }])
}

/// How the backends fared.
#[derive(Debug, Default)]
struct Came {
    /// How long each RECONNECT took that was answered with OK, shortest first.
    took: Vec<Duration>,
    reregister: usize,
    other: usize,
    /// When the last was answered, from the start of the registry's process on.
    last: Duration,
}

async fn restart(options: &Options, count: usize, kill: bool) -> Result<Came> {
    let folder = tempfile::tempdir()?;
    let listen = free_port()?;
    let at = listen.to_string();
    let flags = [SESSION_LISTEN, &at, "--session-max-connections", "20000"];
    let store = Store::File(folder.path().join("registry.redb"));
    let registry = Registry::start(&options.server_bin, &store, &flags).await?;
    let opened = announce_all(listen, count).await?;
    if kill {
        registry.kill();
    } else {
        registry.stop().await?;
    }
    // Their connections have ended, with the registry.
    let ids: Vec<String> = opened.into_iter().map(|(_, id)| id).collect();
    let began = Instant::now();
    let registry = Registry::start(&options.server_bin, &store, &flags).await?;
    let answers = join_all(ids.iter().enumerate().map(async |(n, id)| {
        let from = Instant::now();
        let mut backend = Backend::connect(listen, n).await?;
        let reply = backend.ask(&format!("RECONNECT|{id}")).await?;
        Ok::<_, super::common::Error>((backend, reply, from.elapsed()))
    }))
    .await;
    let mut came = Came {
        last: began.elapsed(),
        ..Came::default()
    };
    // Kept open until all are counted.
    let mut open = Vec::new();
    for answer in answers {
        match answer {
            Ok((backend, reply, took)) if reply == "OK" => {
                came.took.push(took);
                open.push(backend);
            }
            Ok((_, reply, _)) if reply == "REREGISTER" => came.reregister += 1,
            Ok((_, reply, _)) => {
                println!("A RECONNECT was answered {reply}");
                came.other += 1;
            }
            Err(error) => {
                println!("A RECONNECT failed: {error}");
                came.other += 1;
            }
        }
    }
    came.took.sort_unstable();
    registry.stop().await?;
    Ok(came)
}
