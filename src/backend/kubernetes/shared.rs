//! What the last watch knows, for whoever writes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::catalogue::{Catalogue, Place};
use crate::backend::problems::Problem;
use crate::record::{Key, Kind};

/// The catalogues of all kinds, each as the watch that last listed keeps it.
#[derive(Clone)]
pub(super) struct Shared {
    endpoints: Slot,
    replicas: Slot,
    sessions: Slot,
    services: Slot,
    instances: Slot,
    /// Why each kind cannot be listed or watched now.
    troubles: Arc<Mutex<[Option<String>; Kind::ALL.len()]>>,
}

type Slot = Arc<ArcSwap<Mutex<Catalogue>>>;

impl Shared {
    /// Nothing is known.
    pub fn new() -> Self {
        let empty = |kind| Arc::new(ArcSwap::from_pointee(Mutex::new(Catalogue::new(kind))));
        Self {
            endpoints: empty(Kind::Endpoint),
            replicas: empty(Kind::Replica),
            sessions: empty(Kind::Session),
            services: empty(Kind::Service),
            instances: empty(Kind::Instance),
            troubles: Arc::default(),
        }
    }

    fn slot(&self, kind: Kind) -> &Slot {
        match kind {
            Kind::Endpoint => &self.endpoints,
            Kind::Replica => &self.replicas,
            Kind::Session => &self.sessions,
            Kind::Service => &self.services,
            Kind::Instance => &self.instances,
        }
    }

    /// Where the record of `key` is, or would be created.
    pub fn place(&self, key: &Key) -> Place {
        self.slot(key.kind()).load().lock().place(key)
    }

    /// The catalogue of a list that has ended takes the place of the one before
    /// it. What that one had found is no news.
    pub fn replace(&self, kind: Kind, mut catalogue: Catalogue) -> Arc<Mutex<Catalogue>> {
        let slot = self.slot(kind);
        let before = slot.load_full();
        catalogue.problems().known_from(before.lock().problems());
        let catalogue = Arc::new(Mutex::new(catalogue));
        slot.store(Arc::clone(&catalogue));
        catalogue
    }

    /// A kind cannot be listed or watched now, or can.
    pub fn trouble(&self, kind: Kind, why: Option<String>) {
        self.troubles.lock()[kind as usize] = why;
    }

    /// Why something cannot be listed or watched now.
    pub fn any_trouble(&self) -> Option<String> {
        self.troubles.lock().iter().flatten().next().cloned()
    }

    /// The objects that are not served.
    pub fn problems(&self) -> Vec<Problem> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let slot = self.slot(kind);
            all.extend(slot.load().lock().problems().all().cloned());
        }
        all
    }
}
