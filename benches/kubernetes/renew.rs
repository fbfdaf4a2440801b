//! What renewing costs: writes to the API server, and processor time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::api_server::ApiServer;
use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, median};
use crate::common::round::{Figures, round};
use crate::common::servers::{Registry, Store};
use crate::common::wire::{CONNECTORS, Call, Endpoint, Protocol, Request};
use crate::common::{Error, Result, load};
use crate::it::kube::cluster::Part;
use crate::{NOTHING_GOES, any, call_each, requests};

/// Endpoints, with `--quick` in brackets, on this many gost servers.
const COUNT: [usize; 2] = [10_000, 500];
const NODES: usize = 20;
/// How often each is renewed: gost's usual `tunnel.ttl`.
const EVERY: Duration = Duration::from_secs(15);
/// In so many portions.
const PORTIONS: u32 = 150;
/// Renewed for so long before anything is counted: each was, four times.
const WARM_UP: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];
/// Counted for so long,
const COUNTED: [Duration; 2] = [Duration::from_secs(90), Duration::from_secs(10)];
/// in so many parts, of which the fullest is told, too.
const PARTS: u32 = 9;
/// Callers at full speed, and while everything is registered.
const CALLERS: usize = 64;
/// How long the replica may take to know that the API server is back.
const BACK_WITHIN: Duration = Duration::from_secs(60);

const NAMESPACE: &str = "renew";

/// How the API server is while calls are made at full speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
    Hung,
}

const STATES: [State; 3] = [State::Running, State::Stopped, State::Hung];

/// A registry with all endpoints.
struct Filled {
    registry: Registry,
    gosts: Gosts,
}

/// Those who hold the endpoints, behind one connection.
struct Gosts {
    client: Client,
    renewals: Vec<Request>,
}

impl Filled {
    async fn new(registry: Registry, endpoints: &[Endpoint]) -> Result<Self> {
        let mut client = Client::connect(Protocol::Grpc, registry.at, CALLERS, 1).await?;
        let registered = call_each(&mut client, Call::Register, endpoints).await;
        registered.map_err(|error| registry.process().blamed(error))?;
        let renewals = requests(Call::Renew, endpoints)?;
        Ok(Self {
            registry,
            gosts: Gosts { client, renewals },
        })
    }

    /// Renews at full speed.
    async fn round(&mut self, time: Duration) -> Result<Figures> {
        let next = || Ok(any(&self.gosts.renewals));
        let cpu = || Ok(vec![self.registry.process().cpu()?]);
        let figures = round(&mut self.gosts.client.callers, next, time, cpu).await;
        figures.map_err(|error| self.registry.process().blamed(error))
    }
}

impl Gosts {
    /// Renews everything every 15 s while `script` runs. A renewal that fails is
    /// an error.
    async fn renew_while<T>(&mut self, script: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            outcome = script => outcome,
            error = self.renew() => Err(error),
        }
    }

    async fn renew(&mut self) -> Error {
        let size = self.renewals.len().div_ceil(PORTIONS as usize);
        let mut ticks = interval(EVERY / PORTIONS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            for portion in self.renewals.chunks(size) {
                ticks.tick().await;
                let portion = portion.iter().cloned().map(Ok);
                if let Err(error) = load::each(&mut self.client.callers, portion).await {
                    return error;
                }
            }
        }
    }
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("renew");
    let count = COUNT[usize::from(options.quick)];
    let endpoints = Endpoints::new(1, NODES).tunnels(count / CONNECTORS);
    let mut server = ApiServer::start(&options.server_bin).await?;
    server.namespace(NAMESPACE).await?;
    let replica = server.replica(NAMESPACE, "one", &[]).await?;
    let mut replica = Filled::new(replica, &endpoints).await?;
    let mut promises = steady(options, &server, &mut replica).await?;

    let memory = Registry::start(&options.server_bin, &Store::Memory, &NOTHING_GOES).await?;
    let mut memory = Filled::new(memory, &endpoints).await?;
    let mut table = Table::new([
        "API server",
        "Kubernetes, µs",
        "memory, µs",
        "Kubernetes/memory",
        "Renew a second",
        "of memory",
    ]);
    for state in STATES {
        eprintln!("renew: API server {}", state.name());
        state.begin(&mut server).await;
        let mut pairs = Vec::new();
        for _ in 0..options.rounds() {
            let time = options.round()?;
            pairs.push((replica.round(time).await?, memory.round(time).await?));
        }
        state.end(&mut server).await;
        let Filled { registry, gosts } = &mut replica;
        let back = registry.says("tunnel_registry_store_up", 1, BACK_WITHIN);
        gosts.renew_while(back).await?;
        promises.push(state.report(&mut table, &pairs));
    }
    println!("\n## Processor time of Renew at {CALLERS} callers, {count} endpoints\n\n{table}");
    let stored = server.count(NAMESPACE).await?;
    if stored != count {
        return Err(format!("{stored} endpoints are stored at the end, not {count}").into());
    }
    // A renewal that fails ends the run.
    println!("\nNo renewal failed.");
    Ok(promises)
}

/// Counts what renewing writes, and tells what was promised of it.
async fn steady(
    options: &Options,
    server: &ApiServer,
    replica: &mut Filled,
) -> Result<Vec<Promise>> {
    let quick = usize::from(options.quick);
    let counted = async {
        sleep(WARM_UP[quick]).await;
        let mut counts = vec![(Instant::now(), server.writes().await?)];
        for _ in 0..PARTS {
            sleep(COUNTED[quick] / PARTS).await;
            counts.push((Instant::now(), server.writes().await?));
        }
        Ok(counts)
    };
    let counts = replica.gosts.renew_while(counted).await?;
    let per_second = |from: usize, to: usize| -> BTreeMap<&str, f64> {
        let ((began, before), (ended, after)) = (&counts[from], &counts[to]);
        let seconds = (*ended - *began).as_secs_f64();
        let more = |(what, count): (&String, &f64)| count - before.get(what).unwrap_or(&0.0);
        let each = after.iter();
        each.map(|(what, count)| (what.as_str(), more((what, count)) / seconds))
            .filter(|(_, rate)| *rate > 0.0)
            .collect()
    };
    let last = counts.len() - 1;
    let fullest = (0..last)
        .map(|part| per_second(part, part + 1).values().sum())
        .fold(0.0, f64::max);
    let rates = per_second(0, last);
    let all: f64 = rates.values().sum();
    let mut table = Table::new(["request", "a second"]);
    for (what, rate) in &rates {
        table.row([(*what).into(), format!("{rate:.2}")]);
    }
    table.row(["all".into(), format!("{all:.2}")]);
    let count = replica.gosts.renewals.len();
    println!("\n## Writes while {count} endpoints are renewed every {EVERY:?}\n\n{table}");
    println!(
        "\nIn {:?}, after {:?}; at most {fullest:.2} a second in a {PARTS}th of it. The API \
         server counts all requests, its own (PUT leases) among them.",
        COUNTED[quick], WARM_UP[quick]
    );
    Ok(vec![Promise {
        what: format!("writes to the API server, {count} endpoints renewed every {EVERY:?}"),
        figure: all,
        unit: "a second",
        bound: Bound::AtMost(12.0),
    }])
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped (SIGKILL)",
            Self::Hung => "hung (SIGSTOP)",
        }
    }

    async fn begin(self, server: &mut ApiServer) {
        match self {
            Self::Running => {}
            Self::Stopped => server.cluster.kill(Part::ApiServer).await,
            Self::Hung => server.cluster.freeze(Part::ApiServer).await,
        }
    }

    async fn end(self, server: &mut ApiServer) {
        match self {
            Self::Running => return,
            Self::Stopped => server.cluster.run(Part::ApiServer),
            Self::Hung => server.cluster.thaw(Part::ApiServer),
        }
        server.cluster.ready().await;
    }

    fn report(self, table: &mut Table, pairs: &[(Figures, Figures)]) -> Promise {
        let ours = |pick: fn(&Figures) -> f64| median(pairs.iter().map(|(ours, _)| pick(ours)));
        let memory = |pick: fn(&Figures) -> f64| median(pairs.iter().map(|(_, own)| pick(own)));
        let ratio = median(pairs.iter().map(|(ours, memory)| ours.cpu / memory.cpu));
        table.row([
            self.name().into(),
            format!("{:.1}", ours(|round| round.cpu)),
            format!("{:.1}", memory(|round| round.cpu)),
            format!("{ratio:.2}"),
            format!("{:.0}", ours(|round| round.rate)),
            format!("{:.0}", memory(|round| round.rate)),
        ]);
        Promise {
            what: format!(
                "processor time of Renew, Kubernetes/memory, API server {}",
                self.name()
            ),
            figure: ratio,
            unit: "",
            bound: Bound::AtMost(1.3),
        }
    }
}
