//! What a controller does with very many endpoints: its decisions in this
//! process, and the whole of it as a process.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tunnel_registry::backend::{Change, Revision, Stored};
use tunnel_registry::controller::plan::Pace;
use tunnel_registry::controller::plan::cluster::{ClusterPlan, ORPHAN_FOR};
use tunnel_registry::record::{EndpointKey, Kind, Record, ReplicaRecord};
use tunnel_registry::time::Now;

use super::{HOLDER, LEASE};
use crate::api_server::ApiServer;
use crate::common::Result;
use crate::common::options::Options;
use crate::common::process::own_cpu;
use crate::common::report::{Bound, Promise, Table, mebibytes};
use crate::common::wire::Endpoint;
use crate::millis;
use crate::objects::record;

/// How often a controller reads the replicas' leases, which is a pass.
const EVERY: Duration = Duration::from_secs(10);
/// As replicas make them.
const REPLICA_LEASE: u32 = 40;
/// Passes until a lease that nobody renews has certainly run out.
const UNTIL_LOST: u32 = 8;
/// A controller is watched for so long, with `--quick` in brackets.
const WATCHED: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(3)];

/// Prints the figures and returns what was promised of them.
pub async fn measure(
    options: &Options,
    server: &ApiServer,
    namespace: &str,
    endpoints: &[Endpoint],
) -> Result<Vec<Promise>> {
    let count = endpoints.len();
    let passes = passes(endpoints)?;
    let mut table = Table::new(["decisions about all, in this process", "processor time, ms"]);
    for (what, cpu) in &passes {
        table.row([(*what).into(), format!("{:.1}", millis(*cpu))]);
    }
    println!("\n## A controller of {count} endpoints\n\n{table}");

    let mut table = Table::new([
        "as a process",
        "ready after, s",
        "processor time until then, s",
        "s a minute afterwards",
        "resident, MiB",
        "peak, MiB",
    ]);
    let watched = WATCHED[usize::from(options.quick)];
    for (what, flags) in [
        ("it only watches (dry run)", &["--dry-run"][..]),
        ("it leads, and writes 20 statuses a second", &[]),
    ] {
        let controller = server.controller(namespace, flags).await?;
        let process = controller.process();
        let start = process.cpu()?;
        sleep(watched).await;
        let minutes = watched.as_secs_f64() / 60.0;
        let spent = process.cpu()?.since(&start).as_secs_f64();
        table.row([
            what.into(),
            format!("{:.2}", controller.started_in.as_secs_f64()),
            format!("{:.2}", start.total().as_secs_f64()),
            format!("{:.2}", spent / minutes),
            format!("{:.1}", mebibytes(process.resident()?)),
            format!("{:.1}", mebibytes(process.peak()?)),
        ]);
    }
    println!("\n{table}");
    let slowest = passes.iter().map(|(_, cpu)| *cpu).max();
    Ok(vec![Promise {
        what: format!("processor time of a controller's pass over {count} endpoints"),
        figure: slowest.unwrap_or_default().as_secs_f64(),
        unit: "s",
        bound: Bound::AtMost(1.0),
    }])
}

/// What each pass over all endpoints costs, by what it comes to.
fn passes(endpoints: &[Endpoint]) -> Result<Vec<(&'static str, Duration)>> {
    let mut stored = Vec::with_capacity(endpoints.len());
    for (endpoint, revision) in endpoints.iter().zip(1..) {
        stored.push(Stored {
            record: Record::Endpoint(Arc::new(record(endpoint, HOLDER, LEASE)?)),
            revision: Revision(revision),
        });
    }
    let keys: Vec<EndpointKey> = stored
        .iter()
        .filter_map(|stored| match &stored.record {
            Record::Endpoint(record) => Some(record.endpoint.key.clone()),
            _ => None,
        })
        .collect();
    let reset = |stored: &[Stored]| {
        let revision = Revision(stored.len() as u64);
        [Change::Reset(Kind::Endpoint, stored.to_vec(), revision)]
    };
    let mut now = Now::read();
    let mut replica = ReplicaRecord {
        identity: HOLDER.into(),
        renew_time: now.wall,
        duration_seconds: REPLICA_LEASE,
        stopped: false,
        suspects: Vec::new(),
    };
    let mut plan = ClusterPlan::new(Pace::cluster(), ORPHAN_FOR, now.mono);
    plan.contact(now.mono, &[Arc::new(replica.clone())]);

    let mut passes = Vec::new();
    let mut all = reset(&stored);
    passes.push((
        "they are listed for the first time",
        cpu_of(|| plan.apply(&all))?,
    ));
    all = reset(&stored);
    passes.push((
        "they are listed again, as they were",
        cpu_of(|| plan.apply(&all))?,
    ));

    now.mono += EVERY;
    replica.renew_time += EVERY;
    let renewed = [Arc::new(replica.clone())];
    let pass = cpu_of(|| pass(&mut plan, now, &renewed))?;
    passes.push(("their holder lives", pass));
    let statuses = cpu_of(|| {
        let standing = keys.iter().filter_map(|key| plan.standing(key, now.mono));
        std::hint::black_box(standing.count());
    })?;
    passes.push(("each status is decided", statuses));

    let mut slowest = Duration::ZERO;
    for _ in 0..UNTIL_LOST {
        now.mono += EVERY;
        slowest = slowest.max(cpu_of(|| self::pass(&mut plan, now, &renewed))?);
    }
    let waiting: usize = plan.waiting().iter().sum();
    if waiting != endpoints.len() {
        return Err(format!("{waiting} of {} endpoints became orphans", endpoints.len()).into());
    }
    passes.push(("their holder is lost, and all are orphans", slowest));
    now.mono += EVERY;
    let pass = cpu_of(|| self::pass(&mut plan, now, &renewed))?;
    passes.push(("all are orphans still", pass));
    Ok(passes)
}

/// What a controller does when it has read the replicas' leases.
fn pass(plan: &mut ClusterPlan, now: Now, replicas: &[Arc<ReplicaRecord>]) {
    plan.contact(now.mono, replicas);
    std::hint::black_box(plan.take_touched(now.mono));
    std::hint::black_box(plan.take_due(now.mono));
}

fn cpu_of(work: impl FnOnce()) -> Result<Duration> {
    let before = own_cpu()?;
    work();
    Ok(own_cpu()?.saturating_sub(before))
}
