//! What the kinds of objects have in common: how each is found, read and
//! written. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::holders::Holders;
use crate::backend::{Revision, Stored};
use crate::kubernetes::Failure;
use crate::record::{Key, Kind, Record};

/// A kind of objects that hold records.
pub(super) trait Object:
    Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + 'static
{
    /// Which records they hold.
    const KIND: Kind;
    /// By which labels they are found among others; none when all are ours.
    const SELECTOR: Option<&'static str>;
    /// What a person calls one.
    const WORD: &'static str;
    /// Whether what has the name of a record is made to hold it, whatever it is:
    /// nobody else has any business there.
    const RESTORED: bool;

    /// The object for a record, complete as it is created.
    fn from_record(record: &Record) -> Result<Self, String>;
    /// The merge patch that makes the object hold `record`.
    fn patch(record: &Record) -> Result<Value, String>;
    /// What a merge patch could not remove.
    fn surplus(&self, _: &Record) -> Option<Value> {
        None
    }
    /// The identity, whatever else is wrong with the object.
    fn key(&self) -> Option<Key>;
    /// The record that it holds.
    fn record(&self, holders: &mut Holders) -> Result<Record, String>;
}

/// A pod that owns what it registers: its objects go when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The pod's namespace. It owns nothing in another one.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: Uuid,
}

impl Owner {
    /// The references for the object of `record`, if it belongs to this pod: it
    /// is an endpoint that the pod registered, or the lease of its replica.
    pub(super) fn references(&self, record: &Record) -> Option<Vec<OwnerReference>> {
        let owns = match record {
            Record::Endpoint(record) => record.endpoint.pod == Some(self.uid),
            // Only a replica writes its own.
            Record::Replica(_) => true,
            // They outlive the pod that took them.
            Record::Session(_) | Record::Service(_) | Record::Instance(_) => false,
        };
        owns.then(|| {
            vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: self.name.clone(),
                uid: self.uid.to_string(),
                block_owner_deletion: None,
                controller: None,
            }]
        })
    }
}

/// The body of a request that creates the object of `record`.
pub(super) fn create_body<K: Object>(
    record: &Record,
    owner: Option<&Owner>,
) -> Result<Vec<u8>, String> {
    let mut object = K::from_record(record)?;
    object.meta_mut().owner_references = owner.and_then(|owner| owner.references(record));
    serde_json::to_vec(&object).map_err(|why| why.to_string())
}

/// The merge patch that makes the object hold `record` if it is still at
/// `revision`.
pub(super) fn patch_body<K: Object>(
    record: &Record,
    revision: Revision,
    owner: Option<&Owner>,
) -> Result<Value, String> {
    let mut patch = at(revision, K::patch(record)?);
    // Others' references are left alone, but a pod that has gone must not take
    // with it what another one maintains now.
    if let Some(references) = owner.and_then(|owner| owner.references(record)) {
        patch["metadata"]["ownerReferences"] = json!(references);
    }
    Ok(patch)
}

/// The same patch, which holds only at `revision`.
pub(super) fn at(revision: Revision, mut patch: Value) -> Value {
    patch["metadata"]["resourceVersion"] = json!(revision.to_string());
    patch
}

/// An object as it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<Uuid>,
    /// Its version.
    pub revision: Revision,
    /// Its identity, where that can be read.
    pub key: Option<Key>,
    /// What it holds.
    pub found: Found,
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record.
    Record(Record),
    /// It is being deleted, and waits for somebody's finalizer.
    Terminating,
    /// Nothing that could be read, for this reason.
    Malformed(String),
}

/// The part of any object that tells which it is.
#[derive(Deserialize)]
struct Any {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl Seen {
    /// Reads an object. One that is not as the definition says is
    /// [`Found::Malformed`].
    ///
    /// # Errors
    /// When it is not even an object.
    pub fn read<K: Object>(json: &str, holders: &mut Holders) -> Result<Self, Failure> {
        match serde_json::from_str::<K>(json) {
            Ok(object) => {
                let found = if object.meta().deletion_timestamp.is_some() {
                    Found::Terminating
                } else {
                    object
                        .record(holders)
                        .map_or_else(Found::Malformed, Found::Record)
                };
                Self::new(object.meta(), object.key(), found)
            }
            Err(why) => {
                let any: Any =
                    serde_json::from_str(json).map_err(|why| Failure::unreadable(&why))?;
                Self::new(&any.metadata, None, Found::Malformed(why.to_string()))
            }
        }
    }

    fn new(meta: &ObjectMeta, key: Option<Key>, found: Found) -> Result<Self, Failure> {
        Ok(Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.as_deref().and_then(|uid| uid.parse().ok()),
            revision: revision(meta.resource_version.as_deref())?,
            key,
            found,
        })
    }

    /// The record with its revision.
    pub fn stored(self) -> Option<Stored> {
        match self.found {
            Found::Record(record) => Some(Stored {
                record,
                revision: self.revision,
            }),
            Found::Terminating | Found::Malformed(_) => None,
        }
    }
}

/// A version as the API server tells it: since Kubernetes 1.35 certain to be a
/// number, and always one with etcd.
pub(super) fn revision(version: Option<&str>) -> Result<Revision, Failure> {
    let parsed = version.unwrap_or_default().parse();
    parsed.map(Revision).map_err(|_| {
        Failure::Unavailable(format!(
            "the API server told a resourceVersion that is no number: {version:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::kinds::canonical_name;
    use super::*;
    use crate::backend::contract;
    use crate::resources::TunnelEndpoint;

    fn read(object: &Value) -> Seen {
        Seen::read::<TunnelEndpoint>(&object.to_string(), &mut Holders::default()).unwrap()
    }

    fn object(record: &Record) -> Value {
        let mut object =
            serde_json::to_value(<TunnelEndpoint as Object>::from_record(record).unwrap()).unwrap();
        object["metadata"]["resourceVersion"] = json!("7");
        object["metadata"]["uid"] = json!("db670b91-61a5-4f7c-8014-3bbe994446ea");
        object
    }

    #[test]
    fn an_object_is_read() {
        let record = contract::record("t", "c", 1);
        let seen = read(&object(&record));
        assert_eq!(seen.name, canonical_name(&record.key()));
        assert_eq!(seen.uid.unwrap().as_u128() >> 96, 0xdb67_0b91);
        assert_eq!(seen.revision, Revision(7));
        assert_eq!(seen.key, Some(record.key()));
        assert_eq!(seen.found, Found::Record(record));
    }

    #[test]
    fn what_is_wrong_with_an_object_hides_neither_its_name_nor_its_identity() {
        let record = contract::record("t", "c", 1);
        let mut wrong = object(&record);
        wrong["spec"]["address"] = json!("nowhere");
        let seen = read(&wrong);
        assert_eq!(seen.key, Some(record.key()));
        assert!(matches!(seen.found, Found::Malformed(why) if why.contains("spec.address")));

        let mut alien = object(&record);
        alien["spec"] = json!({ "tunnel": 7 });
        let seen = read(&alien);
        assert_eq!(seen.name, canonical_name(&record.key()));
        assert_eq!(seen.key, None);
        assert!(matches!(seen.found, Found::Malformed(_)));

        let mut going = object(&record);
        going["metadata"]["deletionTimestamp"] = json!("2026-07-01T12:00:00Z");
        assert_eq!(read(&going).found, Found::Terminating);

        let none = Seen::read::<TunnelEndpoint>("[]", &mut Holders::default());
        assert!(matches!(none, Err(Failure::Unavailable(_))));
    }

    #[test]
    fn holders_are_shared() {
        let mut holders = Holders::default();
        let mut holder = |connector| {
            let text = object(&contract::record("t", connector, 1)).to_string();
            match Seen::read::<TunnelEndpoint>(&text, &mut holders)
                .unwrap()
                .found
            {
                Found::Record(Record::Endpoint(record)) => record.lease.holder.clone().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert!(Arc::ptr_eq(&holder("a"), &holder("b")));
    }

    #[test]
    fn a_pod_owns_what_it_registered() {
        let owner = Owner {
            namespace: "n".into(),
            name: "gost-0".into(),
            uid: Uuid::from_u128(7),
        };
        let references = json!([{
            "apiVersion": "v1", "kind": "Pod", "name": "gost-0",
            "uid": "00000000-0000-0000-0000-000000000007",
        }]);
        let mut mine = contract::record("t", "c", 1);
        let body = |record: &Record| -> [Value; 2] {
            let created = create_body::<TunnelEndpoint>(record, Some(&owner)).unwrap();
            let patch = patch_body::<TunnelEndpoint>(record, Revision(7), Some(&owner)).unwrap();
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
            let created: Value = serde_json::from_slice(&created).unwrap();
            [created, patch].map(|value| value["metadata"]["ownerReferences"].clone())
        };
        assert_eq!(body(&mine), [Value::Null, Value::Null]);
        let Record::Endpoint(endpoint) = &mut mine else {
            panic!()
        };
        Arc::make_mut(endpoint).endpoint.pod = Some(Uuid::from_u128(7));
        assert_eq!(body(&mine), [references.clone(), references]);
    }
}
