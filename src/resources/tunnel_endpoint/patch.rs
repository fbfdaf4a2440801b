//! The merge patch (RFC 7396) that makes an object hold another record.

use serde_json::{Map, Value, json};

use super::{ORIGIN, Oversize, POD_UID, TunnelEndpoint};
use crate::record::EndpointRecord;
use crate::resources::lease;

/// The annotations that a record decides beside its lease.
const OTHERS: [&str; 2] = [POD_UID, ORIGIN];

impl TunnelEndpoint {
    /// What changes the object of the same identity so that it holds `record`.
    /// What the record does not have is removed; what others put there (labels,
    /// annotations, finalizers) is not touched.
    ///
    /// Attributes that the object has and the record has not stay, because a
    /// merge patch must name what it removes: see [`TunnelEndpoint::surplus`].
    ///
    /// # Errors
    /// When the record has more than an object may hold.
    pub fn patch(record: &EndpointRecord) -> Result<Value, Oversize> {
        let Self { metadata, spec, .. } = Self::from_record(record)?;
        let annotations = metadata.annotations.unwrap_or_default();
        let annotations: Map<_, _> = lease::ANNOTATIONS
            .into_iter()
            .chain(OTHERS)
            .map(|key| (key.to_owned(), json!(annotations.get(key))))
            .collect();
        Ok(json!({
            "metadata": { "annotations": annotations },
            "spec": {
                "network": spec.network,
                "address": spec.address,
                "attributes": (!spec.attributes.is_empty()).then_some(spec.attributes),
                "static": spec.is_static.then_some(true),
            },
        }))
    }

    /// What removes the attributes that this object has and `record` has not;
    /// none when there are none.
    #[must_use]
    pub fn surplus(&self, record: &EndpointRecord) -> Option<Value> {
        let wanted = &record.endpoint.attributes;
        let surplus: Map<_, _> = self
            .spec
            .attributes
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .map(|key| (key.clone(), Value::Null))
            .collect();
        (!surplus.is_empty()).then(|| json!({ "spec": { "attributes": surplus } }))
    }
}
