//! Between records and objects, both ways.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{DiscoveryService, DiscoveryServiceSpec, ServiceMeta};
use crate::discoverd::meta::{self, Json};
use crate::discoverd::name::NameError;
use crate::discoverd::record::ServiceMeta as MetaRecord;
use crate::discoverd::{InstanceId, ServiceName, ServiceRecord};
use crate::resources::{decimal, name};

/// Why an object is no service. Someone else made it, or changed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its name is none.
    #[error("spec.service cannot be used: {0}")]
    Name(#[from] NameError),
    /// The leader is none.
    #[error("spec.leader must be the id of an instance, of 32 hexadecimal digits")]
    Leader,
    /// A number cannot be read.
    #[error("spec.{0} must be {expected}", expected = decimal::EXPECTED)]
    Number(&'static str),
    /// The meta data is no JSON, or too long.
    #[error("spec.meta.data must be JSON of at most {max} bytes", max = meta::MAX_BYTES)]
    Meta,
}

/// The name of the object for a service: its own, where an object can have that.
/// One that begins or ends with a dash gets a name with a dot, which no service
/// has. A DNS subdomain (RFC 1123) that also fits a label.
#[must_use]
pub fn object_name(service: &ServiceName) -> String {
    let text = service.as_str();
    if text.starts_with('-') || text.ends_with('-') {
        return format!("{}.dashed", name::object_name(text, &[text]));
    }
    text.to_owned()
}

impl DiscoveryService {
    /// The object for a record, complete as it is created. The namespace is the
    /// caller's to choose.
    #[must_use]
    pub fn from_record(record: &ServiceRecord) -> Self {
        Self::new(&object_name(&record.name), spec(record))
    }

    /// The merge patch (RFC 7396) that makes the object of the same service hold
    /// `record`. What the record does not have is removed; what others put there
    /// (labels, annotations, finalizers) is not touched.
    #[must_use]
    pub fn patch(record: &ServiceRecord) -> Value {
        let DiscoveryServiceSpec {
            leader_type,
            leader,
            meta,
            born,
            counter,
            ..
        } = spec(record);
        json!({ "spec": {
            "leaderType": leader_type,
            "leader": leader,
            "meta": meta,
            "born": born,
            "counter": counter,
        } })
    }

    /// Which service it is, whatever else is wrong with the object.
    ///
    /// # Errors
    /// When its name is none.
    pub fn key(&self) -> Result<ServiceName, Malformed> {
        Ok(ServiceName::parse(&self.spec.service)?)
    }

    /// The record that an object holds.
    ///
    /// One that was made by hand, without a counter, counts from the second in
    /// which it was made: so one of the same name that is made later begins higher.
    ///
    /// # Errors
    /// When a field cannot be read; the error names it.
    pub fn to_record(&self) -> Result<ServiceRecord, Malformed> {
        let spec = &self.spec;
        let number = |field, text: &str| decimal::parse(text).ok_or(Malformed::Number(field));
        let optional = |field, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| number(field, text)).transpose()
        };
        let created = self.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0.as_second());
        let created = created.and_then(|seconds| u64::try_from(seconds).ok());
        let born = optional("born", &spec.born)?;
        let born = born.or(created).unwrap_or_default();
        let leader = spec.leader.as_deref().map(InstanceId::parse);
        let leader = leader.map(|id| id.ok_or(Malformed::Leader)).transpose()?;
        let meta = |meta: &ServiceMeta| {
            let raw = RawValue::from_string(meta.data.clone());
            let data = raw.ok().and_then(|raw| Json::new(&raw).ok());
            Ok::<_, Malformed>(MetaRecord {
                data: data.ok_or(Malformed::Meta)?,
                index: number("meta.index", &meta.index)?,
            })
        };
        Ok(ServiceRecord {
            name: self.key()?,
            born,
            counter: optional("counter", &spec.counter)?.unwrap_or(born),
            leader_type: spec.leader_type,
            leader,
            meta: spec.meta.as_ref().map(meta).transpose()?,
        })
    }
}

fn spec(record: &ServiceRecord) -> DiscoveryServiceSpec {
    DiscoveryServiceSpec {
        service: record.name.to_string(),
        leader_type: record.leader_type,
        leader: record.leader.map(|id| id.to_string()),
        meta: record.meta.as_ref().map(|meta| ServiceMeta {
            data: meta.data.as_str().into(),
            index: meta.index.to_string(),
        }),
        born: Some(record.born.to_string()),
        counter: Some(record.counter.to_string()),
    }
}
