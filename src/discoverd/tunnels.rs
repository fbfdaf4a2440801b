//! gost's tunnels as services, to be read only: whoever follows services in this way
//! needs no second one for tunnels.
//!
//! A tunnel is shown under its name where no service has that name. Its instances
//! are the addresses at which it is reached: a server that has several connectors of
//! it is one. It is told by comparing what there is with what was told, several times
//! a second, and only for tunnels that somebody follows: the others cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::discoverd::event::What;
use crate::discoverd::instance::{Instance, InstanceId};
use crate::discoverd::name::ServiceName;
use crate::discoverd::record::InstanceRecord;
use crate::record::{EndpointRecord, Name};
use crate::registry::Registry;

/// How often tunnels that somebody follows are compared.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where the endpoints of tunnels are known.
pub trait Tunnels: fmt::Debug + Send + Sync {
    /// The endpoints of a tunnel in the order in which they came to be known; none
    /// if it has none; nothing before the store was read.
    fn of(&self, tunnel: &Name) -> Option<Vec<Arc<EndpointRecord>>>;
}

impl Tunnels for Registry {
    fn of(&self, tunnel: &Name) -> Option<Vec<Arc<EndpointRecord>>> {
        self.endpoints_of_tunnel(tunnel)
    }
}

/// A tunnel as it was told.
#[derive(Debug, Default)]
pub struct Tunnel {
    endpoints: Vec<Arc<EndpointRecord>>,
    instances: BTreeMap<u64, Arc<InstanceRecord>>,
    /// The last index that was given out.
    last: u64,
}

impl Tunnel {
    /// Its instances, in the order in which they were met.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<InstanceRecord>> {
        self.instances.values()
    }

    /// Its endpoints are these now; returns what is to be told.
    pub fn is(&mut self, service: &ServiceName, endpoints: Vec<Arc<EndpointRecord>>) -> Vec<What> {
        let is_same = endpoints.len() == self.endpoints.len()
            && endpoints
                .iter()
                .zip(&self.endpoints)
                .all(|(new, old)| Arc::ptr_eq(new, old));
        if is_same {
            return Vec::new();
        }
        let places = places(&endpoints);
        let is_there = |id| places.iter().any(|(instance, _)| instance.id == id);
        let mut told = Vec::new();
        self.instances.retain(|_, known| {
            let stays = is_there(known.instance.id);
            if !stays {
                told.push(What::Down(Arc::clone(known)));
            }
            stays
        });
        let mut known: BTreeMap<InstanceId, u64> = BTreeMap::new();
        known.extend(
            self.instances
                .iter()
                .map(|(index, record)| (record.instance.id, *index)),
        );
        for (instance, endpoint) in places {
            let index = known.get(&instance.id).copied();
            let before = index.and_then(|index| self.instances.get(&index));
            if before.is_some_and(|before| before.instance == instance) {
                continue;
            }
            let is_new = before.is_none();
            self.last += u64::from(index.is_none());
            let record = Arc::new(InstanceRecord {
                service: service.clone(),
                born: 0,
                index: index.unwrap_or(self.last),
                instance,
                lease: endpoint.lease.clone(),
            });
            self.instances.insert(record.index, Arc::clone(&record));
            told.push(match is_new {
                true => What::Up(record),
                false => What::Update(record),
            });
        }
        self.endpoints = endpoints;
        told
    }
}

/// The places at which endpoints are reached, in their order, each with the first of
/// its endpoints.
fn places(endpoints: &[Arc<EndpointRecord>]) -> Vec<(Instance, &Arc<EndpointRecord>)> {
    let mut places: Vec<(InstanceId, Vec<&Arc<EndpointRecord>>)> = Vec::new();
    for record in endpoints {
        let endpoint = &record.endpoint;
        let id = InstanceId::of(endpoint.network.as_str(), &endpoint.address.to_string());
        match places.iter_mut().find(|(known, _)| *known == id) {
            Some((_, of_place)) => of_place.push(record),
            None => places.push((id, vec![record])),
        }
    }
    places
        .iter()
        .filter_map(|(_, of_place)| Some((instance(of_place)?, *of_place.first()?)))
        .collect()
}

/// The instance that endpoints of one place are shown as.
fn instance(of_place: &[&Arc<EndpointRecord>]) -> Option<Instance> {
    let endpoints = of_place.iter().map(|record| &record.endpoint);
    let first = of_place.first()?;
    let nodes = endpoints.clone().map(|one| one.key.node.to_string());
    let nodes: Vec<String> = nodes.collect::<BTreeSet<_>>().into_iter().collect();
    let attributes = endpoints.flat_map(|one| one.attributes.clone());
    let mut meta: BTreeMap<String, String> = attributes.collect();
    meta.insert("connectors".into(), of_place.len().to_string());
    meta.insert("nodes".into(), nodes.join(","));
    let network = first.endpoint.network.as_str();
    let addr = first.endpoint.address.to_string();
    // Attributes without end, kept by hand, are left out rather than the place.
    Instance::new(addr.clone(), network.into(), meta)
        .or_else(|_| Instance::new(addr, network.into(), BTreeMap::new()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::record;

    fn endpoint(node: &str, connector: &str, address: &str) -> Arc<EndpointRecord> {
        let mut record = record("t", node, connector);
        record.endpoint.address = address.parse().unwrap();
        Arc::new(record)
    }

    fn said(told: &[What]) -> Vec<String> {
        let said = |what: &What| {
            let (kind, record) = match what {
                What::Up(record) => ("up", record),
                What::Update(record) => ("update", record),
                What::Down(record) => ("down", record),
                other => panic!("{other:?}"),
            };
            let meta = &record.instance.meta;
            format!(
                "{kind} {} {} {} {}",
                record.index, record.instance.addr, meta["connectors"], meta["nodes"]
            )
        };
        told.iter().map(said).collect()
    }

    #[test]
    fn a_tunnel_is_told_by_its_places() {
        let name = ServiceName::parse("t").unwrap();
        let mut tunnel = Tunnel::default();
        let (a, b) = (
            endpoint("n1", "a", "10.0.0.1:80"),
            endpoint("n1", "b", "10.0.0.1:80"),
        );
        let c = endpoint("n2", "c", "10.0.0.2:80");
        let told = tunnel.is(&name, vec![a.clone(), c.clone(), b.clone()]);
        assert_eq!(
            said(&told),
            ["up 1 10.0.0.1:80 2 n1", "up 2 10.0.0.2:80 1 n2"]
        );
        let told = tunnel.is(&name, vec![a.clone(), c.clone(), b.clone()]);
        assert!(told.is_empty(), "{told:?}");
        // A lease is no news, one connector less is.
        let again = endpoint("n1", "a", "10.0.0.1:80");
        let told = tunnel.is(&name, vec![again.clone(), c.clone(), b]);
        assert!(told.is_empty(), "{told:?}");
        let told = tunnel.is(&name, vec![again.clone(), c.clone()]);
        assert_eq!(said(&told), ["update 1 10.0.0.1:80 1 n1"]);
        // What comes back is met anew.
        assert_eq!(
            said(&tunnel.is(&name, vec![c.clone()])),
            ["down 1 10.0.0.1:80 1 n1"]
        );
        assert_eq!(
            said(&tunnel.is(&name, vec![c, again])),
            ["up 3 10.0.0.1:80 1 n1"]
        );
        let order: Vec<u64> = tunnel.instances().map(|record| record.index).collect();
        assert_eq!(order, [2, 3]);
    }

    #[test]
    fn attributes_are_shown_and_too_many_are_not() {
        let name = ServiceName::parse("t").unwrap();
        let kept = |text: String| {
            let mut kept = (*endpoint("n", "a", "10.0.0.1:80")).clone();
            kept.endpoint.attributes.insert("zone".into(), text);
            Arc::new(kept)
        };
        let mut tunnel = Tunnel::default();
        tunnel.is(&name, vec![kept("b".into())]);
        let meta = |tunnel: &Tunnel| tunnel.instances().next().unwrap().instance.meta.clone();
        assert_eq!(meta(&tunnel)["zone"], "b");
        tunnel.is(&name, vec![kept("x".repeat(20_000))]);
        assert!(meta(&tunnel).is_empty());
    }
}
