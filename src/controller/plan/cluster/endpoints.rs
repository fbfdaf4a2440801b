//! Every endpoint of the cluster, found by key, by node and by pod.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use uuid::Uuid;

use super::super::waits::{Mark, Wanted};
use super::{Census, released};
use crate::backend::Revision;
use crate::map::{Map, Set};
use crate::record::{Address, EndpointKey, EndpointRecord, Name};

/// What is kept of an endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub key: Arc<EndpointKey>,
    pub revision: Revision,
    pub mark: Mark,
    /// What becomes of it while nobody holds its lease.
    pub released: Option<Wanted>,
    /// How long its own lease is valid, in seconds.
    pub duration_seconds: u32,
    /// When its own lease runs out (counted), and whether it has. Asked for only
    /// while its holder never had a lease.
    pub lapses: Option<Instant>,
    pub has_lapsed: bool,
    pub is_static: bool,
    /// Whether it counts among those that live at its address.
    pub placed: bool,
    pub pod: Option<Uuid>,
    pub address: Address,
}

impl Endpoint {
    /// Whether `record` says the same of everything that matters here.
    pub fn is(&self, record: &EndpointRecord) -> bool {
        self.mark == Mark::of(&record.lease)
            && self.released == released(&record.lease)
            && self.duration_seconds == record.lease.duration_seconds
            && self.is_static == record.is_static
            && self.pod == record.endpoint.pod
            && self.address == record.endpoint.address
    }
}

/// Every endpoint, under a number that stays as long as it is there.
#[derive(Debug, Default)]
pub struct Endpoints {
    all: Slab<Endpoint>,
    ids: Map<Arc<EndpointKey>, u32>,
    /// Without those that are kept by hand.
    nodes: Map<Name, Set<u32>>,
    pods: Map<Uuid, Set<u32>>,
}

impl Endpoint {
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_seconds.into())
    }
}

impl Endpoints {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn id(&self, key: &EndpointKey) -> Option<u32> {
        self.ids.get(key).copied()
    }

    /// The endpoint with this number, which must be there.
    pub fn get(&self, id: u32) -> &Endpoint {
        &self.all[id as usize]
    }

    pub fn get_mut(&mut self, id: u32) -> &mut Endpoint {
        &mut self.all[id as usize]
    }

    pub fn find_mut(&mut self, id: u32) -> Option<&mut Endpoint> {
        self.all.get_mut(id as usize)
    }

    /// An endpoint that is not there yet.
    pub fn add(&mut self, record: &EndpointRecord, revision: Revision) -> u32 {
        let key = Arc::new(record.endpoint.key.clone());
        let endpoint = Endpoint {
            key: Arc::clone(&key),
            revision,
            mark: Mark::of(&record.lease),
            released: released(&record.lease),
            duration_seconds: record.lease.duration_seconds,
            lapses: None,
            has_lapsed: false,
            is_static: record.is_static,
            placed: false,
            pod: record.endpoint.pod,
            address: record.endpoint.address.clone(),
        };
        // A store with four thousand million endpoints is none.
        let id = u32::try_from(self.all.insert(endpoint)).unwrap_or(u32::MAX);
        if !record.is_static {
            self.nodes.entry(key.node.clone()).or_default().insert(id);
        }
        if let Some(pod) = record.endpoint.pod {
            self.pods.entry(pod).or_default().insert(id);
        }
        self.ids.insert(key, id);
        id
    }

    /// Takes out an endpoint, which must be there.
    pub fn remove(&mut self, id: u32) -> Endpoint {
        let endpoint = self.all.remove(id as usize);
        self.ids.remove(&endpoint.key);
        leave(&mut self.nodes, &endpoint.key.node, id);
        if let Some(pod) = &endpoint.pod {
            leave(&mut self.pods, pod, id);
        }
        endpoint
    }

    pub fn missing_from(&self, present: &Set<EndpointKey>) -> Vec<EndpointKey> {
        let missing = self.ids.keys().filter(|key| !present.contains(&***key));
        missing.map(|key| EndpointKey::clone(key)).collect()
    }

    pub fn of_node(&self, node: &Name) -> Vec<u32> {
        members(&self.nodes, node)
    }

    pub fn of_pod(&self, pod: &Uuid) -> Vec<u32> {
        members(&self.pods, pod)
    }
}

fn members<K: Eq + Hash>(groups: &Map<K, Set<u32>>, group: &K) -> Vec<u32> {
    let members = groups.get(group).into_iter().flatten();
    members.copied().collect()
}

fn leave<K: Eq + Hash>(groups: &mut Map<K, Set<u32>>, group: &K, id: u32) {
    if let Some(members) = groups.get_mut(group) {
        members.remove(&id);
        if members.is_empty() {
            groups.remove(group);
        }
    }
}

impl Census for Endpoints {
    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn endpoints_of(&self, node: &Name) -> usize {
        self.nodes.get(node).map_or(0, Set::len)
    }
}
