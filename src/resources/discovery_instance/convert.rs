//! Between records and objects, both ways.

use serde_json::{Map, Value, json};

use super::{Attribute, DiscoveryInstance, DiscoveryInstanceSpec, SERVICE_LABEL};
use crate::discoverd::instance::InstanceError;
use crate::discoverd::name::NameError;
use crate::discoverd::{Instance, InstanceId, InstanceKey, InstanceRecord, ServiceName};
use crate::resources::lease::{self, HolderTooLong, MalformedAnnotation};
use crate::resources::{decimal, discovery_service, name};

/// Why an object is no instance. Someone else made it, or changed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The name of its service is none.
    #[error("spec.service cannot be used: {0}")]
    Name(#[from] NameError),
    /// Its id is none.
    #[error("spec.id must be 32 hexadecimal digits")]
    Id,
    /// What it says of itself.
    #[error("spec.addr, spec.proto, spec.meta or spec.id cannot be used: {0}")]
    Instance(#[from] InstanceError),
    /// A number cannot be read.
    #[error("spec.{0} must be {expected}", expected = decimal::EXPECTED)]
    Number(&'static str),
    /// An annotation that cannot be read.
    #[error(transparent)]
    Annotation(#[from] MalformedAnnotation),
}

/// The name of the object for an instance. A DNS label (RFC 1123), so at most 63
/// bytes.
#[must_use]
pub fn object_name(key: &InstanceKey) -> String {
    let service = key.service.as_str();
    name::object_name(service, &[service, &key.id.to_string()])
}

impl DiscoveryInstance {
    /// The object for a record, complete as it is created. The namespace is the
    /// caller's to choose.
    ///
    /// # Errors
    /// When the identity of its holder is too long.
    pub fn from_record(record: &InstanceRecord) -> Result<Self, HolderTooLong> {
        let label = discovery_service::object_name(&record.service);
        let mut object = Self::new(&object_name(&record.key()), spec(record));
        object.metadata.annotations = Some(lease::annotations(&record.lease)?);
        object.metadata.labels = Some([(SERVICE_LABEL.into(), label)].into());
        Ok(object)
    }

    /// The merge patch (RFC 7396) that makes the object of the same instance hold
    /// `record`. What the record does not have is removed; what others put there
    /// (labels, annotations, finalizers) is not touched.
    ///
    /// # Errors
    /// When the identity of its holder is too long.
    pub fn patch(record: &InstanceRecord) -> Result<Value, HolderTooLong> {
        let annotations = lease::annotations(&record.lease)?;
        let annotations: Map<_, _> = lease::ANNOTATIONS
            .into_iter()
            .map(|key| (key.to_owned(), json!(annotations.get(key))))
            .collect();
        let DiscoveryInstanceSpec {
            meta, index, born, ..
        } = spec(record);
        Ok(json!({
            "metadata": { "annotations": annotations },
            "spec": {
                "meta": (!meta.is_empty()).then_some(meta),
                "index": index,
                "born": born,
            },
        }))
    }

    /// Which instance it is, whatever else is wrong with the object.
    ///
    /// # Errors
    /// When its id or the name of its service is none.
    pub fn key(&self) -> Result<InstanceKey, Malformed> {
        Ok(InstanceKey {
            service: ServiceName::parse(&self.spec.service)?,
            id: InstanceId::parse(&self.spec.id).ok_or(Malformed::Id)?,
        })
    }

    /// The record that an object holds.
    ///
    /// # Errors
    /// When a field or an annotation cannot be read; the error names it.
    pub fn to_record(&self) -> Result<InstanceRecord, Malformed> {
        let spec = &self.spec;
        let number = |field, text| decimal::parse(text).ok_or(Malformed::Number(field));
        let InstanceKey { service, .. } = self.key()?;
        let attributes = spec.meta.iter();
        let attributes = attributes.map(|one| (one.name.clone(), one.value.clone()));
        let instance = Instance::new(spec.addr.clone(), spec.proto.clone(), attributes.collect())?;
        Ok(InstanceRecord {
            service,
            born: number("born", &spec.born)?,
            index: number("index", &spec.index)?,
            instance: instance.named(&spec.id)?,
            lease: lease::read(&self.metadata)?,
        })
    }
}

fn spec(record: &InstanceRecord) -> DiscoveryInstanceSpec {
    let instance = &record.instance;
    let attributes = instance.meta.iter().map(|(name, value)| Attribute {
        name: name.clone(),
        value: value.clone(),
    });
    DiscoveryInstanceSpec {
        service: record.service.to_string(),
        id: instance.id.to_string(),
        addr: instance.addr.clone(),
        proto: instance.proto.clone(),
        meta: attributes.collect(),
        index: record.index.to_string(),
        born: record.born.to_string(),
    }
}
