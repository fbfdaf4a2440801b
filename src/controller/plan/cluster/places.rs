//! Which nodes live at which address.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::map::Map;
use crate::record::{Address, Name};

/// Two nodes at one address are worth telling after this time: a server that
/// restarts has both for as long as the old one takes to be released.
pub const SHARED_AFTER: Duration = Duration::from_secs(90);

/// The addresses at which nodes live.
#[derive(Debug, Default)]
pub struct Places {
    places: Map<Address, Place>,
    /// Those that are shared for less than [`SHARED_AFTER`], in order.
    young: VecDeque<(Instant, Address)>,
}

#[derive(Debug, Default)]
struct Place {
    /// With how many endpoints each.
    nodes: Vec<(Name, usize)>,
    shared_since: Option<Instant>,
}

impl Places {
    /// An endpoint of `node` lives there.
    pub fn put(&mut self, address: &Address, node: &Name, now: Instant) {
        let place = self.places.entry(address.clone()).or_default();
        match place.nodes.iter_mut().find(|(name, _)| name == node) {
            Some((_, endpoints)) => *endpoints += 1,
            None => {
                place.nodes.push((node.clone(), 1));
                if place.nodes.len() > 1 {
                    // One more is told as late as the first two.
                    place.shared_since.get_or_insert(now);
                    self.young.push_back((now, address.clone()));
                }
            }
        }
    }

    /// An endpoint of `node` lives there no more. Returns the nodes that no
    /// longer share it with anyone.
    pub fn remove(&mut self, address: &Address, node: &Name) -> Vec<Name> {
        let Some(place) = self.places.get_mut(address) else {
            return Vec::new();
        };
        let Some(at) = place.nodes.iter().position(|(name, _)| name == node) else {
            return Vec::new();
        };
        place.nodes[at].1 -= 1;
        if place.nodes[at].1 > 0 {
            return Vec::new();
        }
        place.nodes.swap_remove(at);
        match place.nodes.as_slice() {
            [] => {
                self.places.remove(address);
                Vec::new()
            }
            [(only, _)] if place.shared_since.take().is_some() => vec![only.clone()],
            _ => Vec::new(),
        }
    }

    /// Whether several nodes have lived there for long enough.
    pub fn is_shared(&self, address: &Address, now: Instant) -> bool {
        let place = self.places.get(address);
        place
            .and_then(|place| place.shared_since)
            .is_some_and(|since| now.saturating_duration_since(since) >= SHARED_AFTER)
    }

    /// The nodes at addresses that have become shared for long enough.
    pub fn turned(&mut self, now: Instant) -> Vec<Name> {
        let mut turned = Vec::new();
        let old = |since: Instant| now.saturating_duration_since(since) >= SHARED_AFTER;
        while let Some((_, address)) = self.young.pop_front_if(|(since, _)| old(*since)) {
            if self.is_shared(&address, now)
                && let Some(place) = self.places.get(&address)
            {
                turned.extend(place.nodes.iter().map(|(node, _)| node.clone()));
            }
        }
        turned
    }
}
