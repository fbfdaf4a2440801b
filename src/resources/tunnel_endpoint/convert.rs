//! Between records and objects, both ways.

use std::collections::BTreeMap;
use std::net::IpAddr;

use uuid::Uuid;

use super::name::{object_name, tunnel_hash};
use super::{
    MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES, ORIGIN, POD_UID, TUNNEL_LABEL,
    TunnelEndpoint, TunnelEndpointSpec,
};
use crate::record::endpoint::NetworkError;
use crate::record::{AddressError, Endpoint, EndpointKey, EndpointRecord, Name, NameError};
use crate::resources::lease::{self, HolderTooLong, MalformedAnnotation, annotation};

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
    #[error(transparent)]
    Annotation(#[from] MalformedAnnotation),
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
    #[error(transparent)]
    Holder(#[from] HolderTooLong),
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
        let mut annotations = lease::annotations(lease)?;
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
            origin: annotation(&self.metadata, ORIGIN, "an IP address", |text| {
                text.parse::<IpAddr>().ok()
            })?,
            pod: annotation(&self.metadata, POD_UID, "a UUID", |text| {
                text.parse::<Uuid>().ok()
            })?,
            attributes: spec.attributes.clone(),
        };
        Ok(EndpointRecord {
            endpoint,
            lease: lease::read(&self.metadata)?,
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
