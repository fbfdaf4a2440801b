//! What a store holds of services.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::discoverd::instance::{Instance, InstanceId};
use crate::discoverd::meta::Json;
use crate::discoverd::name::ServiceName;
use crate::lease::Lease;

/// Who leads a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderType {
    /// The instance that registered first of those that are there.
    #[default]
    Oldest,
    /// The one that was named, while it is there.
    Manual,
}

/// The meta data of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMeta {
    /// Any JSON.
    pub data: Json,
    /// Another one with each change.
    pub index: u64,
}

/// A service: its settings, and what all its instances share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name.
    pub name: ServiceName,
    /// Where its counter began: one of the same name that is made later begins
    /// higher, so that nothing of this one is taken for that one's.
    pub born: u64,
    /// The last index that was given out, to an instance or to meta data. It is
    /// raised by conditional writes only, so no two get the same.
    pub counter: u64,
    /// Who leads it.
    pub leader_type: LeaderType,
    /// Who was named as its leader, there or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<InstanceId>,
    /// Its meta data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<ServiceMeta>,
}

/// Which instance of which service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceKey {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub id: InstanceId,
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.id, self.service)
    }
}

/// An instance of a service, and who hears its heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its service.
    pub service: ServiceName,
    /// Of which life of that, as [`ServiceRecord::born`].
    pub born: u64,
    /// The order in which instances were first registered.
    pub index: u64,
    /// What it says of itself.
    pub instance: Instance,
    /// Who hears its heartbeats; released once nobody does.
    pub lease: Lease,
}

impl InstanceRecord {
    /// Which one it is.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        InstanceKey {
            service: self.service.clone(),
            id: self.instance.id,
        }
    }

    /// The instance as clients see it.
    #[must_use]
    pub fn shown(&self) -> Shown<'_> {
        Shown {
            instance: &self.instance,
            index: self.index,
        }
    }
}

/// An instance as clients see it.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// What it says of itself.
    #[serde(flatten)]
    pub instance: &'a Instance,
    /// The order in which instances were first registered.
    pub index: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn records_are_read_as_they_were_stored() {
        let meta = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
        let instance = Instance::new("h:80".into(), "http".into(), meta).unwrap();
        let name = ServiceName::parse("web").unwrap();
        let record = InstanceRecord {
            service: name.clone(),
            born: 7,
            index: 9,
            lease: Lease::held(
                "r".into(),
                "2026-01-01T00:00:00Z".parse().unwrap(),
                Duration::from_secs(10),
            ),
            instance: instance.clone(),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<InstanceRecord>(&json).unwrap(),
            record
        );
        let id = instance.id;
        let shown = Shown {
            instance: &instance,
            index: 9,
        };
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            format!(
                r#"{{"id":"{id}","addr":"h:80","proto":"http","meta":{{"zone":"b"}},"index":9}}"#
            )
        );

        let raw = serde_json::value::RawValue::from_string("{\"a\": 1}".into()).unwrap();
        let service = ServiceRecord {
            name,
            born: 7,
            counter: 10,
            leader_type: LeaderType::Manual,
            leader: Some(id),
            meta: Some(ServiceMeta {
                data: Json::new(&raw).unwrap(),
                index: 10,
            }),
        };
        let json = serde_json::to_string(&service).unwrap();
        assert_eq!(
            serde_json::from_str::<ServiceRecord>(&json).unwrap(),
            service
        );
    }
}
