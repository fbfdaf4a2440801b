//! What the chart sets in our own containers is understood: each variable has a
//! flag, and each value is one that the flag takes.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use tunnel_registry::args::{Controller, Serve, Store};

use super::pods::pod;
use super::values::{rendered, title};

const PREFIX: &str = "TUNNEL_REGISTRY_";

#[derive(Debug, clap::Parser)]
struct Serving {
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, clap::Parser)]
struct Controlling {
    #[command(flatten)]
    controller: Controller,
}

/// The flags that say the same as a container's variables; an error says which
/// has none.
fn flags(command: &clap::Command, container: &Value) -> Result<Vec<String>, String> {
    let extra = container["args"].as_array().unwrap().iter().skip(1);
    let extra: Vec<_> = extra
        .map(|flag| flag.as_str().unwrap().to_owned())
        .collect();
    let mut flags = vec!["x".to_owned()];
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let mut all = command.get_arguments();
        let flag = all.find(|flag| flag.get_env().is_some_and(|env| env == name));
        let flag = flag.ok_or_else(|| format!("no flag has the variable {name}"))?;
        // What Kubernetes fills in is not known here.
        let Some(value) = variable["value"].as_str() else {
            continue;
        };
        let long = flag.get_long().unwrap();
        // A flag wins over its variable.
        if extra
            .iter()
            .any(|flag| flag.starts_with(&format!("--{long}=")))
        {
            continue;
        }
        match flag.get_action().takes_values() {
            true => flags.push(format!("--{long}={value}")),
            false if value == "true" => flags.push(format!("--{long}")),
            false => assert_eq!(value, "false", "{name}"),
        }
    }
    flags.extend(extra);
    Ok(flags)
}

/// What a container of ours is to do, in words; none for one that does neither.
fn understood(container: &Value) -> Result<Option<String>, String> {
    let told = match container["args"][0].as_str() {
        Some("serve") => {
            let flags = flags(&Serving::command(), container)?;
            let parsed = Serving::try_parse_from(flags).map_err(|error| error.to_string())?;
            let listens = parsed.serve.session.listen(&Store::Kubernetes).is_some();
            format!("serve, sessions: {listens}")
        }
        Some("controller") => {
            let flags = flags(&Controlling::command(), container)?;
            let parsed = Controlling::try_parse_from(flags).map_err(|error| error.to_string())?;
            let routes = parsed.controller.gateways.settings()?.is_some();
            format!("controller, sessions: {routes}")
        }
        _ => return Ok(None),
    };
    Ok(Some(told))
}

#[tokio::test]
async fn every_variable_has_a_flag_that_takes_its_value() {
    let mut told = BTreeSet::new();
    for one in rendered().await {
        for object in &one.objects {
            let Some(pod) = pod(object) else { continue };
            let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
            for container in lists.into_iter().filter_map(Value::as_array).flatten() {
                let what = format!("{}: {}", one.set.name, title(object));
                let ours = understood(container);
                told.extend(ours.unwrap_or_else(|error| panic!("{what}: {error}")));
            }
        }
    }
    let expected = [
        "controller, sessions: false",
        "controller, sessions: true",
        "serve, sessions: false",
        "serve, sessions: true",
    ];
    assert_eq!(told.iter().collect::<Vec<_>>(), expected);
}
