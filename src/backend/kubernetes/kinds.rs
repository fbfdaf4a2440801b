//! Which records the objects of each kind hold.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use super::holders::Holders;
use super::object::Object;
use crate::record::{Key, Kind, Record};
use crate::resources::proxy_session::convert as proxy_session;
use crate::resources::tunnel_endpoint::name;
use crate::resources::{
    DiscoveryInstance, DiscoveryService, ProxySession, TunnelEndpoint, discovery_instance,
    discovery_service, replica_lease,
};

impl Object for TunnelEndpoint {
    const KIND: Kind = Kind::Endpoint;
    const SELECTOR: Option<&'static str> = None;
    const WORD: &'static str = "tunnelendpoint";
    const RESTORED: bool = false;

    fn from_record(record: &Record) -> Result<Self, String> {
        match record {
            Record::Endpoint(record) => Self::from_record(record).map_err(|why| why.to_string()),
            other => Err(no(other, "endpoint")),
        }
    }

    fn patch(record: &Record) -> Result<Value, String> {
        match record {
            Record::Endpoint(record) => Self::patch(record).map_err(|why| why.to_string()),
            other => Err(no(other, "endpoint")),
        }
    }

    fn surplus(&self, record: &Record) -> Option<Value> {
        match record {
            Record::Endpoint(record) => self.surplus(record),
            _ => None,
        }
    }

    fn key(&self) -> Option<Key> {
        self.key().ok().map(Key::Endpoint)
    }

    fn record(&self, holders: &mut Holders) -> Result<Record, String> {
        let mut record = self.to_record().map_err(|why| why.to_string())?;
        record.lease.holder = record.lease.holder.map(|holder| holders.share(holder));
        Ok(Record::Endpoint(Arc::new(record)))
    }
}

impl Object for Lease {
    const KIND: Kind = Kind::Replica;
    const SELECTOR: Option<&'static str> = Some(replica_lease::SELECTOR);
    const WORD: &'static str = "lease";
    const RESTORED: bool = true;

    fn from_record(record: &Record) -> Result<Self, String> {
        match record {
            Record::Replica(record) => {
                replica_lease::from_record(record).map_err(|why| why.to_string())
            }
            other => Err(no(other, "replica")),
        }
    }

    fn patch(record: &Record) -> Result<Value, String> {
        match record {
            Record::Replica(record) => replica_lease::patch(record).map_err(|why| why.to_string()),
            other => Err(no(other, "replica")),
        }
    }

    fn key(&self) -> Option<Key> {
        replica_lease::identity(self).map(|identity| Key::Replica(identity.into()))
    }

    fn record(&self, holders: &mut Holders) -> Result<Record, String> {
        let mut record = replica_lease::to_record(self).map_err(|why| why.to_string())?;
        record.identity = holders.share(record.identity);
        Ok(Record::Replica(Arc::new(record)))
    }
}

impl Object for ProxySession {
    const KIND: Kind = Kind::Session;
    const SELECTOR: Option<&'static str> = None;
    const WORD: &'static str = "proxysession";
    const RESTORED: bool = false;

    fn from_record(record: &Record) -> Result<Self, String> {
        match record {
            Record::Session(record) => Self::from_record(record).map_err(|why| why.to_string()),
            other => Err(no(other, "session")),
        }
    }

    fn patch(record: &Record) -> Result<Value, String> {
        match record {
            Record::Session(record) => Self::patch(record).map_err(|why| why.to_string()),
            other => Err(no(other, "session")),
        }
    }

    fn key(&self) -> Option<Key> {
        self.key().map(Key::Session)
    }

    fn record(&self, holders: &mut Holders) -> Result<Record, String> {
        let mut record = self.to_record().map_err(|why| why.to_string())?;
        record.lease.holder = record.lease.holder.map(|holder| holders.share(holder));
        record.written_by = holders.share(record.written_by);
        Ok(Record::Session(Arc::new(record)))
    }
}

impl Object for DiscoveryService {
    const KIND: Kind = Kind::Service;
    const SELECTOR: Option<&'static str> = None;
    const WORD: &'static str = "discoveryservice";
    const RESTORED: bool = false;

    fn from_record(record: &Record) -> Result<Self, String> {
        match record {
            Record::Service(record) => Ok(Self::from_record(record)),
            other => Err(no(other, "service")),
        }
    }

    fn patch(record: &Record) -> Result<Value, String> {
        match record {
            Record::Service(record) => Ok(Self::patch(record)),
            other => Err(no(other, "service")),
        }
    }

    fn key(&self) -> Option<Key> {
        self.key().ok().map(Key::Service)
    }

    fn record(&self, _: &mut Holders) -> Result<Record, String> {
        let record = self.to_record().map_err(|why| why.to_string())?;
        Ok(Record::Service(Arc::new(record)))
    }
}

impl Object for DiscoveryInstance {
    const KIND: Kind = Kind::Instance;
    const SELECTOR: Option<&'static str> = None;
    const WORD: &'static str = "discoveryinstance";
    const RESTORED: bool = false;

    fn from_record(record: &Record) -> Result<Self, String> {
        match record {
            Record::Instance(record) => Self::from_record(record).map_err(|why| why.to_string()),
            other => Err(no(other, "instance")),
        }
    }

    fn patch(record: &Record) -> Result<Value, String> {
        match record {
            Record::Instance(record) => Self::patch(record).map_err(|why| why.to_string()),
            other => Err(no(other, "instance")),
        }
    }

    fn key(&self) -> Option<Key> {
        self.key().ok().map(Key::Instance)
    }

    fn record(&self, holders: &mut Holders) -> Result<Record, String> {
        let mut record = self.to_record().map_err(|why| why.to_string())?;
        record.lease.holder = record.lease.holder.map(|holder| holders.share(holder));
        Ok(Record::Instance(Arc::new(record)))
    }
}

/// Why a record has no object of a kind.
fn no(record: &Record, wanted: &str) -> String {
    format!("{} is no {wanted}", record.key())
}

/// The name of the object that is created for a key.
pub(super) fn canonical_name(key: &Key) -> String {
    match key {
        Key::Endpoint(key) => name::object_name(key),
        Key::Replica(identity) => replica_lease::lease_name(identity),
        Key::Session(key) => proxy_session::object_name(*key),
        Key::Service(name) => discovery_service::object_name(name),
        Key::Instance(key) => discovery_instance::object_name(key),
    }
}
