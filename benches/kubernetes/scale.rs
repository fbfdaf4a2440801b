//! A cluster with very many endpoints: starting on it, memory, Get, and what a
//! controller does with them.

#[path = "scale/controller.rs"]
mod controller;

use std::time::{Duration, Instant};

use kube::Client as KubeClient;
use kube::api::ListParams;
use kube::core::Request as KubeRequest;
use serde::Deserialize;
use tokio::time::sleep;

use crate::api_server::ApiServer;
use crate::common::Result;
use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, mebibytes, median};
use crate::common::round::{Figures, round};
use crate::common::servers::Registry;
use crate::common::wire::{CONNECTORS, Endpoint, Protocol, Request};
use crate::objects::{create_each, object};
use crate::{NOTHING_GOES, any, gets};

/// Endpoints of the large namespace, with `--quick` in brackets, on this many
/// gost servers.
const MANY: [usize; 2] = [100_000, 2_000];
const MANY_NODES: usize = 200;
/// Endpoints of the small one.
const FEW: usize = 1_000;
const FEW_NODES: usize = 10;
/// Objects that are created at a time.
const AT_ONCE: usize = 64;
/// Objects on a page of a list.
const PAGE: u32 = 500;
/// Starts of which the median is taken.
const STARTS: [usize; 2] = [3, 1];
/// A replica that has just become ready gets this long before it is measured.
const SETTLE: Duration = Duration::from_secs(5);
/// Callers of Get.
const CALLERS: [usize; 2] = [1, 64];

const LARGE: &str = "large";
const SMALL: &str = "small";
/// Who holds everything: the replica, which has been here before.
const HOLDER: &str = "one";
/// Leases last as they do among so many: 3 · 100,000 / 10.
const LEASE: Duration = Duration::from_secs(30_000);

/// One start, and the lists before it.
struct Start {
    raw: Duration,
    typed: Duration,
    ready: Duration,
    peak: u64,
    resident: u64,
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    let quick = usize::from(options.quick);
    eprintln!("scale: creating {} endpoints", MANY[quick]);
    let server = ApiServer::start(&options.server_bin).await?;
    let many = Endpoints::new(1, MANY_NODES).tunnels(MANY[quick] / CONNECTORS);
    let few = Endpoints::new(2, FEW_NODES).tunnels(FEW / CONNECTORS);
    for (namespace, endpoints) in [(LARGE, &many), (SMALL, &few)] {
        fill(&server, namespace, endpoints).await?;
    }

    eprintln!("scale: starting");
    let mut starts = Vec::new();
    let mut running = None;
    for _ in 0..STARTS[quick] {
        // At most one at a time: the memory of two is not of interest.
        drop(running.take());
        let (start, replica) = start(&server, many.len()).await?;
        starts.push(start);
        running = Some(replica);
    }
    let large = running.ok_or("nothing was started")?;
    let mut promises = report_starts(&starts, many.len());

    eprintln!("scale: Get");
    let small = server.replica(SMALL, HOLDER, &NOTHING_GOES).await?;
    promises.extend(compare_gets(options, (&large, &many), (&small, &few)).await?);
    drop(small);

    eprintln!("scale: controller");
    promises.extend(controller::measure(options, &server, LARGE, &many).await?);
    Ok(promises)
}

async fn fill(server: &ApiServer, namespace: &str, endpoints: &[Endpoint]) -> Result<()> {
    server.namespace(namespace).await?;
    let api = ApiServer::endpoints(server.client().await?, namespace);
    let objects = endpoints
        .iter()
        .map(|endpoint| object(endpoint, HOLDER, LEASE));
    let began = Instant::now();
    create_each(&api, AT_ONCE, objects).await?;
    eprintln!("scale: {} in {:.0?}", endpoints.len(), began.elapsed());
    Ok(())
}

/// Lists everything in both ways, then starts a replica on it.
async fn start(server: &ApiServer, count: usize) -> Result<(Start, Registry)> {
    let client = server.client().await?;
    let (raw, pages) = list_raw(&client).await?;
    let (typed, listed) = list_typed(&client).await?;
    let replica = server.replica(LARGE, HOLDER, &NOTHING_GOES).await?;
    let held = replica.endpoints().await?;
    if (listed, held) != (count, count) || pages < count.div_ceil(PAGE as usize) {
        return Err(format!("{listed} listed in {pages} pages, {held} held of {count}").into());
    }
    sleep(SETTLE).await;
    let start = Start {
        raw,
        typed,
        ready: replica.started_in,
        peak: replica.process().peak()?,
        resident: replica.process().resident()?,
    };
    Ok((start, replica))
}

/// All that is read of a page: where the next one begins.
#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(rename = "continue", default)]
    more: String,
}

/// Receives every page, and makes nothing of the objects.
async fn list_raw(client: &KubeClient) -> Result<(Duration, usize)> {
    let path = format!("/apis/tunnelregistry.io/v1alpha1/namespaces/{LARGE}/tunnelendpoints");
    let mut params = ListParams::default().limit(PAGE);
    let began = Instant::now();
    let mut pages = 0;
    loop {
        let request = KubeRequest::new(&path).list(&params)?;
        let text = client.request_text(request).await?;
        pages += 1;
        let page: Page = serde_json::from_str(&text)?;
        if page.metadata.more.is_empty() {
            return Ok((began.elapsed(), pages));
        }
        params = params.continue_token(&page.metadata.more);
    }
}

/// Reads every object into the registry's type, and keeps them all.
async fn list_typed(client: &KubeClient) -> Result<(Duration, usize)> {
    let api = ApiServer::endpoints(client.clone(), LARGE);
    let mut params = ListParams::default().limit(PAGE);
    let began = Instant::now();
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params = params.continue_token(&more),
            None => return Ok((began.elapsed(), all.len())),
        }
    }
}

fn report_starts(starts: &[Start], count: usize) -> Vec<Promise> {
    let seconds =
        |pick: fn(&Start) -> Duration| median(starts.iter().map(|start| pick(start).as_secs_f64()));
    let against = |pick: fn(&Start) -> Duration| {
        let ratio = |start: &Start| start.ready.as_secs_f64() / pick(start).as_secs_f64();
        median(starts.iter().map(ratio))
    };
    let size = |pick: fn(&Start) -> u64| median(starts.iter().map(|s| mebibytes(pick(s))));
    let mut table = Table::new(["what", "median, s", "ready/it"]);
    for (what, pick) in LISTS {
        table.row([
            what.into(),
            format!("{:.2}", seconds(pick)),
            format!("{:.2}", against(pick)),
        ]);
    }
    let ready = seconds(|start| start.ready);
    table.row([
        "a replica is ready".into(),
        format!("{ready:.2}"),
        "–".into(),
    ]);
    let (resident, peak) = (size(|start| start.resident), size(|start| start.peak));
    println!("\n## {count} endpoints, from exec to ready\n\n{table}");
    println!(
        "\nPages of {PAGE}. Resident {SETTLE:?} after: {resident:.1} MiB; at most {peak:.1} MiB \
         before."
    );
    let mut promises: Vec<_> = LISTS
        .iter()
        .map(|(what, pick)| Promise {
            what: format!("ready with {count} endpoints/{what}"),
            figure: against(*pick),
            unit: "",
            bound: Bound::AtMost(1.5),
        })
        .collect();
    promises.push(Promise {
        what: format!("resident memory with {count} endpoints"),
        figure: resident,
        unit: "MiB",
        bound: Bound::AtMost(200.0),
    });
    promises
}

/// A way to list, and how long it took.
type List = (&'static str, fn(&Start) -> Duration);

const LISTS: [List; 2] = [
    ("a list, received", |start| start.raw),
    ("a list, read into objects", |start| start.typed),
];

/// Calls Get of both replicas in turns.
async fn compare_gets(
    options: &Options,
    (large, many): (&Registry, &[Endpoint]),
    (small, few): (&Registry, &[Endpoint]),
) -> Result<Vec<Promise>> {
    let (many_gets, few_gets) = (gets(many)?, gets(few)?);
    let mut table = Table::new([
        "Get",
        "endpoints",
        "a second",
        "p50, µs",
        "p99, µs",
        "processor time, µs",
    ]);
    let mut promises = Vec::new();
    for callers in CALLERS {
        let mut pairs = Vec::new();
        for _ in 0..options.rounds() {
            let time = options.round()?;
            pairs.push((
                get(large, &many_gets, callers, time).await?,
                get(small, &few_gets, callers, time).await?,
            ));
        }
        let (of_many, of_few): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        for (count, rounds) in [(few.len(), of_few), (many.len(), of_many)] {
            let figure =
                |pick: fn(&Figures) -> f64| format!("{:.1}", median(rounds.iter().map(pick)));
            table.row([
                format!("{callers} callers"),
                count.to_string(),
                figure(|round| round.rate),
                figure(|round| round.p50),
                figure(|round| round.p99),
                figure(|round| round.cpu),
            ]);
        }
        let ratio = |pick: fn(&Figures) -> f64| {
            median(pairs.iter().map(|(many, few)| pick(many) / pick(few)))
        };
        let what = |figure| format!("{figure} of Get at {callers}, {}/{}", many.len(), few.len());
        promises.push(match callers {
            1 => Promise {
                what: what("p50"),
                figure: ratio(|round| round.p50),
                unit: "",
                bound: Bound::AtMost(AS_FAST),
            },
            _ => Promise {
                what: what("throughput"),
                figure: ratio(|round| round.rate),
                unit: "",
                bound: Bound::AtLeast(1.0 / AS_FAST),
            },
        });
    }
    println!("\n## Get among many\n\n{table}");
    Ok(promises)
}

/// As fast: as much is allowed to the memory store among 150,000.
const AS_FAST: f64 = 1.3;

async fn get(
    registry: &Registry,
    gets: &[Request],
    callers: usize,
    time: Duration,
) -> Result<Figures> {
    let mut client = Client::connect(Protocol::Grpc, registry.at, callers, 1).await?;
    let cpu = || Ok(vec![registry.process().cpu()?]);
    let figures = round(&mut client.callers, || Ok(any(gets)), time, cpu).await;
    figures.map_err(|error| registry.process().blamed(error))
}
