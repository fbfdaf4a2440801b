//! A replica as a Lease of coordination.k8s.io, both ways.
//!
//! As kubelet's for its node: holder, duration and time of renewal. A holder
//! that is empty has stopped, so the identity is in an annotation as well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::{Value, json};

use crate::record::replica::MAX_SUSPECTS;
use crate::record::{Name, ReplicaRecord};
use crate::resources::lease::MAX_HOLDER;
use crate::resources::name;

/// The label of what belongs to this program.
pub const COMPONENT: &str = "tunnelregistry.io/component";
/// The value of [`COMPONENT`] for the lease of a replica.
pub const REPLICA: &str = "replica";
/// By which the leases of replicas are found among all others.
pub const SELECTOR: &str = "tunnelregistry.io/component=replica";
/// Who the replica is, also when it has stopped.
pub const IDENTITY: &str = "tunnelregistry.io/identity";
/// The nodes that the replica suspects: a JSON array of names, at most
/// [`MAX_SUSPECTS`]. Absent when there are none.
pub const SUSPECTS: &str = "tunnelregistry.io/suspects";

/// What the names of leases begin with.
const PREFIX: &str = "tunnel-registry";

/// Why a lease is no replica's. Someone else made it, or changed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nobody knows whose it is.
    #[error(
        "annotation {IDENTITY} must be 1 to {MAX_HOLDER} bytes long; the replica, if it lives, restores it at its next renewal"
    )]
    Identity,
    /// Two identities.
    #[error(
        "spec.holderIdentity is {0:?} and must be empty or what annotation {IDENTITY} says; the replica, if it lives, restores it at its next renewal"
    )]
    Holder(String),
    /// Nothing is known about its validity.
    #[error(
        "spec.{0} is missing or out of range; the replica, if it lives, restores it at its next renewal"
    )]
    Field(&'static str),
    /// An annotation that cannot be read.
    #[error(
        "annotation {SUSPECTS} must be a JSON array of at most {MAX_SUSPECTS} names; the replica, if it lives, restores it at its next renewal"
    )]
    Suspects,
}

/// What a lease cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// An identity that is empty or too long.
    #[error("the replica's identity has {0} bytes; 1 to {MAX_HOLDER} are allowed")]
    Identity(usize),
    /// A duration that the API server refuses.
    #[error("the replica's lease is valid for {0} s; 1 to {max} are allowed", max = i32::MAX)]
    Duration(u32),
    /// Too many suspects.
    #[error("the replica suspects {0} nodes; at most {MAX_SUSPECTS} are allowed")]
    Suspects(usize),
}

/// The name of the lease of the replica `identity`. A DNS label.
#[must_use]
pub fn lease_name(identity: &str) -> String {
    format!("{PREFIX}-{}", name::object_name(identity, &[identity]))
}

/// The lease for a record, complete as it is created. The namespace is the
/// caller's to choose.
///
/// # Errors
/// When the record has what a lease cannot hold.
pub fn from_record(record: &ReplicaRecord) -> Result<Lease, Unfit> {
    let Parts { spec, suspects } = parts(record)?;
    let mut annotations = BTreeMap::from([(IDENTITY.into(), record.identity.to_string())]);
    annotations.extend(suspects.map(|suspects| (SUSPECTS.into(), suspects)));
    Ok(Lease {
        metadata: ObjectMeta {
            name: Some(lease_name(&record.identity)),
            labels: Some([(COMPONENT.into(), REPLICA.into())].into()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    })
}

/// The merge patch (RFC 7396) that makes the lease of the same identity hold
/// `record`, whatever became of its label and its identity. What others put there
/// is not touched.
///
/// # Errors
/// When the record has what a lease cannot hold.
pub fn patch(record: &ReplicaRecord) -> Result<Value, Unfit> {
    let Parts { spec, suspects } = parts(record)?;
    Ok(json!({
        "metadata": {
            "labels": { COMPONENT: REPLICA },
            "annotations": { IDENTITY: record.identity, SUSPECTS: suspects },
        },
        "spec": spec,
    }))
}

/// The record that a lease holds, whatever the lease's own name is.
///
/// # Errors
/// When a field or an annotation cannot be read; the error names it.
pub fn to_record(lease: &Lease) -> Result<ReplicaRecord, Malformed> {
    let identity = identity(lease).ok_or(Malformed::Identity)?;
    let empty = LeaseSpec::default();
    let spec = lease.spec.as_ref().unwrap_or(&empty);
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if !holder.is_empty() && holder != identity {
        return Err(Malformed::Holder(holder.into()));
    }
    let suspects = match annotation(lease, SUSPECTS) {
        None | Some("") => Vec::new(),
        Some(text) => serde_json::from_str::<Vec<Name>>(text)
            .ok()
            .filter(|suspects| suspects.len() <= MAX_SUSPECTS)
            .ok_or(Malformed::Suspects)?,
    };
    let seconds = spec.lease_duration_seconds;
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    Ok(ReplicaRecord {
        identity: identity.into(),
        renew_time: spec
            .renew_time
            .as_ref()
            .map(|time| time.0)
            .ok_or(Malformed::Field("renewTime"))?,
        duration_seconds: seconds.ok_or(Malformed::Field("leaseDurationSeconds"))?,
        stopped: holder.is_empty(),
        suspects,
    })
}

/// Whose lease it is, whatever else is wrong with it.
#[must_use]
pub fn identity(lease: &Lease) -> Option<&str> {
    annotation(lease, IDENTITY).filter(|identity| (1..=MAX_HOLDER).contains(&identity.len()))
}

fn annotation<'a>(lease: &'a Lease, key: &str) -> Option<&'a str> {
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

struct Parts {
    spec: LeaseSpec,
    suspects: Option<String>,
}

fn parts(record: &ReplicaRecord) -> Result<Parts, Unfit> {
    let length = record.identity.len();
    if !(1..=MAX_HOLDER).contains(&length) {
        return Err(Unfit::Identity(length));
    }
    if record.suspects.len() > MAX_SUSPECTS {
        return Err(Unfit::Suspects(record.suspects.len()));
    }
    let seconds = i32::try_from(record.duration_seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .ok_or(Unfit::Duration(record.duration_seconds))?;
    let holder = if record.stopped { "" } else { &record.identity };
    Ok(Parts {
        spec: LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(MicroTime(whole_microseconds(record.renew_time))),
            ..LeaseSpec::default()
        },
        suspects: (!record.suspects.is_empty()).then(|| json!(record.suspects).to_string()),
    })
}

/// What a lease can hold of a time.
fn whole_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> ReplicaRecord {
        ReplicaRecord {
            identity: "db670b91-61a5-4f7c-8014-3bbe994446ea".into(),
            renew_time: "2026-07-01T12:00:00.000001Z".parse().unwrap(),
            duration_seconds: 40,
            stopped: false,
            suspects: vec!["c23d4f42-c892-42b3-8b74-88ab6455d33a".parse().unwrap()],
        }
    }

    #[test]
    fn a_lease_as_it_is_written() {
        assert_eq!(
            serde_json::to_value(from_record(&record()).unwrap()).unwrap(),
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": "tunnel-registry-db670b91-61a5-4f7c-5h4ss8i6grbpknlmq5hjdc7kjc",
                    "labels": { COMPONENT: REPLICA },
                    "annotations": {
                        IDENTITY: "db670b91-61a5-4f7c-8014-3bbe994446ea",
                        SUSPECTS: "[\"c23d4f42-c892-42b3-8b74-88ab6455d33a\"]",
                    },
                },
                "spec": {
                    "holderIdentity": "db670b91-61a5-4f7c-8014-3bbe994446ea",
                    "leaseDurationSeconds": 40,
                    "renewTime": "2026-07-01T12:00:00.000001Z",
                },
            })
        );
        assert_eq!(SELECTOR, format!("{COMPONENT}={REPLICA}"));
    }

    #[test]
    fn a_patch_empties_what_the_record_has_not() {
        let stopped = ReplicaRecord {
            stopped: true,
            suspects: Vec::new(),
            ..record()
        };
        assert_eq!(
            patch(&stopped).unwrap(),
            json!({
                "metadata": {
                    "labels": { COMPONENT: REPLICA },
                    "annotations": { IDENTITY: record().identity, SUSPECTS: null },
                },
                "spec": {
                    "holderIdentity": "",
                    "leaseDurationSeconds": 40,
                    "renewTime": "2026-07-01T12:00:00.000001Z",
                },
            })
        );
    }

    #[test]
    fn what_a_lease_cannot_hold_is_refused() {
        let with = |change: fn(&mut ReplicaRecord)| {
            let mut record = record();
            change(&mut record);
            from_record(&record).map(drop)
        };
        assert_eq!(with(|r| r.identity = "".into()), Err(Unfit::Identity(0)));
        let long = with(|r| r.identity = "x".repeat(254).into());
        assert_eq!(long, Err(Unfit::Identity(254)));
        assert_eq!(with(|r| r.duration_seconds = 0), Err(Unfit::Duration(0)));
        let long = with(|r| r.duration_seconds = 1 << 31);
        assert_eq!(long, Err(Unfit::Duration(1 << 31)));
        let many = with(|r| r.suspects = vec!["n".parse().unwrap(); 257]);
        assert_eq!(many, Err(Unfit::Suspects(257)));
        assert_eq!(
            with(|r| r.suspects = vec!["n".parse().unwrap(); 256]),
            Ok(())
        );
    }

    #[test]
    fn the_most_suspects_fit_into_the_annotations_of_an_object() {
        let worst = "\"".repeat(Name::MAX_BYTES).parse().unwrap();
        let record = ReplicaRecord {
            suspects: vec![worst; MAX_SUSPECTS],
            ..record()
        };
        let annotations = from_record(&record).unwrap().metadata.annotations.unwrap();
        let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        // The bound of Kubernetes for all annotations of an object.
        assert!(bytes <= 256 * 1024, "{bytes}");
    }

    #[test]
    fn what_is_malformed_is_named() {
        type Change = fn(&mut Lease);
        fn annotate(lease: &mut Lease, key: &str, value: &str) {
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(key.into(), value.into());
        }
        let changes: [(Change, &str); 9] = [
            (|l| l.metadata.annotations = None, IDENTITY),
            (|l| annotate(l, IDENTITY, ""), IDENTITY),
            (|l| annotate(l, IDENTITY, &"x".repeat(254)), IDENTITY),
            (
                |l| annotate(l, IDENTITY, "other"),
                "spec.holderIdentity is \"db67",
            ),
            (|l| annotate(l, SUSPECTS, "a,b"), SUSPECTS),
            (|l| annotate(l, SUSPECTS, "[\"\"]"), SUSPECTS),
            (
                |l| annotate(l, SUSPECTS, &json!(vec!["n"; 257]).to_string()),
                "at most 256",
            ),
            (
                |l| l.spec.as_mut().unwrap().renew_time = None,
                "spec.renewTime",
            ),
            (|l| l.spec = None, "spec.renewTime"),
        ];
        for (change, expected) in changes {
            let mut lease = from_record(&record()).unwrap();
            change(&mut lease);
            let error = to_record(&lease).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn any_record() -> impl Strategy<Value = ReplicaRecord> {
        let name = "[!-~]([ -~]{0,40}[!-~])?".prop_map(|text| text.parse().unwrap());
        let suspects = proptest::collection::vec(name, 0..8);
        let time =
            (0..4_102_444_800_000_000_i64).prop_map(|us| Timestamp::from_microsecond(us).unwrap());
        let seconds = 1..=i32::MAX.cast_unsigned();
        ("\\PC{1,60}", time, seconds, any::<bool>(), suspects).prop_map(
            |(identity, renew_time, duration_seconds, stopped, suspects)| ReplicaRecord {
                identity: identity.into(),
                renew_time,
                duration_seconds,
                stopped,
                suspects,
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in any_record()) {
            let lease = from_record(&record).unwrap();
            let json = serde_json::to_string(&lease).unwrap();
            let back: Lease = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(to_record(&back), Ok(record));
            let name = lease.metadata.name.unwrap();
            prop_assert!((1..=63).contains(&name.len()), "{}", name);
        }
    }
}
