//! Get while many endpoints expire at once.
//!
//! A gost with 10,000 connectors registers them and goes away; others stay and
//! renew. Its endpoints are released when the base time has passed and removed
//! when they have been released for long enough; both are watched.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::load::{self, Sample, Window};
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, median, micros, percentile};
use crate::common::servers::{Registry, Store};
use crate::common::wire::{CONNECTORS, Call, Endpoint, Protocol};
use crate::common::{Error, Result};
use crate::{any, call_each, gets, register};

/// Endpoints that go, on this many gost servers.
const GOING: (usize, usize) = (10_000, 100);
/// Endpoints that stay.
const STAYING: (usize, usize) = (200, 10);
/// Calls at a time where endpoints are registered and renewed.
const PIPELINE: usize = 64;
/// `--base-time`: four of the intervals at which those that stay are renewed,
/// with something to spare, and long enough to register those that go and to
/// measure before they go.
const BASE: Duration = Duration::from_secs(6);
/// How often those that stay are renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often the registry is asked how many endpoints it has.
const LOOK: Duration = Duration::from_millis(100);
/// A moment for the registry to note that the connection is closed.
const SETTLE: Duration = Duration::from_millis(200);
/// How long before the expiry Get is measured.
const BEFORE: Duration = Duration::from_secs(2);
/// Slower than this, removing 10,000 endpoints is not "at once".
const GONE_WITHIN: Duration = Duration::from_secs(300);

const FLAGS: [&str; 6] = [
    "--base-time",
    "6s",
    "--released-for",
    "2s",
    "--start-grace",
    "0s",
];

/// When what happened.
struct Moments {
    /// Everything is registered, nothing expires.
    before: Window,
    /// The base time runs out.
    released: Window,
    /// The number of endpoints falls.
    removed: Window,
}

/// One round, in µs.
struct Figures {
    before: Latency,
    released: Latency,
    removed: Latency,
    /// How long the number of endpoints fell, in seconds.
    falling: f64,
}

#[derive(Clone, Copy)]
struct Latency {
    p99: f64,
    longest: f64,
}

impl Latency {
    fn of(window: Window, samples: &[Sample]) -> Result<Self> {
        let latencies = window.latencies(samples);
        let longest = latencies.last().ok_or("not one Get was answered")?;
        Ok(Self {
            p99: micros(percentile(&latencies, 0.99)),
            longest: micros(*longest),
        })
    }
}

/// Of which part of a round a latency is.
type Pick = fn(&Figures) -> Latency;

const PHASES: [(&str, Pick); 3] = [
    ("before", |round| round.before),
    ("while they are released", |round| round.released),
    ("while they are removed", |round| round.removed),
];

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("expiry");
    let registry = Registry::start(&options.server_bin, &Store::Memory, &FLAGS).await?;
    let mut rounds = Vec::new();
    for pool in (2..).take(options.rounds()) {
        let round = round(&registry, pool).await;
        rounds.push(round.map_err(|error| registry.process().blamed(error))?);
    }

    let mut table = Table::new(["Get at 1, gRPC", "p99, µs", "longest, µs"]);
    for (phase, pick) in PHASES {
        let p99 = median(rounds.iter().map(|round| pick(round).p99));
        let longest = median(rounds.iter().map(|round| pick(round).longest));
        table.row([phase.into(), format!("{p99:.0}"), format!("{longest:.0}")]);
    }
    let falling = median(rounds.iter().map(|round| round.falling));
    let (going, staying) = (GOING.0, STAYING.0);
    println!("\n## {going} endpoints expire at once\n\n{table}");
    println!("\n{staying} others are renewed. Removing took {falling:.1} s.");
    let slower = |round: &Figures| round.released.p99.max(round.removed.p99) / round.before.p99;
    Ok(vec![Promise {
        what: format!("p99 of Get, while {going} endpoints expire/before"),
        figure: median(rounds.iter().map(slower)),
        unit: "",
        bound: Bound::AtMost(2.0),
    }])
}

async fn round(registry: &Registry, pool: u8) -> Result<Figures> {
    let staying = Endpoints::new(1, STAYING.1).tunnels(STAYING.0 / CONNECTORS);
    let going = Endpoints::new(pool, GOING.1).tunnels(GOING.0 / CONNECTORS);
    let mut keeper = Client::connect(Protocol::Grpc, registry.at, PIPELINE, 1).await?;
    register(&mut keeper, &staying).await?;
    let script = async {
        tokio::select! {
            moments = expire(registry, &going) => moments,
            ended = renew(&mut keeper, &staying) => Err(ended),
        }
    };
    let mut visitor = Client::connect(Protocol::Grpc, registry.at, 1, 1).await?;
    let gets = gets(&staying)?;
    let next = || Ok(any(&gets));
    let (moments, samples) = load::during(&mut visitor.callers, next, script).await?;
    Ok(Figures {
        before: Latency::of(moments.before, &samples)?,
        released: Latency::of(moments.released, &samples)?,
        removed: Latency::of(moments.removed, &samples)?,
        falling: moments.removed.length().as_secs_f64(),
    })
}

/// Renews until something fails.
async fn renew(keeper: &mut Client, staying: &[Endpoint]) -> Error {
    loop {
        sleep(RENEW).await;
        if let Err(error) = call_each(keeper, Call::Renew, staying).await {
            return error;
        }
    }
}

async fn expire(registry: &Registry, going: &[Endpoint]) -> Result<Moments> {
    let mut client = Client::connect(Protocol::Grpc, registry.at, PIPELINE, 1).await?;
    let first = Instant::now();
    register(&mut client, going).await?;
    let last = Instant::now();
    drop(client);
    sleep(SETTLE).await;

    let all = GOING.0 + STAYING.0;
    let from = Instant::now();
    let mut count = registry.endpoints().await?;
    while from.elapsed() < BEFORE {
        count = registry.endpoints().await?;
        sleep(LOOK).await;
    }
    let before = Window {
        from,
        to: Instant::now(),
    };
    if count != all || before.to > first + BASE {
        let took = last - first;
        return Err(format!("too slow to measure: registering took {took:.1?}").into());
    }

    let mut full = before.to;
    loop {
        let now = Instant::now();
        match registry.endpoints().await? {
            count if count == all => full = now,
            count if count == STAYING.0 => {
                return Ok(Moments {
                    before,
                    released: Window {
                        from: first + BASE,
                        to: last + BASE + LOOK,
                    },
                    removed: Window {
                        from: full,
                        to: now,
                    },
                });
            }
            count if before.to.elapsed() > GONE_WITHIN => {
                return Err(format!("{count} endpoints are left after {GONE_WITHIN:?}").into());
            }
            _ => {}
        }
        sleep(LOOK).await;
    }
}
