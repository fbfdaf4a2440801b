//! `watch`: what happens to a service.

use std::process::ExitCode;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use tunnel_registry_client::{Client, Event, Instance};

use crate::args::client::{Lines, Watch};
use crate::cli::get::attributes;
use crate::cli::output::Output;
use crate::cli::problem::Problem;
use crate::signals::Signal;
use crate::table::printable;
use crate::time::Now;

pub(super) async fn run(
    args: &Watch,
    client: &Client,
    mut signals: impl Stream<Item = Signal> + Unpin,
    output: &Output,
) -> Result<ExitCode, Problem> {
    let mut events = Events::of(client, &args.service);
    while let Some(event) = events.next(&mut signals, output).await? {
        let now = Now::read().wall;
        match args.output {
            Lines::Text => {
                if let Some(line) = line(now, &event) {
                    output.line(&line)?;
                }
            }
            Lines::Json => {
                if let Some(object) = object(now, &args.service, &event) {
                    output.json(&object)?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What happens to a service. Losses of the registry are told to people.
pub(super) struct Events {
    watch: tunnel_registry_client::Watch,
    losses: Losses,
}

impl Events {
    /// Those of this service.
    pub fn of(client: &Client, service: &str) -> Self {
        Self {
            watch: client.watch(service),
            losses: Losses::default(),
        }
    }

    /// The next one; none after a signal.
    pub async fn next(
        &mut self,
        signals: &mut (impl Stream<Item = Signal> + Unpin),
        output: &Output,
    ) -> Result<Option<Event>, Problem> {
        let event = tokio::select! {
            _ = signals.next() => return Ok(None),
            event = self.watch.next() => event,
        };
        let event = event.transpose()?;
        if let Some(note) = event.as_ref().and_then(|event| self.losses.note(event)) {
            output.note(&note);
        }
        Ok(event)
    }
}

/// Tells people of losses, and of their end.
#[derive(Debug, Default)]
struct Losses {
    is_lost: bool,
}

impl Losses {
    /// What to say of an event.
    fn note(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Lost(error) => {
                self.is_lost = true;
                Some(format!("{error}; trying again"))
            }
            Event::Current if std::mem::take(&mut self.is_lost) => {
                Some("connected again; whatever was missed has been told".into())
            }
            _ => None,
        }
    }
}

/// An event for people.
fn line(now: Timestamp, event: &Event) -> Option<String> {
    let about = match event {
        Event::Up(instance) | Event::Update(instance) | Event::Down(instance) => shown(instance),
        Event::Leader(Some(leader)) => printable(&leader.addr),
        Event::Leader(None) => "nobody".into(),
        Event::ServiceMeta(Some(meta)) => printable(&meta.data.to_string()),
        Event::ServiceMeta(None) => "none".into(),
        Event::Current => String::new(),
        _ => return None,
    };
    let line = format!("{now:.0}  {:<12}  {about}", event.kind());
    Some(line.trim_end().to_owned())
}

fn shown(instance: &Instance) -> String {
    let (addr, proto) = (printable(&instance.addr), printable(&instance.proto));
    format!("{addr}  {proto}  {}", attributes(&instance.meta))
}

/// An event for machines: as the API sends it, with the time.
fn object(now: Timestamp, service: &str, event: &Event) -> Option<Value> {
    let mut object = json!({
        "time": format!("{now:.3}"),
        "service": service,
        "kind": event.kind(),
    });
    match event {
        Event::Up(instance) | Event::Update(instance) | Event::Down(instance) => {
            object["instance"] = json!(instance);
        }
        Event::Leader(Some(leader)) => object["instance"] = json!(leader),
        Event::ServiceMeta(Some(meta)) => object["service_meta"] = json!(meta),
        Event::Leader(None) | Event::ServiceMeta(None) | Event::Current => {}
        _ => return None,
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use tunnel_registry_client::{Error, ServiceMeta};

    use super::*;

    fn lost() -> Event {
        Event::Lost(Error::Name("x".into()))
    }

    #[test]
    fn an_event_is_a_line() {
        let now: Timestamp = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let instance = Instance::new("h:1").with_meta("zone", "b");
        let meta = ServiceMeta::new(json!({"a": 1}), 4);
        for (event, expected) in [
            (
                Event::Up(instance.clone()),
                "up            h:1  tcp  zone=b",
            ),
            (Event::Down(Instance::new("h:1")), "down          h:1  tcp"),
            (Event::Leader(Some(instance)), "leader        h:1"),
            (Event::Leader(None), "leader        nobody"),
            (Event::ServiceMeta(Some(meta)), r#"service_meta  {"a":1}"#),
            (Event::Current, "current"),
        ] {
            let line = line(now, &event).unwrap();
            assert_eq!(line, format!("2026-01-01T00:00:01Z  {expected}"));
        }
        assert_eq!(line(now, &lost()), None);
    }

    #[test]
    fn an_event_is_an_object_as_on_the_wire() {
        let now: Timestamp = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let instance = Instance::new("h:1");
        let expected = json!({
            "time": "2026-01-01T00:00:01.500Z", "service": "db", "kind": "up",
            "instance": { "id": instance.id, "addr": "h:1", "proto": "tcp" },
        });
        assert_eq!(object(now, "db", &Event::Up(instance)), Some(expected));
        let nobody = object(now, "db", &Event::Leader(None)).unwrap();
        assert_eq!(nobody.as_object().unwrap().len(), 3);
        assert_eq!(object(now, "db", &lost()), None);
    }

    #[test]
    fn losses_are_told_with_their_end() {
        let mut losses = Losses::default();
        assert_eq!(losses.note(&Event::Current), None);
        assert!(losses.note(&lost()).unwrap().ends_with("; trying again"));
        assert_eq!(losses.note(&Event::Leader(None)), None);
        assert!(
            losses
                .note(&Event::Current)
                .unwrap()
                .starts_with("connected again")
        );
        assert_eq!(losses.note(&Event::Current), None);
    }
}
