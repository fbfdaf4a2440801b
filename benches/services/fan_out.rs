//! Many subscribers of one service that changes all the time.

use std::time::{Duration, Instant};

use super::common::Result;
use super::common::options::Options;
use super::common::process::own_cpu;
use super::common::report::{Bound, Promise, Table, mebibytes, percentile};
use super::common::servers::{Registry, Store};
use super::instances::Instances;
use super::nothing::Nothing;
use super::subscriber::Subscriber;
use futures::future::{try_join, try_join_all};

/// Changes a second.
const CHANGES: usize = 100;

/// How large the load is.
#[derive(Clone, Copy, Debug)]
struct Size {
    instances: usize,
    subscribers: usize,
    seconds: usize,
}

/// What a round took.
#[derive(Debug)]
struct Round {
    /// From when a change was sent to when each subscriber had it, shortest first.
    delays: Vec<Duration>,
    /// From when a change was sent to its answer, shortest first.
    answers: Vec<Duration>,
    /// Changes a second that were made.
    rate: f64,
    /// Processor time of the server a second.
    server: f64,
    /// Processor time of those who load it a second.
    load: f64,
}

pub async fn measure(options: &Options) -> Result<Vec<Promise>> {
    let size = match options.quick {
        true => Size {
            instances: 100,
            subscribers: 50,
            seconds: 1,
        },
        false => Size {
            instances: 1_000,
            subscribers: 1_000,
            seconds: 20,
        },
    };
    println!(
        "\n## {} subscribers of one service with {} instances, {CHANGES} changes a second for {} s\n",
        size.subscribers, size.instances, size.seconds
    );
    let mut table = Table::new([
        "server",
        "changes/s",
        "p50, ms",
        "p99, ms",
        "max, ms",
        "answer p99, ms",
        "processor, server",
        "processor, load",
    ]);
    let bare = bare(size).await?;
    row(&mut table, "nothing but writing", &bare);
    let mut promises = Vec::new();
    let mut memory = Table::new([
        "store",
        "started, MiB",
        "with instances",
        "with subscribers",
        "most",
    ]);
    let folder = tempfile::tempdir()?;
    let stores = [
        ("memory", Store::Memory),
        ("file", Store::File(folder.path().join("registry.redb"))),
    ];
    for (name, store) in stores {
        let flags = [
            "--max-connections",
            "4096",
            "--max-connections-per-address",
            "4096",
        ];
        let registry = Registry::start(&options.server_bin, &store, &flags).await?;
        let (round, resident) = registered(&registry, size).await?;
        memory.row(
            [name.into()]
                .into_iter()
                .chain(resident.map(|bytes| format!("{:.0}", mebibytes(bytes)))),
        );
        row(&mut table, name, &round);
        let ended = registry
            .metric("tunnel_registry_service_subscribers_ended_total")
            .await?;
        registry.stop().await?;
        promises.push(Promise {
            what: format!("p99 from a change to each subscriber, {name}"),
            figure: percentile(&round.delays, 0.99).as_secs_f64() * 1e3,
            unit: "ms",
            bound: Bound::AtMost(250.0),
        });
        promises.push(Promise {
            what: format!("subscribers that were ended, {name}"),
            figure: ended,
            unit: "",
            bound: Bound::AtMost(0.0),
        });
    }
    println!(
        "{table}\n\nEvery subscriber was told of every change, in order. Resident memory:\n\n{memory}"
    );
    Ok(promises)
}

/// The yardstick.
async fn bare(size: Size) -> Result<Round> {
    let nothing = Nothing::open()?;
    let at = nothing.at()?;
    let changes = CHANGES * size.seconds;
    let telling = std::thread::spawn(move || nothing.tell(size.subscribers, changes, pause()));
    let mut subscribers = Vec::new();
    for _ in 0..size.subscribers {
        subscribers.push(Subscriber::open(at).await?);
    }
    let before = own_cpu()?;
    let began = Instant::now();
    let follow = subscribers
        .into_iter()
        .map(|subscriber| subscriber.follow(changes));
    let told = try_join_all(follow).await?;
    let time = began.elapsed().as_secs_f64();
    let sent = telling.join().map_err(|_| "the yardstick failed")??;
    Ok(Round {
        delays: delays(&sent, &told),
        answers: Vec::new(),
        rate: changes as f64 / time,
        server: 0.0,
        // Both sides are in this process.
        load: (own_cpu()? - before).as_secs_f64() / time,
    })
}

/// The registry, with its memory: started, with instances, with subscribers, and
/// the most.
async fn registered(registry: &Registry, size: Size) -> Result<(Round, [u64; 4])> {
    let process = registry.process();
    let started = process.resident()?;
    let instances = Instances::register(registry.at, size.instances).await?;
    let with_instances = process.resident()?;
    let mut subscribers = Vec::new();
    for _ in 0..size.subscribers {
        let mut subscriber = Subscriber::open(registry.at).await?;
        subscriber.present().await?;
        if subscriber.present != size.instances {
            return Err(
                format!("a subscriber was told of {} instances", subscriber.present).into(),
            );
        }
        subscribers.push(subscriber);
    }
    let with_subscribers = process.resident()?;

    let changes = CHANGES * size.seconds;
    let (cpu, own) = (process.cpu()?, own_cpu()?);
    let began = Instant::now();
    let follow = try_join_all(
        subscribers
            .into_iter()
            .map(|subscriber| subscriber.follow(changes)),
    );
    let ((sent, mut answers), told) = tokio::select! {
        both = try_join(instances.change(changes, pause()), follow) => both?,
        failed = instances.beat() => return Err(failed),
    };
    let time = began.elapsed().as_secs_f64();
    answers.sort_unstable();
    let round = Round {
        delays: delays(&sent, &told),
        answers,
        rate: changes as f64 / time,
        server: process.cpu()?.since(&cpu).as_secs_f64() / time,
        load: (own_cpu()? - own).as_secs_f64() / time,
    };
    let memory = [started, with_instances, with_subscribers, process.peak()?];
    Ok((round, memory))
}

fn pause() -> Duration {
    Duration::from_secs(1) / CHANGES as u32
}

fn delays(sent: &[Instant], told: &[Vec<Instant>]) -> Vec<Duration> {
    let all = told.iter().flat_map(|told| sent.iter().zip(told));
    let mut all: Vec<Duration> = all
        .map(|(sent, told)| told.saturating_duration_since(*sent))
        .collect();
    all.sort_unstable();
    all
}

fn row(table: &mut Table, name: &str, round: &Round) {
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    table.row([
        name.into(),
        format!("{:.0}", round.rate),
        ms(percentile(&round.delays, 0.5)),
        ms(percentile(&round.delays, 0.99)),
        ms(round.delays.last().copied().unwrap_or_default()),
        ms(percentile(&round.answers, 0.99)),
        format!("{:.2}", round.server),
        format!("{:.2}", round.load),
    ]);
}
