//! A record's lease as the annotations of its object. Renewing it changes neither
//! the spec nor `metadata.generation`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::lease::{Lease, Released, Timing};

/// When the lease was last written: RFC 3339, UTC, with microseconds.
pub const RENEW_TIME: &str = "tunnelregistry.io/renew-time";
/// How long the lease is valid from then: whole seconds, decimal.
pub const LEASE_DURATION: &str = "tunnelregistry.io/lease-duration-seconds";
/// The replica that maintains it; absent or empty once it was released.
pub const HOLDER: &str = "tunnelregistry.io/holder-identity";
/// Why the lease was released: `silent` or `connection-closed`; absent while
/// it is held.
pub const RELEASED: &str = "tunnelregistry.io/released";
/// The longest interval between two renewals that was lately seen, where that is
/// longer than usual: whole seconds, decimal.
pub const RENEW_INTERVAL: &str = "tunnelregistry.io/renew-interval-seconds";
/// All annotations that are a lease. A write that replaces a lease must also
/// remove those that it does not have, or a released one would keep its holder.
pub const ANNOTATIONS: [&str; 5] = [RENEW_TIME, LEASE_DURATION, HOLDER, RELEASED, RENEW_INTERVAL];

/// The longest identity of a holder, in bytes: that of a pod's name.
pub const MAX_HOLDER: usize = 253;

/// What `released` says for a lease that was released because it was silent.
const SILENT: &str = "silent";
/// What `released` says after a connection was closed.
const CONNECTION_CLOSED: &str = "connection-closed";
/// What an annotation with a duration must be.
const SECONDS: &str = "a whole number of seconds from 0 to 4294967295";

/// An annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation} must be {expected}; correct it or remove it")]
pub struct MalformedAnnotation {
    /// Its key.
    pub annotation: &'static str,
    /// What it should have been.
    pub expected: &'static str,
}

/// A holder whose identity is too long, with its length in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the holder's identity has {0} bytes; at most {MAX_HOLDER} are allowed")]
pub struct HolderTooLong(pub usize);

/// The annotations for a lease.
///
/// # Errors
/// When the holder's identity is too long.
pub fn annotations(lease: &Lease) -> Result<BTreeMap<String, String>, HolderTooLong> {
    let mut annotations = BTreeMap::from([
        (RENEW_TIME.into(), format!("{:.6}", lease.renew_time)),
        (LEASE_DURATION.into(), lease.duration_seconds.to_string()),
    ]);
    if let Some(holder) = &lease.holder {
        if holder.len() > MAX_HOLDER {
            return Err(HolderTooLong(holder.len()));
        }
        annotations.insert(HOLDER.into(), holder.to_string());
    }
    if let Some(seconds) = lease.interval_seconds {
        annotations.insert(RENEW_INTERVAL.into(), seconds.to_string());
    }
    if let Some(why) = lease.released {
        let why = match why {
            Released::Silent => SILENT,
            Released::ConnectionClosed => CONNECTION_CLOSED,
        };
        annotations.insert(RELEASED.into(), why.into());
    }
    Ok(annotations)
}

/// The lease of an object. One without annotations has a lease that nobody
/// holds, from the object's creation on, for as long as a released one.
///
/// # Errors
/// With the annotation that cannot be read.
pub fn read(metadata: &ObjectMeta) -> Result<Lease, MalformedAnnotation> {
    let holder = annotation(metadata, HOLDER, "at most 253 bytes long", |text| {
        (text.len() <= MAX_HOLDER).then(|| Arc::<str>::from(text))
    })?;
    let renewed = annotation(
        metadata,
        RENEW_TIME,
        "a time such as 2026-07-01T12:00:00.000000Z",
        |text| text.parse::<Timestamp>().ok(),
    )?;
    let seconds = annotation(metadata, LEASE_DURATION, SECONDS, |text| text.parse().ok())?;
    let interval_seconds = annotation(metadata, RENEW_INTERVAL, SECONDS, |text| text.parse().ok())?;
    let released = annotation(metadata, RELEASED, "silent or connection-closed", released)?;
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    let unheld = Timing::default().released_for.as_secs();
    Ok(Lease {
        holder,
        renew_time: renewed.or(created).unwrap_or(Timestamp::UNIX_EPOCH),
        duration_seconds: seconds.unwrap_or(u32::try_from(unheld).unwrap_or(u32::MAX)),
        released,
        interval_seconds,
    })
}

/// Reads an annotation. One that is empty counts as absent: that is how a field
/// is cleared in coordination.k8s.io.
///
/// # Errors
/// When `read` does not take its text.
pub fn annotation<T>(
    metadata: &ObjectMeta,
    annotation: &'static str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, MalformedAnnotation> {
    let annotations = metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get(annotation)) {
        Some(text) if !text.is_empty() => read(text).map(Some).ok_or(MalformedAnnotation {
            annotation,
            expected,
        }),
        _ => Ok(None),
    }
}

fn released(text: &str) -> Option<Released> {
    match text {
        SILENT => Some(Released::Silent),
        CONNECTION_CLOSED => Some(Released::ConnectionClosed),
        _ => None,
    }
}
