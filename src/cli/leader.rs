//! `leader`: who leads a service.

use std::process::ExitCode;

use futures::Stream;
use serde_json::json;
use tunnel_registry_client::{Client, Event, Instance};

use crate::args::client::{Leader, Lines};
use crate::cli::output::Output;
use crate::cli::problem::Problem;
use crate::cli::watch::Events;
use crate::signals::Signal;
use crate::table::printable;
use crate::time::Now;

pub(super) async fn run(
    args: &Leader,
    client: &Client,
    signals: impl Stream<Item = Signal> + Unpin,
    output: &Output,
) -> Result<ExitCode, Problem> {
    let service = &args.service;
    if args.watch {
        return follow(args, client, signals, output).await;
    }
    if let Some(named) = &args.set {
        let id = resolve(client, service, named).await?;
        client.set_leader(service, &id).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let leader = client.leader(service).await?;
    let Some(leader) = leader else {
        return Err(Problem::NotThere(format!(
            "nobody leads {service}, or there is no such service; `tunnel-registry get` shows all"
        )));
    };
    match args.output {
        Lines::Text => output.line(&printable(&leader.addr))?,
        Lines::Json => output.json(&leader)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(
    args: &Leader,
    client: &Client,
    mut signals: impl Stream<Item = Signal> + Unpin,
    output: &Output,
) -> Result<ExitCode, Problem> {
    // Not only the leaders: a loss is told, too.
    let mut events = Events::of(client, &args.service);
    let mut is_told = false;
    while let Some(event) = events.next(&mut signals, output).await? {
        let leader = match event {
            Event::Leader(leader) => leader,
            // Nobody leads.
            Event::Current if !is_told => None,
            _ => continue,
        };
        is_told = true;
        let now = Now::read().wall;
        match args.output {
            Lines::Text => {
                let addr = leader.map_or_else(|| "nobody".into(), |leader| printable(&leader.addr));
                output.line(&format!("{now:.0}  {addr}"))?;
            }
            Lines::Json => {
                output.json(&json!({ "time": format!("{now:.3}"), "leader": leader }))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of an instance that is named by it, or by its address.
async fn resolve(client: &Client, service: &str, named: &str) -> Result<String, Problem> {
    // An address has a colon. A leader need not be there.
    if !named.contains(':') {
        return Ok(named.to_owned());
    }
    let all = client.instances(service).await?;
    let mut found = all.iter().filter(|instance| instance.addr == named);
    match (found.next(), found.next()) {
        (Some(Instance { id, .. }), None) => Ok(id.clone()),
        (None, _) => Err(Problem::NotThere(format!(
            "no instance of {service} is at {named}; name one that is not there yet by its id. Only a service that was made with --leader manual takes one"
        ))),
        (Some(_), Some(_)) => Err(Problem::NotThere(format!(
            "several instances of {service} are at {named}; name one by its id, which `tunnel-registry get -o wide {service}` shows"
        ))),
    }
}
