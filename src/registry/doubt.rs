//! Which endpoints may be gone, and are therefore offered last. Pure, like all
//! of [`Core`].

use std::time::Instant;

use crate::index::Entry;
use crate::pods::PodState;
use crate::record::Name;
use crate::registry::Caller;
use crate::registry::core::Core;

/// Why an endpoint may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Nobody maintains it any more.
    Released,
    /// Its pod was asked to end.
    Terminating,
    /// The lease of the replica that holds it was not seen to be renewed.
    HolderSilent,
    /// The peer closed the last connection that carried its node's calls.
    Suspect,
    /// Its node may be a previous life of another at its address.
    Challenged,
    /// It was read from the store and has not been heard since.
    Unheard,
}

impl Doubt {
    /// The doubt as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Terminating => "terminating",
            Self::HolderSilent => "holder-silent",
            Self::Suspect => "suspect",
            Self::Challenged => "challenged",
            Self::Unheard => "unheard",
        }
    }
}

impl Core {
    /// Why an endpoint may be gone, if so. `at` is counted time.
    #[must_use]
    pub fn doubt(&self, entry: &Entry, at: Instant) -> Option<Doubt> {
        if entry.record.is_static {
            return None;
        }
        let node = &entry.key().node;
        let Some(holder) = &entry.record.lease.holder else {
            return Some(Doubt::Released);
        };
        if self.pod_state(entry, at) == PodState::Terminating {
            return Some(Doubt::Terminating);
        }
        let mine = *holder == self.setup.identity;
        // Who holds it hears it, and knows best.
        let vouched = !mine && self.replicas.vouches(holder, at);
        let suspected = self.replicas.suspects(holder, node);
        let here = mine || self.heard_lately(entry, at);
        if here && self.presence.is_suspect(node) && (!vouched || suspected) {
            Some(Doubt::Suspect)
        } else if !vouched && self.is_challenged(node) {
            Some(Doubt::Challenged)
        } else if here {
            entry.heard.is_none().then_some(Doubt::Unheard)
        } else if !vouched {
            Some(Doubt::HolderSilent)
        } else {
            suspected.then_some(Doubt::Suspect)
        }
    }

    /// Whether an endpoint was heard here within its base time.
    pub(super) fn heard_lately(&self, entry: &Entry, at: Instant) -> bool {
        entry.heard.is_some_and(|heard| {
            at.saturating_duration_since(heard) < self.base_time(&entry.key().node)
        })
    }

    /// How the pod is that registered an endpoint.
    pub(super) fn pod_state(&self, entry: &Entry, at: Instant) -> PodState {
        match &entry.record.endpoint.pod {
            Some(pod) => self.pods.state(pod, at),
            None => PodState::Unknown,
        }
    }

    /// Whether an endpoint may be offered to `caller` at all.
    pub(super) fn may_offer(&self, caller: &Caller, entry: &Entry, at: Instant) -> bool {
        if entry.record.is_static {
            return true;
        }
        (!own_host(caller, entry) || self.surely_runs(&entry.key().node, at))
            && self.pod_state(entry, at) != PodState::Gone
    }

    fn surely_runs(&self, node: &Name, at: Instant) -> bool {
        self.presence.surely_runs(node, at) && !self.is_challenged(node)
    }

    /// Whether `node` may be a previous life. One that is connected is none.
    pub(super) fn is_challenged(&self, node: &Name) -> bool {
        self.lives.is_challenged(node) && !self.presence.is_connected(node)
    }
}

/// Whether an endpoint is on the caller's own host: dialling its address would
/// lead the caller to itself.
fn own_host(caller: &Caller, entry: &Entry) -> bool {
    entry.record.endpoint.address.host().is(caller.host)
}
