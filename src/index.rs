//! Who is reachable where: a synchronous structure that answers from memory.
//!
//! It holds what the store holds, fed by the store's watch, with what this
//! process is about to write laid over it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::backend::Revision;
use crate::map::Map;
use crate::record::{Address, Endpoint, EndpointKey, EndpointRecord, Name};

/// An endpoint that is known.
#[derive(Debug)]
pub struct Entry {
    /// The endpoint and its lease, as they should be stored.
    pub record: Arc<EndpointRecord>,
    /// At which revision the store is known to hold the endpoint; none before it
    /// was written for the first time.
    pub revision: Option<Revision>,
    /// Why `record` is to be written; none when the store holds it.
    pub wanted: Option<Wanted>,
    /// Why the write that is under way was made.
    pub writing: Option<Wanted>,
    /// Whether a write of it was ever handed out, so that the store may hold it.
    pub attempted: bool,
    /// When this process last heard a call for it, in counted time.
    pub heard: Option<Instant>,
    /// When its lease is to be written anew, in counted time, if ever.
    pub refresh: Option<Instant>,
}

/// Why an endpoint is to be written. It decides what becomes of the write when
/// somebody else has written meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its lease has been unwritten for long. Only its holder does that.
    Refresh,
    /// It was silent. Only its holder does that.
    Release,
    /// It was heard, and nobody else holds it.
    Hold,
    /// It was announced, with where it is reached.
    Announce,
}

impl Wanted {
    /// Both are wanted: `later` came last.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        match (self, later) {
            // Whatever its lease: where it is reached is told by nobody else.
            (Self::Announce, _) => Self::Announce,
            (Self::Hold, Self::Refresh) => Self::Hold,
            (_, later) => later,
        }
    }
}

impl Entry {
    /// An endpoint as the store holds it.
    #[must_use]
    pub fn stored(record: Arc<EndpointRecord>, revision: Revision) -> Self {
        Self {
            record,
            revision: Some(revision),
            wanted: None,
            writing: None,
            attempted: true,
            heard: None,
            refresh: None,
        }
    }

    /// Its identity.
    #[must_use]
    pub fn key(&self) -> &EndpointKey {
        &self.record.endpoint.key
    }

    /// What is wanted of the store that it has not confirmed yet.
    #[must_use]
    pub fn pending(&self) -> Option<Wanted> {
        match (self.writing, self.wanted) {
            (Some(writing), Some(wanted)) => Some(writing.then(wanted)),
            (writing, wanted) => wanted.or(writing),
        }
    }
}

/// The endpoints that are known, by key, tunnel and address.
#[derive(Debug, Default)]
pub struct Index {
    entries: Slab<Entry>,
    keys: Map<EndpointKey, u32>,
    tunnels: Map<Name, Vec<u32>>,
    addresses: Map<Address, Vec<Tenant>>,
}

/// A node that has endpoints at an address.
#[derive(Debug)]
pub struct Tenant {
    /// The node.
    pub node: Name,
    /// The host that registered them.
    pub origin: Option<IpAddr>,
    endpoints: usize,
}

impl Index {
    /// How many endpoints are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An endpoint.
    #[must_use]
    pub fn get(&self, key: &EndpointKey) -> Option<&Entry> {
        self.entries.get(*self.keys.get(key)? as usize)
    }

    /// An endpoint, to be changed. Its key and address stay: use
    /// [`Index::insert`] to change the address.
    pub fn get_mut(&mut self, key: &EndpointKey) -> Option<&mut Entry> {
        self.entries.get_mut(*self.keys.get(key)? as usize)
    }

    /// Where [`Index::at`] finds an endpoint, until it is removed.
    #[must_use]
    pub fn position(&self, key: &EndpointKey) -> Option<u32> {
        self.keys.get(key).copied()
    }

    /// The endpoint at a position.
    #[must_use]
    pub fn at(&self, position: u32) -> Option<&Entry> {
        self.entries.get(position as usize)
    }

    /// Puts an endpoint in, in place of the one with its key, which is returned.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let endpoint = &entry.record.endpoint;
        self.move_in(endpoint);
        if let Some(&at) = self.keys.get(&endpoint.key) {
            let before = std::mem::replace(&mut self.entries[at as usize], entry);
            self.move_out(&before.record.endpoint);
            return Some(before);
        }
        let (tunnel, key) = (endpoint.key.tunnel.clone(), endpoint.key.clone());
        // The limit on endpoints keeps positions far below 2^32.
        let at = u32::try_from(self.entries.insert(entry)).unwrap_or(u32::MAX);
        self.keys.insert(key, at);
        self.tunnels.entry(tunnel).or_default().push(at);
        None
    }

    /// Takes an endpoint out.
    pub fn remove(&mut self, key: &EndpointKey) -> Option<Entry> {
        let at = self.keys.remove(key)?;
        let entry = self.entries.try_remove(at as usize)?;
        if let Some(positions) = self.tunnels.get_mut(&key.tunnel) {
            positions.retain(|position| *position != at);
            if positions.is_empty() {
                self.tunnels.remove(&key.tunnel);
            }
        }
        self.move_out(&entry.record.endpoint);
        Some(entry)
    }

    /// The endpoints of a tunnel.
    pub fn of_tunnel(&self, tunnel: &Name) -> impl ExactSizeIterator<Item = &Entry> {
        let positions = self.tunnels.get(tunnel).map_or(&[][..], Vec::as_slice);
        positions.iter().map(|at| &self.entries[*at as usize])
    }

    /// How many tunnels have endpoints.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels.len()
    }

    /// The nodes that have endpoints at an address.
    pub fn nodes_at(&self, address: &Address) -> impl Iterator<Item = &Tenant> {
        self.addresses.get(address).into_iter().flatten()
    }

    /// The positions that [`Index::slice`] takes lie below this.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.entries.capacity()
    }

    /// The endpoints at positions `from..from + count`, so that all can be
    /// visited a few at a time: one that is there throughout is met once.
    pub fn slice(&self, from: usize, count: usize) -> impl Iterator<Item = &Entry> {
        (from..from.saturating_add(count).min(self.positions()))
            .filter_map(|at| self.entries.get(at))
    }

    fn move_in(&mut self, endpoint: &Endpoint) {
        let node = &endpoint.key.node;
        let tenants = match self.addresses.get_mut(&endpoint.address) {
            Some(tenants) => tenants,
            None => self.addresses.entry(endpoint.address.clone()).or_default(),
        };
        match tenants.iter_mut().find(|tenant| tenant.node == *node) {
            Some(tenant) => tenant.endpoints += 1,
            None => tenants.push(Tenant {
                node: node.clone(),
                origin: endpoint.origin,
                endpoints: 1,
            }),
        }
    }

    fn move_out(&mut self, endpoint: &Endpoint) {
        let Some(tenants) = self.addresses.get_mut(&endpoint.address) else {
            return;
        };
        let node = &endpoint.key.node;
        if let Some(at) = tenants.iter().position(|tenant| tenant.node == *node) {
            tenants[at].endpoints -= 1;
            if tenants[at].endpoints == 0 {
                tenants.swap_remove(at);
            }
        }
        if tenants.is_empty() {
            self.addresses.remove(&endpoint.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{name, record};

    fn entry(tunnel: &str, node: &str, connector: &str) -> Entry {
        Entry {
            wanted: Some(Wanted::Announce),
            ..Entry::stored(
                Arc::new(record(tunnel, node, connector)),
                Revision::default(),
            )
        }
    }

    fn connectors(index: &Index, tunnel: &str) -> Vec<String> {
        let mut names: Vec<_> = index
            .of_tunnel(&name(tunnel))
            .map(|entry| entry.key().connector.to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn endpoints_are_found_by_tunnel() {
        let mut index = Index::default();
        index.insert(entry("t", "n", "a"));
        index.insert(entry("t", "n", "b"));
        index.insert(entry("u", "n", "c"));
        assert_eq!(connectors(&index, "t"), ["a", "b"]);
        assert!(
            index
                .remove(&entry("t", "n", "a").record.endpoint.key)
                .is_some()
        );
        assert_eq!(connectors(&index, "t"), ["b"]);
        assert_eq!((index.len(), index.tunnels()), (2, 2));
    }

    #[test]
    fn the_same_key_replaces() {
        let mut index = Index::default();
        index.insert(entry("t", "n", "a"));
        let mut moved = record("t", "n", "a");
        moved.endpoint.address = "10.0.0.99:80".parse().unwrap();
        let before = index.insert(Entry {
            record: Arc::new(moved.clone()),
            ..entry("t", "n", "a")
        });
        assert!(before.is_some());
        assert_eq!(connectors(&index, "t"), ["a"]);
        assert_eq!(index.nodes_at(&moved.endpoint.address).count(), 1);
        assert_eq!(
            index
                .nodes_at(&record("t", "n", "a").endpoint.address)
                .count(),
            0
        );
    }

    #[test]
    fn nodes_leave_an_address_with_their_last_endpoint() {
        let mut index = Index::default();
        index.insert(entry("t", "n", "a"));
        index.insert(entry("u", "n", "b"));
        let address = record("t", "n", "a").endpoint.address;
        index.remove(&entry("t", "n", "a").record.endpoint.key);
        assert_eq!(index.nodes_at(&address).count(), 1);
        index.remove(&entry("u", "n", "b").record.endpoint.key);
        assert_eq!(index.nodes_at(&address).count(), 0);
        assert!(index.is_empty());
    }

    #[test]
    fn everything_is_visited_in_slices() {
        let mut index = Index::default();
        for at in 0..10 {
            index.insert(entry("t", "n", &at.to_string()));
        }
        index.remove(&entry("t", "n", "3").record.endpoint.key);
        let met: usize = (0..index.positions())
            .step_by(4)
            .map(|from| index.slice(from, 4).count())
            .sum();
        assert_eq!(met, 9);
    }
}
