//! What a watch tells.

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Instance, ServiceMeta};

/// Something that happened to a service.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An instance is there.
    Up(Instance),
    /// An instance has other attributes, or was registered anew while nobody told.
    Update(Instance),
    /// An instance is gone; this is how it was last.
    Down(Instance),
    /// Another instance leads, or none does.
    Leader(Option<Instance>),
    /// The service has other meta data, or none any more.
    ServiceMeta(Option<ServiceMeta>),
    /// What was told is what is there. Comes once at the start, and after each
    /// [`Event::Lost`] when all that was missed has been told.
    Current,
    /// The registry cannot be heard, for this reason. What was told stands until
    /// something else is; the watch goes on by itself. Comes once a loss.
    Lost(Error),
}

impl Event {
    /// What its kind is called: as on the wire, or `lost`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Update(_) => "update",
            Self::Down(_) => "down",
            Self::Leader(_) => "leader",
            Self::ServiceMeta(_) => "service_meta",
            Self::Current => "current",
            Self::Lost(_) => "lost",
        }
    }
}

/// An event as the registry sends it, on one connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    Up(Instance),
    Update(Instance),
    Down(Instance),
    Leader(Option<Instance>),
    ServiceMeta(ServiceMeta),
    Current,
    /// A kind that this client does not know.
    Unknown,
}

#[derive(Deserialize)]
struct Raw {
    kind: String,
    instance: Option<Instance>,
    service_meta: Option<RawMeta>,
}

#[derive(Deserialize)]
struct RawMeta {
    #[serde(default)]
    data: Value,
    index: u64,
}

impl Sent {
    /// Reads the data of an event.
    pub fn parse(data: &str) -> Result<Self, String> {
        let raw: Raw = serde_json::from_str(data).map_err(|error| error.to_string())?;
        let without = || format!("the event {:?} has no instance", raw.kind);
        Ok(match raw.kind.as_str() {
            "up" => Self::Up(raw.instance.ok_or_else(without)?),
            "update" => Self::Update(raw.instance.ok_or_else(without)?),
            "down" => Self::Down(raw.instance.ok_or_else(without)?),
            "leader" => Self::Leader(raw.instance),
            "service_meta" => {
                let RawMeta { data, index } =
                    raw.service_meta.ok_or("the event has no meta data")?;
                Self::ServiceMeta(ServiceMeta { data, index })
            }
            "current" => Self::Current,
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        let parse = |text: &str| Sent::parse(text);
        assert_eq!(
            parse(r#"{"service":"db","kind":"current"}"#),
            Ok(Sent::Current)
        );
        assert_eq!(parse(r#"{"kind":"leader"}"#), Ok(Sent::Leader(None)));
        assert_eq!(parse(r#"{"kind":"new","x":1}"#), Ok(Sent::Unknown));
        let meta = parse(r#"{"kind":"service_meta","service_meta":{"data":[1],"index":4}}"#);
        let expected = ServiceMeta::new(serde_json::json!([1]), 4);
        assert_eq!(meta, Ok(Sent::ServiceMeta(expected)));
        let instance =
            r#"{"kind":"up","instance":{"id":"a","addr":"h:1","proto":"tcp","index":2}}"#;
        assert!(matches!(parse(instance), Ok(Sent::Up(up)) if up.index == 2));
        for wrong in [
            "",
            "{}",
            r#"{"kind":"up"}"#,
            r#"{"kind":"service_meta"}"#,
            r#"{"kind":"up","instance":{"id":1}}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
