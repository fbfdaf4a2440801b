//! Between records and objects, both ways.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::name::{object_name, tunnel_hash};
use super::{
    HOLDER, LEASE_DURATION, MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES, MAX_HOLDER,
    ORIGIN, POD_UID, RELEASED, RENEW_INTERVAL, RENEW_TIME, TUNNEL_LABEL, TunnelEndpoint,
    TunnelEndpointSpec,
};
use crate::lease::{Lease, Released, Timing};
use crate::record::endpoint::NetworkError;
use crate::record::{AddressError, Endpoint, EndpointKey, EndpointRecord, Name, NameError};

/// What `released` says for a lease that was released because it was silent.
const SILENT: &str = "silent";
/// What `released` says after a connection was closed.
const CONNECTION_CLOSED: &str = "connection-closed";
/// What an annotation with a duration must be.
const SECONDS: &str = "a whole number of seconds from 0 to 4294967295";

/// Why an object is no endpoint. Someone else made it, or changed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A part of the identity is no name.
    #[error("spec.{field} {error}")]
    Name {
        /// The field of the spec.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// Neither TCP nor UDP.
    #[error("spec.network {0}")]
    Network(#[from] NetworkError),
    /// Nothing that could be dialled.
    #[error("spec.address {0}")]
    Address(#[from] AddressError),
    /// An annotation that cannot be read.
    #[error("annotation {annotation} must be {expected}; correct it or remove it")]
    Annotation {
        /// Its key.
        annotation: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// More than an object may hold.
    #[error(transparent)]
    Oversize(#[from] Oversize),
}

/// What is too much for an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Oversize {
    /// Too many attributes.
    #[error("spec.attributes has {0} entries; at most {MAX_ATTRIBUTES} are allowed")]
    Attributes(usize),
    /// A key that is empty or too long.
    #[error("spec.attributes has a key of {0} characters; 1 to {MAX_ATTRIBUTE_KEY} are allowed")]
    Key(usize),
    /// A value that is too long.
    #[error(
        "spec.attributes.{key} has {length} characters; at most {MAX_ATTRIBUTE_VALUE} are allowed"
    )]
    Value {
        /// Its key.
        key: String,
        /// Its length in characters.
        length: usize,
    },
    /// A holder whose identity is too long.
    #[error("the holder's identity has {0} bytes; at most {MAX_HOLDER} are allowed")]
    Holder(usize),
}

impl TunnelEndpoint {
    /// The object for a record, complete as it is created: name, label, spec
    /// and lease. The namespace is the caller's to choose.
    ///
    /// # Errors
    /// When the record has more than an object may hold.
    pub fn from_record(record: &EndpointRecord) -> Result<Self, Oversize> {
        let EndpointRecord {
            endpoint,
            lease,
            is_static,
        } = record;
        check_attributes(&endpoint.attributes)?;
        let spec = TunnelEndpointSpec {
            tunnel: endpoint.key.tunnel.to_string(),
            connector: endpoint.key.connector.to_string(),
            node: endpoint.key.node.to_string(),
            network: endpoint.network.as_str().into(),
            address: endpoint.address.to_string(),
            attributes: endpoint.attributes.clone(),
            is_static: *is_static,
        };
        let mut annotations = lease_annotations(lease)?;
        if let Some(origin) = endpoint.origin {
            annotations.insert(ORIGIN.into(), origin.to_string());
        }
        if let Some(pod) = endpoint.pod {
            annotations.insert(POD_UID.into(), pod.to_string());
        }
        let label = (TUNNEL_LABEL.into(), tunnel_hash(&endpoint.key.tunnel));
        let mut object = Self::new(&object_name(&endpoint.key), spec);
        object.metadata.annotations = Some(annotations);
        object.metadata.labels = Some([label].into());
        Ok(object)
    }

    /// The record that an object holds, whatever the object's own name is.
    ///
    /// An object without annotations has a lease that nobody holds, from the
    /// object's creation on, for as long as a released one.
    ///
    /// # Errors
    /// When a field or an annotation cannot be read; the error names it.
    pub fn to_record(&self) -> Result<EndpointRecord, Malformed> {
        let spec = &self.spec;
        check_attributes(&spec.attributes)?;
        let endpoint = Endpoint {
            key: self.key()?,
            network: spec.network.parse()?,
            address: spec.address.parse()?,
            origin: self.annotation(ORIGIN, "an IP address", |text| text.parse::<IpAddr>().ok())?,
            pod: self.annotation(POD_UID, "a UUID", |text| text.parse::<Uuid>().ok())?,
            attributes: spec.attributes.clone(),
        };
        Ok(EndpointRecord {
            endpoint,
            lease: self.lease()?,
            is_static: spec.is_static,
        })
    }

    /// The identity of the endpoint, whatever else is wrong with the object.
    ///
    /// # Errors
    /// When a part of it is no name.
    pub fn key(&self) -> Result<EndpointKey, Malformed> {
        let name =
            |field, text| Name::parse(text).map_err(|error| Malformed::Name { field, error });
        Ok(EndpointKey {
            tunnel: name("tunnel", &self.spec.tunnel)?,
            node: name("node", &self.spec.node)?,
            connector: name("connector", &self.spec.connector)?,
        })
    }

    fn lease(&self) -> Result<Lease, Malformed> {
        let holder = self.annotation(HOLDER, "at most 253 bytes long", |text| {
            (text.len() <= MAX_HOLDER).then(|| Arc::<str>::from(text))
        })?;
        let renewed = self.annotation(
            RENEW_TIME,
            "a time such as 2026-07-01T12:00:00.000000Z",
            |text| text.parse::<Timestamp>().ok(),
        )?;
        let seconds = self.annotation(LEASE_DURATION, SECONDS, |text| text.parse().ok())?;
        let interval_seconds =
            self.annotation(RENEW_INTERVAL, SECONDS, |text| text.parse().ok())?;
        let released = self.annotation(RELEASED, "silent or connection-closed", released)?;
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let unheld = Timing::default().released_for.as_secs();
        Ok(Lease {
            holder,
            renew_time: renewed.or(created).unwrap_or(Timestamp::UNIX_EPOCH),
            duration_seconds: seconds.unwrap_or(u32::try_from(unheld).unwrap_or(u32::MAX)),
            released,
            interval_seconds,
        })
    }

    /// Reads an annotation. One that is empty counts as absent: that is how a
    /// field is cleared in coordination.k8s.io.
    fn annotation<T>(
        &self,
        annotation: &'static str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        let annotations = self.metadata.annotations.as_ref();
        match annotations.and_then(|all| all.get(annotation)) {
            Some(text) if !text.is_empty() => read(text).map(Some).ok_or(Malformed::Annotation {
                annotation,
                expected,
            }),
            _ => Ok(None),
        }
    }
}

/// The annotations that are a lease. A write that replaces a lease must also
/// remove those that are not among them, or a released one would keep its holder.
///
/// # Errors
/// When the holder's identity is too long.
pub fn lease_annotations(lease: &Lease) -> Result<BTreeMap<String, String>, Oversize> {
    let mut annotations = BTreeMap::from([
        (RENEW_TIME.into(), format!("{:.6}", lease.renew_time)),
        (LEASE_DURATION.into(), lease.duration_seconds.to_string()),
    ]);
    if let Some(holder) = &lease.holder {
        if holder.len() > MAX_HOLDER {
            return Err(Oversize::Holder(holder.len()));
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

fn released(text: &str) -> Option<Released> {
    match text {
        SILENT => Some(Released::Silent),
        CONNECTION_CLOSED => Some(Released::ConnectionClosed),
        _ => None,
    }
}

/// As the API server checks them; it counts characters, not bytes.
fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), Oversize> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Oversize::Attributes(attributes.len()));
    }
    for (key, value) in attributes {
        let length = key.chars().count();
        if !(1..=MAX_ATTRIBUTE_KEY).contains(&length) {
            return Err(Oversize::Key(length));
        }
        let length = value.chars().count();
        if length > MAX_ATTRIBUTE_VALUE {
            let key = key.clone();
            return Err(Oversize::Value { key, length });
        }
    }
    Ok(())
}
