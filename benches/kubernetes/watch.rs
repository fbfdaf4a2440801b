//! How soon one replica serves what another has registered.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api_server::ApiServer;
use crate::common::client::Client;
use crate::common::endpoints::Endpoints;
use crate::common::options::Options;
use crate::common::report::{Bound, Promise, Table, percentile};
use crate::common::wire::{Call, Protocol, Request};
use crate::common::{Error, Result};
use crate::millis;

/// Registrations, with `--quick` in brackets.
const COUNT: [usize; 2] = [1_000, 50];
/// gost servers that they are spread over.
const NODES: usize = 10;
/// One registration begins so long after the one before it, or when that is
/// served: some 30 a second, far from what an API server can take.
const PACE: Duration = Duration::from_millis(33);
/// How long the other replica rests between two answers.
const ASK: Duration = Duration::from_micros(500);
/// Nobody waits for longer.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

const NAMESPACE: &str = "watch";

/// One registration.
struct Sample {
    /// Until it was answered, which is when it was stored.
    answered: Duration,
    /// Until the other replica offered it.
    served: Duration,
}

/// Prints the figures and returns what was promised of them.
pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    eprintln!("watch");
    let server = ApiServer::start(&options.server_bin).await?;
    server.namespace(NAMESPACE).await?;
    let one = server.replica(NAMESPACE, "one", &[]).await?;
    let other = server.replica(NAMESPACE, "other", &[]).await?;
    let mut gost = Client::connect(Protocol::Grpc, one.at, 1, 1).await?;
    let mut visitor = Client::connect(Protocol::Grpc, other.at, 1, 1).await?;
    let mut endpoints = Endpoints::new(1, NODES);
    let count = COUNT[usize::from(options.quick)];
    let mut samples = Vec::with_capacity(count);
    while samples.len() < count {
        let endpoint = endpoints.give();
        let register = Request::new(Protocol::Grpc, Call::Register, &endpoint)?;
        let get = Request::new(Protocol::Grpc, Call::Get, &endpoint)?;
        let began = Instant::now();
        let answered = async {
            gost.callers[0].ask(&register).await?;
            Ok(began.elapsed())
        };
        let served = async {
            while !visitor.callers[0].ask(&get).await?.contains(&endpoint) {
                if began.elapsed() > SERVED_WITHIN {
                    return Err(Error::from("the other replica does not serve it"));
                }
                sleep(ASK).await;
            }
            Ok(began.elapsed())
        };
        let (answered, served) = tokio::try_join!(answered, served)
            .map_err(|error| one.process().blamed(other.process().blamed(error)))?;
        samples.push(Sample { answered, served });
        sleep(PACE.saturating_sub(began.elapsed())).await;
    }
    Ok(report(&samples))
}

fn report(samples: &[Sample]) -> Vec<Promise> {
    let sorted = |pick: fn(&Sample) -> Duration| {
        let mut times: Vec<_> = samples.iter().map(pick).collect();
        times.sort_unstable();
        times
    };
    let served = sorted(|sample| sample.served);
    let mut table = Table::new(["until", "p50, ms", "p99, ms", "longest, ms"]);
    for (until, times) in [
        ("Register is answered", sorted(|sample| sample.answered)),
        ("the other replica's Get offers it", served.clone()),
    ] {
        let at = |share| format!("{:.1}", millis(percentile(&times, share)));
        table.row([until.into(), at(0.50), at(0.99), at(1.0)]);
    }
    let count = samples.len();
    println!("\n## {count} registrations, one replica to the other\n\n{table}");
    println!("\nFrom when gost sends Register, at most one every {PACE:?}.");
    vec![Promise {
        what: "p99 until the other replica offers what one has registered".into(),
        figure: millis(percentile(&served, 0.99)),
        unit: "ms",
        bound: Bound::AtMost(100.0),
    }]
}
