//! Starting with a large file to read.

use std::time::Duration;

use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, mebibytes, median};
use crate::common::servers::{Registry, Store};
use crate::common::wire::{CONNECTORS, Endpoint, Protocol};
use crate::common::{Error, Result};
use crate::{NOTHING_GOES, register};

/// Endpoints in the file, on this many gost servers.
const STORED: (usize, usize) = (100_000, 100);
/// Registrations at a time; the store writes many with one sync.
const PIPELINE: usize = 256;
/// How long writes go on before the kill.
const WRITING: Duration = Duration::from_millis(300);
/// How long the metrics may lag behind the last registration.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// One start.
struct Start {
    seconds: f64,
    resident: u64,
}

impl Start {
    /// What a start cost. It must have brought everything back.
    async fn of(registry: &Registry) -> Result<Self> {
        let seconds = registry.started_in.as_secs_f64();
        let resident = registry.process().resident()?;
        match registry.endpoints().await? {
            all if all == STORED.0 => Ok(Self { seconds, resident }),
            some => Err(format!("{some} of {} endpoints came back", STORED.0).into()),
        }
    }
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("start");
    // Beside the build, not in /tmp: that is often no disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = Store::File(folder.path().join("registry.redb"));
    let start = || Registry::start(&options.server_bin, &store, &NOTHING_GOES);

    let mut endpoints = Endpoints::new(1, STORED.1).tunnels(STORED.0 / CONNECTORS);
    let mut registry = start().await?;
    let mut client = Client::connect(Protocol::Grpc, registry.at, PIPELINE, 1).await?;
    let registered = register(&mut client, &endpoints).await;
    registered.map_err(|error| registry.process().blamed(error))?;
    drop(client);
    registry.holds(STORED.0, SETTLE_WITHIN).await?;

    let (mut stopped, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        registry.stop().await?;
        registry = start().await?;
        stopped.push(Start::of(&registry).await?);

        write_until_killed(registry, &mut endpoints).await?;
        registry = start().await?;
        killed.push(Start::of(&registry).await?);
    }

    let mut table = Table::new(["start", "median, ms", "longest, ms", "resident, MiB"]);
    let mut promises = Vec::new();
    for (after, starts) in [("an orderly stop", &stopped), ("kill -9", &killed)] {
        let seconds = || starts.iter().map(|start| start.seconds);
        let resident = median(starts.iter().map(|start| mebibytes(start.resident)));
        table.row([
            format!("after {after}"),
            format!("{:.0}", median(seconds()) * 1e3),
            format!("{:.0}", seconds().fold(0.0, f64::max) * 1e3),
            format!("{resident:.1}"),
        ]);
        promises.push(Promise {
            what: format!("start with {} endpoints after {after}", STORED.0),
            figure: median(seconds()),
            unit: "s",
            bound: Bound::AtMost(1.0),
        });
    }
    println!(
        "\n## File store, {} endpoints, from exec to ready\n\n{table}",
        STORED.0
    );
    Ok(promises)
}

/// Kills the registry while it writes: known endpoints move to another port, so
/// that their number stays the same.
async fn write_until_killed(registry: Registry, endpoints: &mut [Endpoint]) -> Result<()> {
    for endpoint in endpoints.iter_mut() {
        let (host, port) = endpoint.address.rsplit_once(':').ok_or("no port")?;
        let port = port.parse::<u16>()? % 1_000 + 1;
        endpoint.address = format!("{host}:{port}");
    }
    let mut client = Client::connect(Protocol::Grpc, registry.at, PIPELINE, 1).await?;
    tokio::select! {
        ended = register(&mut client, endpoints) => {
            let faster = || Error::from("everything was written before the kill");
            return Err(registry.process().blamed(ended.err().unwrap_or_else(faster)));
        }
        () = sleep(WRITING) => {}
    }
    registry.kill();
    Ok(())
}
