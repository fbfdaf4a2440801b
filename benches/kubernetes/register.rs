//! Register against a bare loop of creates of the same objects.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, TryStreamExt as _};
use kube::api::{Api, PostParams};
use tokio::time::sleep;
use tunnel_registry::resources::TunnelEndpoint;

use crate::NOTHING_GOES;
use crate::api_server::ApiServer;
use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::load::Window;
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, median};
use crate::common::round::{Figures, WARM_UP, round};
use crate::common::servers::Registry;
use crate::common::wire::{Call, Protocol, Request};
use crate::common::{Result, load};
use crate::objects::object;

/// Callers at a time.
const CONCURRENCY: [usize; 3] = [1, 16, MOST_CALLERS];
const MOST_CALLERS: usize = 64;
/// gost servers: enough that none gets near a limit.
const NODES: usize = 100;
/// As long as a replica makes the lease of a first endpoint.
const LEASE: Duration = Duration::from_secs(60);

/// Who registers.
const REGISTRY: usize = 0;
/// The registry's own client of the API server, alone.
const OWN_CLIENT: usize = 1;
/// The client that kube makes by default.
const KUBE_CLIENT: usize = 2;
const SUBJECTS: [&str; 3] = [
    "the registry",
    "creates, its client",
    "creates, kube's client",
];

/// What registers in one of the ways. Each has a namespace of its own: nobody
/// watches what a bare loop creates.
enum Subject {
    Registry(Registry, Client),
    Bare(Api<TunnelEndpoint>),
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("register");
    let server = ApiServer::start(&options.server_bin).await?;
    for namespace in ["registry", "own", "kube"] {
        server.namespace(namespace).await?;
    }
    let bare = |client, namespace| Subject::Bare(ApiServer::endpoints(client, namespace));
    let registry = server.replica("registry", "one", &NOTHING_GOES).await?;
    let client = Client::connect(Protocol::Grpc, registry.at, MOST_CALLERS, 1).await?;
    let mut subjects = [
        Subject::Registry(registry, client),
        bare(server.client().await?, "own"),
        bare(server.plain_client().await?, "kube"),
    ];
    let fresh = RefCell::new(Endpoints::new(1, NODES));
    let time = options.round()?;
    let mut table = Table::new([
        "callers",
        "who",
        "a second",
        "p50, ms",
        "p99, ms",
        "rate, registry/it",
        "p50, registry/it",
    ]);
    let mut promises = Vec::new();
    for callers in CONCURRENCY {
        let mut rounds: [Vec<Figures>; 3] = Default::default();
        for _ in 0..options.rounds() {
            for (subject, rounds) in subjects.iter_mut().zip(&mut rounds) {
                rounds.push(subject.round(callers, time, &fresh).await?);
            }
        }
        promises.extend(report(&mut table, callers, &rounds));
    }
    if let Subject::Registry(registry, _) = &subjects[REGISTRY] {
        let (told, stored) = (registry.endpoints().await?, server.count("registry").await?);
        if told != stored {
            return Err(format!("{told} endpoints were registered, {stored} are stored").into());
        }
    }
    println!("\n## Register, through the registry and bare\n\n{table}");
    println!("\nEach registration is new. The ratios are medians of interleaved pairs.");
    Ok(promises)
}

fn report(table: &mut Table, callers: usize, rounds: &[Vec<Figures>; 3]) -> Vec<Promise> {
    let ratio = |other: usize, pick: fn(&Figures) -> f64| {
        let pairs = rounds[REGISTRY].iter().zip(&rounds[other]);
        median(pairs.map(|(ours, theirs)| pick(ours) / pick(theirs)))
    };
    for (who, name) in SUBJECTS.iter().enumerate() {
        let figure = |pick: fn(&Figures) -> f64| median(rounds[who].iter().map(pick));
        let ratio = |pick| match who {
            REGISTRY => "–".into(),
            _ => format!("{:.2}", ratio(who, pick)),
        };
        table.row([
            callers.to_string(),
            (*name).into(),
            format!("{:.0}", figure(|round| round.rate)),
            format!("{:.2}", figure(|round| round.p50) / 1e3),
            format!("{:.2}", figure(|round| round.p99) / 1e3),
            ratio(|round| round.rate),
            ratio(|round| round.p50),
        ]);
    }
    [OWN_CLIENT, KUBE_CLIENT]
        .into_iter()
        .flat_map(|other| {
            let against = SUBJECTS[other];
            [
                Promise {
                    what: format!("register/{callers} throughput, the registry/{against}"),
                    figure: ratio(other, |round| round.rate),
                    unit: "",
                    bound: Bound::AtLeast(0.7),
                },
                Promise {
                    what: format!("register/{callers} p50, the registry/{against}"),
                    figure: ratio(other, |round| round.p50),
                    unit: "",
                    bound: Bound::AtMost(1.3),
                },
            ]
        })
        .collect()
}

impl Subject {
    async fn round(
        &mut self,
        callers: usize,
        time: Duration,
        fresh: &RefCell<Endpoints>,
    ) -> Result<Figures> {
        match self {
            Self::Registry(registry, client) => {
                let next =
                    || Request::new(Protocol::Grpc, Call::Register, &fresh.borrow_mut().give());
                let cpu = || Ok(vec![registry.process().cpu()?]);
                let callers = &mut client.callers[..callers];
                let figures = round(callers, next, time, cpu).await;
                figures.map_err(|error| registry.process().blamed(error))
            }
            Self::Bare(api) => bare(api, callers, time, fresh).await,
        }
    }
}

/// Creates objects one after the other, in so many loops.
async fn bare(
    api: &Api<TunnelEndpoint>,
    callers: usize,
    time: Duration,
    fresh: &RefCell<Endpoints>,
) -> Result<Figures> {
    let over = std::cell::Cell::new(false);
    let samples = RefCell::new(Vec::new());
    let params = PostParams::default();
    let loops: FuturesUnordered<_> = (0..callers)
        .map(|_| async {
            while !over.get() {
                let endpoint = fresh.borrow_mut().give();
                let object = object(&endpoint, "one", LEASE)?;
                let began = Instant::now();
                api.create(&params, &object).await?;
                let ended = Instant::now();
                let took = ended - began;
                samples.borrow_mut().push(load::Sample { ended, took });
            }
            Result::Ok(())
        })
        .collect();
    let script = async {
        sleep(time.mul_f64(WARM_UP)).await;
        let from = Instant::now();
        sleep(time).await;
        over.set(true);
        Result::Ok(Window {
            from,
            to: Instant::now(),
        })
    };
    let (window, ()) = tokio::try_join!(script, loops.try_collect::<()>())?;
    let latencies = window.latencies(&samples.borrow());
    Figures::new(&latencies, window.length(), Duration::ZERO)
}
