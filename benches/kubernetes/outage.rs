//! What is away when the API server or etcd is: nothing that anybody notices.

#[path = "outage/herd.rs"]
mod herd;
#[path = "outage/real.rs"]
mod real;
#[path = "outage/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::api::ListParams;
use tokio::time::sleep;
use tunnel_registry::resources::tunnel_endpoint::name::object_name;

use crate::IMPATIENT;
use crate::api_server::ApiServer;
use crate::common::Result;
use crate::common::endpoints::Endpoints;
use crate::common::options::Options;
use crate::common::report::Promise;
use crate::common::servers::Registry;
use crate::common::wire::{CONNECTORS, Endpoint};
use crate::it::kube::cluster::Part;
use herd::{Herd, Tally, places};
use real::{Pair, Plan};
use report::{Row, report};

/// Tunnels that are there throughout, on this many gost servers.
const TUNNELS: usize = 200;
const NODES: usize = 10;
/// Tunnels that come, and as many that go, in each outage.
const PASSING: usize = 5;
/// An outage lasts for so long before they do.
const INTO: Duration = Duration::from_secs(3);
/// How long it may take until everything is as it should be.
const RIGHT_WITHIN: Duration = Duration::from_secs(180);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A visitor rests for so long between two answers.
const VISIT: Duration = Duration::from_millis(200);

const NAMESPACE: &str = "outage";

/// What happens, and for how long.
#[derive(Clone, Copy, Debug)]
struct Outage {
    what: What,
    lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Killed,
    EtcdRestarted,
    Hung,
}

/// How long everything takes.
struct Times {
    /// Between two renewals of an endpoint.
    every: Duration,
    outages: [Outage; 3],
    /// After each, when everything is right again: does it stay so?
    after: Duration,
    flags: &'static [&'static str],
    controller: &'static [&'static str],
}

/// With the times that the registry has by default, but for the time after a
/// start in which nothing goes: endpoints and replicas have leases of 60 and
/// 40 s.
const FULL: Times = Times {
    every: Duration::from_secs(15),
    outages: outages(90, 5, 75),
    after: Duration::from_secs(20),
    flags: &["--start-grace", "0s"],
    controller: &[],
};

/// Longer than an orphan waits for its holder to come back.
const LONG: Times = Times {
    every: Duration::from_secs(15),
    outages: outages(660, 60, 660),
    after: Duration::from_secs(660),
    flags: &["--start-grace", "0s"],
    controller: &[],
};

const QUICK: Times = Times {
    every: Duration::from_secs(1),
    outages: outages(10, 2, 10),
    after: Duration::from_secs(8),
    flags: &IMPATIENT,
    controller: &["--orphan-for", "10s", "--leader-lease", "3s"],
};

const fn outages(killed: u64, etcd: u64, hung: u64) -> [Outage; 3] {
    [
        Outage::new(What::Killed, killed),
        Outage::new(What::EtcdRestarted, etcd),
        Outage::new(What::Hung, hung),
    ]
}

impl Outage {
    const fn new(what: What, seconds: u64) -> Self {
        Self {
            what,
            lasts: Duration::from_secs(seconds),
        }
    }
}

/// What is counted all the time.
#[derive(Debug, Default)]
struct Tallies {
    gets: Tally,
    renewals: Tally,
    visits: Tally,
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options, long: bool) -> Result<Vec<Promise>> {
    eprintln!("outage");
    let times = match (options.quick, long) {
        (true, _) => QUICK,
        (false, false) => FULL,
        (false, true) => LONG,
    };
    let server = ApiServer::start(&options.server_bin).await?;
    server.namespace(NAMESPACE).await?;
    let plan = Plan::find();
    let hosts = plan.as_ref().map(Plan::hosts).unwrap_or_default();
    let mut replicas = Vec::new();
    for (name, host) in ["one", "two"].into_iter().zip(&hosts) {
        let pod_ip = ["--pod-ip", host.as_str()];
        let flags = match host.is_empty() {
            true => times.flags.to_vec(),
            false => [times.flags, &pod_ip].concat(),
        };
        replicas.push(server.replica(NAMESPACE, name, &flags).await?);
    }
    // Nobody else deletes what is not deregistered.
    let _controller = server.controller(NAMESPACE, times.controller).await?;
    let at = [replicas[0].at, replicas[1].at];
    let pair = match &plan {
        Ok(plan) => Some(Pair::start(plan, at).await?),
        Err(_) => None,
    };
    let herds = at.map(Herd::new);
    let mut source = Endpoints::new(1, NODES);
    let stable = source.tunnels(TUNNELS);
    for (herd, endpoints) in herds.iter().zip(places(&stable)) {
        herd.register(&endpoints).await?;
    }
    let tallies = Tallies::default();
    let mut script = Script {
        expected: BTreeMap::new(),
        server,
        replicas,
        herds: &herds,
        source,
        tallies: &tallies,
    };
    let rows = tokio::select! {
        rows = script.run(&times) => rows?,
        error = herds[0].renew(times.every, &tallies.renewals) => return Err(error),
        error = herds[1].renew(times.every, &tallies.renewals) => return Err(error),
        error = herds[0].ask(&stable, &tallies.gets) => return Err(error),
        error = herds[1].ask(&stable, &tallies.gets) => return Err(error),
        () = visit(pair.as_ref(), &tallies.visits) => return Err("nobody visits".into()),
    };
    Ok(report(&rows, plan.err()))
}

/// Visits for ever, if there is somebody to visit.
async fn visit(pair: Option<&Pair>, tally: &Tally) {
    loop {
        if let Some(pair) = pair {
            tally.count("visit", pair.visit()).await;
        }
        sleep(VISIT).await;
    }
}

/// Brings the outages about.
struct Script<'a> {
    server: ApiServer,
    replicas: Vec<Registry>,
    herds: &'a [Herd; 2],
    source: Endpoints,
    tallies: &'a Tallies,
    /// The objects that there should be, by name, with the uid of each that has
    /// been seen.
    expected: BTreeMap<String, Option<String>>,
}

impl Script<'_> {
    async fn run(&mut self, times: &Times) -> Result<Vec<Row>> {
        // The real gosts' endpoints are among them.
        for (name, uid) in self.stored().await? {
            self.expected.insert(name, Some(uid));
        }
        let mut rows = Vec::new();
        for outage in times.outages {
            eprintln!("outage: {}, {:?}", outage.what.name(), outage.lasts);
            let leaving = self.source.tunnels(PASSING);
            self.arrive(&leaving).await?;
            self.until_right(&leaving, &[]).await?;
            rows.push(self.outage(outage, times.after, &leaving).await?);
        }
        Ok(rows)
    }

    async fn outage(
        &mut self,
        outage: Outage,
        after: Duration,
        leaving: &[Endpoint],
    ) -> Result<Row> {
        let tallies = self.tallies;
        for tally in [&tallies.gets, &tallies.renewals, &tallies.visits] {
            tally.take();
        }
        let began = Instant::now();
        outage.what.begin(&mut self.server).await;
        sleep(INTO.min(outage.lasts / 2)).await;
        let coming = self.source.tunnels(PASSING);
        let call = self.arrive(&coming).await?.max(self.leave(leaving).await?);
        sleep(outage.lasts.saturating_sub(began.elapsed())).await;
        outage.what.end(&mut self.server);
        self.server.cluster.ready().await;
        let ready = Instant::now();
        let away = ready - began;
        self.until_right(&coming, leaving).await?;
        let right_after = ready.elapsed();
        sleep(after).await;
        let wrong = self.wrong(&coming, leaving).await?;
        let stored = self.stored().await?;
        let was_lost = |(name, uid): &(&String, &Option<String>)| {
            uid.is_some() && stored.get(*name) != uid.as_ref()
        };
        let lost = self.expected.iter().filter(was_lost).count();
        for (name, uid) in &mut self.expected {
            *uid = stored.get(name).cloned();
        }
        Ok(Row {
            what: outage.what.name(),
            away,
            gets: tallies.gets.take(),
            renewals: tallies.renewals.take(),
            visits: tallies.visits.take(),
            call,
            right_after,
            wrong,
            lost,
        })
    }

    /// Tunnels are registered. Tells how long that took.
    async fn arrive(&mut self, endpoints: &[Endpoint]) -> Result<Duration> {
        for endpoint in endpoints {
            self.expected.insert(name(endpoint)?, None);
        }
        let [one, two] = places(endpoints);
        let began = Instant::now();
        tokio::try_join!(self.herds[0].register(&one), self.herds[1].register(&two))?;
        Ok(began.elapsed())
    }

    /// Tunnels are deregistered.
    async fn leave(&mut self, endpoints: &[Endpoint]) -> Result<Duration> {
        for endpoint in endpoints {
            self.expected.remove(&name(endpoint)?);
        }
        let [one, two] = places(endpoints);
        let began = Instant::now();
        tokio::try_join!(
            self.herds[0].deregister(&one),
            self.herds[1].deregister(&two)
        )?;
        Ok(began.elapsed())
    }

    /// The objects that there are, by name, with their uids. An API server that
    /// has come back may not list at once.
    async fn stored(&self) -> Result<BTreeMap<String, String>> {
        let api = ApiServer::endpoints(self.server.client().await?, NAMESPACE);
        let began = Instant::now();
        let all = loop {
            match api.list(&ListParams::default()).await {
                Ok(list) => break list.items.into_iter(),
                Err(error) if began.elapsed() > RIGHT_WITHIN => return Err(error.into()),
                Err(_) => sleep(LOOK).await,
            }
        };
        let each = all.map(|object| (object.metadata.name, object.metadata.uid));
        Ok(each
            .map(|(name, uid)| (name.unwrap_or_default(), uid.unwrap_or_default()))
            .collect())
    }

    /// Waits until nothing is wrong, or for as long as that may take.
    async fn until_right(&mut self, coming: &[Endpoint], left: &[Endpoint]) -> Result<()> {
        let began = Instant::now();
        while self.wrong(coming, left).await? > 0 {
            if began.elapsed() > RIGHT_WITHIN {
                eprintln!("outage: not right after {RIGHT_WITHIN:?}");
                break;
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// How much is not as it should be: objects, writes that wait, and what both
    /// replicas answer about who came and who left.
    async fn wrong(&mut self, coming: &[Endpoint], left: &[Endpoint]) -> Result<usize> {
        let stored = self.stored().await?;
        let missing = self
            .expected
            .keys()
            .filter(|name| !stored.contains_key(*name));
        let surplus = stored
            .keys()
            .filter(|name| !self.expected.contains_key(*name));
        let mut wrong = missing.count() + surplus.count();
        for (replica, herd) in self.replicas.iter().zip(self.herds) {
            let waiting = replica.metric("tunnel_registry_write_queue_length").await?;
            wrong += waiting as usize;
            for (tunnels, connectors) in [(coming, CONNECTORS), (left, 0)] {
                for endpoint in tunnels.iter().step_by(CONNECTORS) {
                    wrong += usize::from(herd.offers(endpoint).await? != connectors);
                }
            }
        }
        Ok(wrong)
    }
}

/// The name of an endpoint's object.
fn name(endpoint: &Endpoint) -> Result<String> {
    Ok(object_name(&tunnel_registry::record::EndpointKey {
        tunnel: endpoint.name.parse()?,
        node: endpoint.node.parse()?,
        connector: endpoint.id.parse()?,
    }))
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "API server killed",
            Self::EtcdRestarted => "etcd killed and restarted",
            Self::Hung => "API server hung",
        }
    }

    async fn begin(self, server: &mut ApiServer) {
        match self {
            Self::Killed => server.cluster.kill(Part::ApiServer).await,
            Self::EtcdRestarted => server.cluster.kill(Part::Etcd).await,
            Self::Hung => server.cluster.freeze(Part::ApiServer).await,
        }
    }

    fn end(self, server: &mut ApiServer) {
        match self {
            Self::Killed => server.cluster.run(Part::ApiServer),
            Self::EtcdRestarted => server.cluster.run(Part::Etcd),
            Self::Hung => server.cluster.thaw(Part::ApiServer),
        }
    }
}
