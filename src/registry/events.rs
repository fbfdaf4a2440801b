//! What the registry did by itself: for the log, and as counts for the metrics.

use crate::lease::Released;
use crate::record::{EndpointKey, Name};

/// At most so many events wait to be logged; more are only counted.
const MAX_WAITING: usize = 1_000;

/// Something that an operator may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer closed the last connection that carried this node's calls.
    Suspect(Name),
    /// An endpoint was silent for its base time.
    Released(EndpointKey, Released),
    /// A released endpoint was removed from the store, or somebody else removed it.
    Expired(EndpointKey),
    /// An endpoint was left behind by a previous life of its gost.
    Superseded(EndpointKey),
    /// A renewal brought back an endpoint that had gone.
    Restored(EndpointKey),
    /// This node lives at an address where another one appeared.
    AddressShared(Name),
}

/// How often things happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Endpoints that were silent for their base time.
    pub released: u64,
    /// Endpoints that went without a Deregister.
    pub expired: u64,
    /// Endpoints of previous lives.
    pub superseded: u64,
    /// Endpoints that a renewal brought back.
    pub restored: u64,
    /// Endpoints that were taken over from a replica that had ceased to vouch.
    pub taken_over: u64,
    /// Leases of endpoints that were written anew for their age.
    pub refreshed: u64,
    /// Late calls that a Deregister had overtaken.
    pub absorbed: u64,
    /// Renewals of what nobody registered here.
    pub unknown_renewals: u64,
    /// Times that a node became suspect.
    pub suspected: u64,
    /// Events that were too many to be logged.
    pub unlogged: u64,
}

/// Events that wait to be logged, and the counts.
#[derive(Debug, Default)]
pub struct Events {
    /// The counts.
    pub counts: Counts,
    waiting: Vec<Event>,
}

impl Events {
    /// Notes an event for the log.
    pub fn push(&mut self, event: Event) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(event);
        } else {
            self.counts.unlogged += 1;
        }
    }

    /// Takes what waits.
    #[must_use]
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_is_counted() {
        let mut events = Events::default();
        let name: Name = "n".parse().unwrap();
        for _ in 0..MAX_WAITING + 5 {
            events.push(Event::Suspect(name.clone()));
        }
        assert_eq!(events.counts.unlogged, 5);
        assert_eq!(events.take().len(), MAX_WAITING);
        assert!(events.take().is_empty());
    }
}
