//! What subscribers are told.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::discoverd::name::ServiceName;
use crate::discoverd::record::{InstanceRecord, ServiceMeta, Shown};

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An instance was registered.
    Up(Arc<InstanceRecord>),
    /// An instance has other attributes.
    Update(Arc<InstanceRecord>),
    /// An instance is gone.
    Down(Arc<InstanceRecord>),
    /// Another instance leads, or none does.
    Leader(Option<Arc<InstanceRecord>>),
    /// The service has other meta data.
    ServiceMeta(ServiceMeta),
    /// Everything that is there was told; what follows are changes.
    Current,
}

/// Something that a service's subscribers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which service.
    pub service: ServiceName,
    /// Whether it is one of gost's tunnels, which not everybody may see.
    pub of_tunnel: bool,
    /// What happened.
    pub what: What,
}

/// Which events a subscriber asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// Every kind.
    All,
    /// `up`, `update` and `down`.
    Instances,
    /// `leader`.
    Leader,
}

impl Wanted {
    /// Everything that may be asked for.
    const ALL: [Self; 3] = [Self::All, Self::Instances, Self::Leader];

    /// Whether this one is asked for.
    #[must_use]
    pub fn includes(self, what: &What) -> bool {
        match self {
            Self::All => true,
            Self::Instances => matches!(what, What::Up(_) | What::Update(_) | What::Down(_)),
            Self::Leader => matches!(what, What::Leader(_)),
        }
    }
}

/// Meta data as it is sent.
#[derive(Debug, Serialize)]
pub struct SentMeta<'a> {
    data: &'a RawValue,
    index: u64,
}

impl<'a> SentMeta<'a> {
    /// The meta data of a service.
    ///
    /// # Errors
    /// Never for what was stored: it was checked when it was made.
    pub fn new(meta: &'a ServiceMeta) -> serde_json::Result<Self> {
        Ok(Self {
            data: serde_json::from_str(meta.data.as_str())?,
            index: meta.index,
        })
    }
}

#[derive(Serialize)]
struct Sent<'a> {
    service: &'a ServiceName,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_meta: Option<SentMeta<'a>>,
}

/// Who asks for which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Audience {
    /// Which kinds.
    pub wanted: Wanted,
    /// Whether those of tunnels, too.
    pub tunnels: bool,
}

impl Audience {
    /// Everybody that there may be.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = |wanted| [false, true].map(|tunnels| Self { wanted, tunnels });
        Wanted::ALL.into_iter().flat_map(both)
    }

    /// Whether an event is asked for.
    #[must_use]
    pub fn includes(self, event: &Event) -> bool {
        (self.tunnels || !event.of_tunnel) && self.wanted.includes(&event.what)
    }
}

impl Event {
    /// What its kind is called.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::Up(_) => "up",
            What::Update(_) => "update",
            What::Down(_) => "down",
            What::Leader(_) => "leader",
            What::ServiceMeta(_) => "service_meta",
            What::Current => "current",
        }
    }

    /// The event as it is sent: a line of data, and an empty one.
    ///
    /// # Errors
    /// Never for what was stored: it was checked when it was made.
    pub fn frame(&self) -> serde_json::Result<Bytes> {
        let instance = match &self.what {
            What::Up(record) | What::Update(record) | What::Down(record) => Some(record),
            What::Leader(leader) => leader.as_ref(),
            What::ServiceMeta(_) | What::Current => None,
        };
        let meta = match &self.what {
            What::ServiceMeta(meta) => Some(SentMeta::new(meta)?),
            _ => None,
        };
        let mut frame = b"data: ".to_vec();
        serde_json::to_writer(
            &mut frame,
            &Sent {
                service: &self.service,
                kind: self.kind(),
                instance: instance.map(|record| record.shown()),
                service_meta: meta,
            },
        )?;
        frame.extend_from_slice(b"\n\n");
        Ok(frame.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discoverd::meta::Json;

    #[test]
    fn an_event_is_one_line() {
        let service = ServiceName::parse("db").unwrap();
        let event = |what| Event {
            service: service.clone(),
            of_tunnel: false,
            what,
        };
        let raw = RawValue::from_string("{\n  \"a\": \"\\n\"\n}".into()).unwrap();
        let meta = ServiceMeta {
            data: Json::new(&raw).unwrap(),
            index: 4,
        };
        for (what, frame) in [
            (What::Current, r#"data: {"service":"db","kind":"current"}"#),
            (
                What::Leader(None),
                r#"data: {"service":"db","kind":"leader"}"#,
            ),
            (
                What::ServiceMeta(meta),
                r#"data: {"service":"db","kind":"service_meta","service_meta":{"data":{"a":"\n"},"index":4}}"#,
            ),
        ] {
            let sent = event(what).frame().unwrap();
            assert_eq!(sent, format!("{frame}\n\n").as_bytes());
        }
    }
}
