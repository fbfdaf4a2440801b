//! When an endpoint that nobody maintains goes. Pure: the store's changes and
//! the time come in, the endpoints to delete come out.
//!
//! [`Plan`] is for a store inside this process, whose only registry releases what
//! has become silent. [`cluster`] adds what several replicas need: endpoints
//! whose holder has died, and those whose pod is gone.

pub mod cluster;
pub mod own;
pub mod pace;
pub mod routes;
mod waits;

use std::time::{Duration, Instant};

use crate::backend::{Change, Revision, Stored, endpoint_keys};
use crate::contact::Contact;
use crate::lease::{Lease, Released};
use crate::record::{EndpointKey, Key, Kind, Name, Record};
use waits::{Mark, Waits, Wanted};

pub use pace::{Allowance, Pace};

/// How many nodes there are, and how many endpoints each has.
pub trait Census {
    /// All nodes that have endpoints.
    fn nodes(&self) -> usize;
    /// The endpoints of one.
    fn endpoints_of(&self, node: &Name) -> usize;
}

/// Why an endpoint is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It was released because nothing was heard of it, and nobody took it over.
    Silent,
    /// The same, after the peer had closed the connection that carried its calls.
    ConnectionClosed,
    /// The replica that held it has died, and nobody took it over.
    HolderLost,
    /// The pod that it ran in is gone.
    PodGone,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 4] = [
        Self::Silent,
        Self::ConnectionClosed,
        Self::HolderLost,
        Self::PodGone,
    ];

    /// The value of a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::ConnectionClosed => "connection_closed",
            Self::HolderLost => "holder_lost",
            Self::PodGone => "pod_gone",
        }
    }

    /// The reason as conditions and events of Kubernetes write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Silent => "Silent",
            Self::ConnectionClosed => "ConnectionClosed",
            Self::HolderLost => "HolderLost",
            Self::PodGone => "PodGone",
        }
    }
}

/// An endpoint that goes now, at the revision that was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The endpoint.
    pub key: EndpointKey,
    /// What must still be its revision.
    pub revision: Revision,
    /// Why it goes.
    pub reason: Reason,
}

/// The released endpoints of a store inside this process, and when they go. Of
/// what is maintained nothing is kept.
#[derive(Debug)]
pub struct Plan {
    waits: Waits,
    contact: Contact,
}

impl Plan {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            waits: Waits::new(pace, now),
            contact: Contact::new(now),
        }
    }

    /// The store answered a request of ours: time since its last answer counts,
    /// unless that was too long ago.
    pub fn contact(&mut self, now: Instant) {
        self.contact.heard(now);
        self.waits.begin(&self.contact);
    }

    /// The store's watch tells changes, in order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply_one(change);
        }
    }

    fn apply_one(&mut self, change: &Change) {
        match change {
            Change::Reset(Kind::Endpoint, all, _) => {
                let present = endpoint_keys(all);
                let keys = self.waits.keys();
                let gone: Vec<_> = keys
                    .filter(|key| !present.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.waits.forget(&key);
                }
                for stored in all {
                    self.put(stored);
                }
            }
            Change::Put(stored) => self.put(stored),
            Change::Delete(Key::Endpoint(key), _) => self.waits.forget(key),
            Change::Reset(..) | Change::Delete(..) => {}
        }
    }

    fn put(&mut self, stored: &Stored) {
        let Record::Endpoint(record) = &stored.record else {
            return;
        };
        let wanted = released(&record.lease).filter(|_| !record.is_static);
        // The usual change: nothing waits, and this is maintained.
        if wanted.is_none() && self.waits.is_empty() {
            return;
        }
        let mark = Mark::of(&record.lease);
        let key = &record.endpoint.key;
        self.waits.set(key, stored.revision, &mark, wanted);
    }

    /// The endpoints that go now, at the revisions that were seen. Whoever
    /// deletes them tells what became of it through the watch, or, when a delete
    /// failed, by [`Plan::again`].
    pub fn take_due(&mut self, now: Instant, census: &impl Census) -> Vec<Due> {
        self.waits.take_due(now, &self.contact, census)
    }

    /// A delete could not be made; it is due again.
    pub fn again(&mut self, key: &EndpointKey) {
        self.waits.again(key);
    }

    /// For how long collecting has been braked, if it is.
    #[must_use]
    pub fn braked_for(&self) -> Option<Duration> {
        self.waits.braked_for(&self.contact)
    }

    /// How many endpoints are released and wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waits.waiting().iter().sum()
    }
}

/// What becomes of an endpoint whose lease nobody holds.
fn released(lease: &Lease) -> Option<Wanted> {
    if lease.is_held() {
        return None;
    }
    // A lease that lost its holder otherwise was released by somebody's silence.
    let reason = match lease.released.unwrap_or(Released::Silent) {
        Released::Silent => Reason::Silent,
        Released::ConnectionClosed => Reason::ConnectionClosed,
    };
    Some(Wanted {
        reason,
        time: lease.duration(),
        // A connection that was seen to close is no riddle.
        silent: reason == Reason::Silent,
    })
}

#[cfg(test)]
mod tests;
