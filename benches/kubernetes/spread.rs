//! One gost whose calls are spread over two shared replicas by chance, as a
//! Service without session affinity would.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tunnel_registry::resources::TunnelEndpoint;
use tunnel_registry::resources::tunnel_endpoint::HOLDER;

use crate::IMPATIENT;
use crate::api_server::ApiServer;
use crate::call_each;
use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table};
use crate::common::wire::{CONNECTORS, Call, Endpoint, Protocol, Request};
use crate::common::{Error, Result};

/// Tunnels of the gost, and its tunnel handlers, each a node of its own.
const TUNNELS: usize = 25;
const HANDLERS: usize = 2;

const NAMESPACE: &str = "spread";

/// How long everything takes.
struct Times {
    /// Between two renewals of an endpoint.
    every: Duration,
    lasts: Duration,
    flags: &'static [&'static str],
}

/// As long as the promise says, with the times that the registry has by default.
const FULL: Times = Times {
    every: Duration::from_secs(15),
    lasts: Duration::from_secs(600),
    flags: &["--start-grace", "0s"],
};

const QUICK: Times = Times {
    every: Duration::from_secs(1),
    lasts: Duration::from_secs(20),
    flags: &IMPATIENT,
};

/// What became of the endpoints, as the API server tells it.
#[derive(Debug, Default)]
struct Told {
    /// Who holds each.
    holders: HashMap<String, Option<String>>,
    /// How often each changed hands.
    moves: HashMap<String, usize>,
    released: usize,
    deleted: usize,
}

impl Told {
    fn note(&mut self, object: &TunnelEndpoint) {
        let name = object.name_any();
        let holder = object.annotations().get(HOLDER).cloned();
        self.released += usize::from(holder.is_none());
        if let Some(before) = self.holders.insert(name.clone(), holder.clone())
            && before != holder
        {
            *self.moves.entry(name).or_default() += 1;
        }
    }
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("spread");
    let times = if options.quick { QUICK } else { FULL };
    let server = ApiServer::start(&options.server_bin).await?;
    server.namespace(NAMESPACE).await?;
    let one = server.replica(NAMESPACE, "one", times.flags).await?;
    let two = server.replica(NAMESPACE, "two", times.flags).await?;
    let _controller = server.controller(NAMESPACE, &[]).await?;
    let mut clients = [
        Client::connect(Protocol::Grpc, one.at, 1, 1).await?,
        Client::connect(Protocol::Grpc, two.at, 1, 1).await?,
    ];
    let endpoints = Endpoints::new(1, HANDLERS).tunnels(TUNNELS);
    for endpoint in &endpoints {
        let client = &mut clients[fastrand::usize(..2)];
        call_each(client, Call::Register, std::slice::from_ref(endpoint)).await?;
    }
    let api = ApiServer::endpoints(server.client().await?, NAMESPACE);
    let mut told = Told::default();
    let calls = tokio::select! {
        error = follow(&api, &mut told) => return Err(error),
        calls = timeout(times.lasts, renew(&mut clients, &endpoints, times.every)) => match calls {
            Ok(error) => return Err(error),
            Err(_) => times.lasts.as_secs_f64() / times.every.as_secs_f64(),
        },
    };
    let stored = server.count(NAMESPACE).await?;
    if stored != endpoints.len() || told.holders.len() != endpoints.len() {
        return Err(format!("{stored} of {} endpoints are stored", endpoints.len()).into());
    }
    Ok(report(&told, &times, endpoints.len(), calls))
}

fn report(told: &Told, times: &Times, endpoints: usize, calls: f64) -> Vec<Promise> {
    let minutes = times.lasts.as_secs_f64() / 60.0;
    let all: usize = told.moves.values().sum();
    let most = told.moves.values().copied().max().unwrap_or_default();
    let mut table = Table::new(["what", "count"]);
    for (what, count) in [
        ("renewals of each, at either replica by chance", calls),
        ("endpoints retired", (told.released + told.deleted) as f64),
        ("changes of hands, of all", all as f64),
        ("of one, at most", most as f64),
    ] {
        table.row([what.into(), format!("{count:.0}")]);
    }
    println!(
        "\n## {endpoints} endpoints of one gost, two replicas, {:?}\n\n{table}",
        times.lasts
    );
    println!("\nNo renewal and no Get failed, and every Get listed all connectors.");
    vec![
        Promise {
            what: "endpoints retired while calls are spread over two replicas".into(),
            figure: (told.released + told.deleted) as f64,
            unit: "",
            bound: Bound::AtMost(0.0),
        },
        Promise {
            what: "ownership writes of an endpoint meanwhile".into(),
            figure: most as f64 / minutes,
            unit: "a minute",
            bound: Bound::AtMost(1.0),
        },
    ]
}

/// Renews each endpoint in turn, and asks for its tunnel, at a replica by chance.
/// A call that fails, or a Get that lacks a connector, is an error.
async fn renew(clients: &mut [Client; 2], endpoints: &[Endpoint], every: Duration) -> Error {
    let mut ticks = interval(every / u32::try_from(endpoints.len()).unwrap_or(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for endpoint in endpoints {
            ticks.tick().await;
            for call in [Call::Renew, Call::Get] {
                let caller = &mut clients[fastrand::usize(..2)].callers[0];
                let done = async {
                    let request = Request::new(Protocol::Grpc, call, endpoint)?;
                    caller.ask(&request).await
                };
                match done.await {
                    Err(error) => return error,
                    Ok(listed) if call == Call::Get && listed.len() != CONNECTORS => {
                        return format!("Get listed {} connectors", listed.len()).into();
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}

/// Follows what is stored, for ever.
async fn follow(api: &Api<TunnelEndpoint>, told: &mut Told) -> Error {
    loop {
        let followed = async {
            let list = api.list(&ListParams::default()).await?;
            list.items.iter().for_each(|object| told.note(object));
            let version = list.metadata.resource_version.unwrap_or_default();
            let mut changes = std::pin::pin!(api.watch(&WatchParams::default(), &version).await?);
            while let Some(change) = changes.try_next().await? {
                match change {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => told.note(&object),
                    WatchEvent::Deleted(_) => told.deleted += 1,
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(status) => return Err(Error::from(status.to_string())),
                }
            }
            Result::Ok(())
        };
        // A watch ends after some minutes; what it misses the next list tells.
        if let Err(error) = followed.await {
            return error;
        }
    }
}
