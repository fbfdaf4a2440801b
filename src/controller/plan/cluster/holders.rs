//! Who holds endpoints, and whether it still maintains them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::endpoints::Endpoints;
use crate::contact::Contact;
use crate::map::{Map, Set};
use crate::replicas::Replicas;

/// The holders of endpoints.
#[derive(Debug, Default)]
pub struct Holders {
    holders: Map<Arc<str>, Holder>,
    /// Endpoints whose holder had no lease when they were written, since the
    /// last contact: their own leases count from the next.
    fresh: Set<u32>,
    /// The others, by the counted time at which their own leases run out.
    lapsing: BTreeSet<(Instant, u32)>,
}

#[derive(Debug)]
struct Holder {
    endpoints: Set<u32>,
    /// Whether it ever had a lease while it held something.
    had_lease: bool,
    /// Whether its lease has run out, or failed to appear.
    lost: bool,
}

impl Holders {
    /// An endpoint was written by `holder`.
    pub fn join(&mut self, holder: &Arc<str>, id: u32, replicas: &Replicas) {
        let entry = self.holders.entry(Arc::clone(holder));
        let held = entry.or_insert_with(|| Holder {
            endpoints: Set::default(),
            had_lease: replicas.has_lease(holder),
            lost: replicas.has_run_out(holder),
        });
        held.endpoints.insert(id);
        if !held.had_lease {
            self.fresh.insert(id);
        }
    }

    /// An endpoint is no longer held by `holder`.
    pub fn leave(&mut self, holder: &str, id: u32) {
        if let Some(held) = self.holders.get_mut(holder) {
            held.endpoints.remove(&id);
            if held.endpoints.is_empty() {
                self.holders.remove(holder);
            }
        }
    }

    /// The replicas' leases were read. Returns the endpoints that may have become
    /// orphans by that, or may be none any more.
    pub fn look(&mut self, replicas: &Replicas) -> Vec<u32> {
        let mut turned = Vec::new();
        for (identity, held) in &mut self.holders {
            let lost = replicas.has_run_out(identity);
            let had_lease = held.had_lease || replicas.has_lease(identity);
            let concerned = lost != held.lost || (lost && had_lease != held.had_lease);
            (held.lost, held.had_lease) = (lost, had_lease);
            if concerned {
                turned.extend(&held.endpoints);
            }
        }
        turned
    }

    /// The endpoints whose own leases have run out, of holders that never had one.
    pub fn lapsed(&mut self, endpoints: &mut Endpoints, time: &Contact) -> Vec<u32> {
        let counted = time.counted();
        for id in std::mem::take(&mut self.fresh) {
            let Some(endpoint) = endpoints.find_mut(id) else {
                continue;
            };
            let holder = endpoint.mark.holder().and_then(|id| self.holders.get(id));
            if holder.is_some_and(|held| !held.had_lease) && endpoint.lapses.is_none() {
                let at = counted + endpoint.duration();
                endpoint.lapses = Some(at);
                self.lapsing.insert((at, id));
            }
        }
        let due: Vec<_> = self
            .lapsing
            .iter()
            .take_while(|(at, _)| *at <= counted)
            .copied()
            .collect();
        let mut lapsed = Vec::new();
        for (at, id) in due {
            // A number may have been given anew.
            let endpoint = endpoints.find_mut(id).filter(|e| e.lapses == Some(at));
            if let Some(endpoint) = endpoint {
                let duration = endpoint.duration();
                if !time.has_passed(at - duration, duration) {
                    continue;
                }
                endpoint.has_lapsed = true;
                lapsed.push(id);
            }
            self.lapsing.remove(&(at, id));
        }
        lapsed
    }

    /// Whether an endpoint of `holder` is an orphan, given whether its own lease
    /// has run out.
    pub fn is_lost(&self, holder: &str, has_lapsed: bool) -> bool {
        let held = self.holders.get(holder);
        held.is_some_and(|held| held.lost && (held.had_lease || has_lapsed))
    }

    /// Whether anything names `holder`.
    pub fn holds(&self, holder: &str) -> bool {
        self.holders.contains_key(holder)
    }
}
