//! `get`: the instances of a service, or all services.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use tunnel_registry_client::{Client, Instance, Service};

use crate::args::client::{Get, Listing};
use crate::cli::output::Output;
use crate::cli::problem::Problem;
use crate::table::{or_none, printable, table};

/// How many characters of an id a table shows: enough to tell instances apart.
const ID: usize = 8;
/// How many characters of attributes a table shows.
const META: usize = 60;

pub(super) async fn run(args: &Get, client: &Client, output: &Output) -> Result<ExitCode, Problem> {
    match &args.service {
        None => {
            let all = client.services().await?;
            if all.is_empty() && is_table(args.output) {
                output.note("there are no services; `tunnel-registry service create` makes one");
            } else {
                output.text(&services(&all, args.output)?)?;
            }
        }
        Some(name) => {
            let (all, leader) = tokio::try_join!(client.instances(name), client.leader(name))?;
            if all.is_empty() && is_table(args.output) {
                output.note(&format!("{name} has no instances"));
            } else {
                let leader = leader.map(|leader| leader.id);
                output.text(&instances(&all, leader.as_deref(), args.output)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_table(listing: Listing) -> bool {
    matches!(listing, Listing::Table | Listing::Wide)
}

fn services(all: &[Service], listing: Listing) -> Result<String, Problem> {
    if listing == Listing::Json {
        return json(all);
    }
    if listing == Listing::Name {
        return Ok(names(all.iter().map(|service| service.name.as_str())));
    }
    let rows: Vec<_> = all
        .iter()
        .map(|service| {
            [
                printable(&service.name),
                service.leader_type.to_string(),
                service.instances.to_string(),
                or_none(
                    service
                        .leader
                        .as_ref()
                        .map(|leader| printable(&leader.addr)),
                ),
            ]
        })
        .collect();
    Ok(table(
        ["SERVICE", "LEADER-TYPE", "INSTANCES", "LEADER"],
        &rows,
    ))
}

/// An instance with whether it leads.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    instance: &'a Instance,
    leader: bool,
}

fn instances(all: &[Instance], leader: Option<&str>, listing: Listing) -> Result<String, Problem> {
    let leads = |instance: &Instance| leader == Some(&instance.id);
    if listing == Listing::Json {
        let shown = all.iter().map(|instance| Shown {
            instance,
            leader: leads(instance),
        });
        return json(&shown.collect::<Vec<_>>());
    }
    if listing == Listing::Name {
        return Ok(names(all.iter().map(|instance| instance.addr.as_str())));
    }
    let (id, meta) = match listing {
        Listing::Wide => (usize::MAX, usize::MAX),
        _ => (ID, META),
    };
    let rows: Vec<_> = all
        .iter()
        .map(|instance| {
            [
                instance.id.chars().take(id).collect(),
                printable(&instance.addr),
                printable(&instance.proto),
                instance.index.to_string(),
                if leads(instance) { "*" } else { "" }.to_owned(),
                cut(&attributes(&instance.meta), meta),
            ]
        })
        .collect();
    let columns = ["ID", "ADDR", "PROTO", "INDEX", "LEADER", "META"];
    Ok(table(columns, &rows))
}

/// Attributes as one text.
pub(super) fn attributes(meta: &BTreeMap<String, String>) -> String {
    let all = meta.iter().map(|(name, text)| format!("{name}={text}"));
    printable(&all.collect::<Vec<_>>().join(","))
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.map(|name| format!("{}\n", printable(name))).collect()
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Problem> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Problem::Output(error.into()))?;
    Ok(format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json};

    use super::*;

    fn two() -> Vec<Instance> {
        let mut one = Instance::new("10.0.0.1:80").with_meta("zone", "b\u{1b}[2J");
        one.index = 7;
        let mut two = Instance::new("[2001:db8::1]:8080").with_proto("http");
        two = two.with_meta("a", "1").with_meta("long", "x".repeat(100));
        two.index = 12;
        vec![one, two]
    }

    #[test]
    fn instances_are_a_table_with_the_leader_marked() {
        let all = two();
        let text = instances(&all, Some(&all[0].id), Listing::Table).unwrap();
        let long = "x".repeat(50);
        let expected = format!(
            "ID        ADDR                PROTO  INDEX  LEADER  META\n\
             {}  10.0.0.1:80         tcp    7      *       zone=b\u{fffd}[2J\n\
             {}  [2001:db8::1]:8080  http   12             a=1,long={long}…\n",
            &all[0].id[..8],
            &all[1].id[..8],
        );
        assert_eq!(text, expected);
        let wide = instances(&all, None, Listing::Wide).unwrap();
        assert!(
            wide.contains(&all[1].id) && wide.contains(&"x".repeat(100)),
            "{wide}"
        );
        assert!(!wide.contains('*'), "{wide}");
    }

    #[test]
    fn machines_get_everything_and_names_alone() {
        let all = two();
        let text = instances(&all, Some(&all[1].id), Listing::Json).unwrap();
        let value: Value = from_str(&text).unwrap();
        assert_eq!(value[0]["leader"], json!(false));
        assert_eq!(value[1]["leader"], json!(true));
        assert_eq!(value[0]["meta"]["zone"], json!("b\u{1b}[2J"));
        let names = instances(&all, None, Listing::Name).unwrap();
        assert_eq!(names, "10.0.0.1:80\n[2001:db8::1]:8080\n");
        assert_eq!(instances(&[], None, Listing::Json).unwrap(), "[]\n");
    }

    #[test]
    fn services_are_a_table() {
        let all: Vec<Service> = serde_json::from_value(json!([
            { "service": "db", "leader_type": "oldest", "instances": 2, "leader": two()[0] },
            { "service": "web", "leader_type": "manual", "instances": 0 },
        ]))
        .unwrap();
        assert_eq!(
            services(&all, Listing::Table).unwrap(),
            "SERVICE  LEADER-TYPE  INSTANCES  LEADER\n\
             db       oldest       2          10.0.0.1:80\n\
             web      manual       0          -\n"
        );
        assert_eq!(services(&all, Listing::Name).unwrap(), "db\nweb\n");
    }
}
