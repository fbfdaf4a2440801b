//! What waits to be collected, and when it goes: the rules that are the same for
//! every store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Allowance, Census, Due, Pace, Reason};
use crate::backend::Revision;
use crate::contact::Contact;
use crate::lease::Lease;
use crate::map::Map;
use crate::record::{EndpointKey, Name};

/// An endpoint whose delete was asked for is due again after this time of the
/// store, unless it went or changed: whatever became of the delete, nothing is
/// forgotten. Longer than a delete may take.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// Why an endpoint should go, and after which wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub reason: Reason,
    /// How long it must stay as it is, in time with the store.
    pub time: Duration,
    /// Whether it is a sign of something between its node and us: whether the
    /// brake counts it, and holds it back.
    pub silent: bool,
}

/// What must stay as it is while an endpoint waits. The revision may change:
/// others write what is no concern of the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    renew_time: Timestamp,
    holder: Option<Arc<str>>,
}

impl Mark {
    pub fn of(lease: &Lease) -> Self {
        Self {
            renew_time: lease.renew_time,
            holder: lease.holder.clone(),
        }
    }

    pub fn holder(&self) -> Option<&Arc<str>> {
        self.holder.as_ref()
    }
}

/// The endpoints that wait, and when they go.
#[derive(Debug)]
pub struct Waits {
    pace: Pace,
    waits: Map<EndpointKey, Wait>,
    /// Those seen since the last contact: their time begins with the next.
    fresh: Vec<EndpointKey>,
    /// The others, by the counted time at which they are due.
    due: BTreeSet<(Instant, EndpointKey)>,
    /// How many endpoints each node has lost to silence.
    silent: Map<Name, usize>,
    waiting: [usize; Reason::ALL.len()],
    /// Since when, in counted time.
    braked_since: Option<Instant>,
    allowance: Allowance,
    braked_allowance: Allowance,
}

#[derive(Debug)]
struct Wait {
    revision: Revision,
    mark: Mark,
    wanted: Wanted,
    /// When it began, in counted time; none while it is fresh.
    since: Option<Instant>,
    /// Its place in the order of what is due.
    at: Option<Instant>,
}

impl Waits {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            waits: Map::default(),
            fresh: Vec::new(),
            due: BTreeSet::new(),
            silent: Map::default(),
            waiting: Default::default(),
            braked_since: None,
            allowance: Allowance::default(),
            braked_allowance: Allowance::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    pub fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        self.waits.keys()
    }

    /// Why an endpoint waits, if it does.
    pub fn reason(&self, key: &EndpointKey) -> Option<Reason> {
        self.waits.get(key).map(|wait| wait.wanted.reason)
    }

    /// How many endpoints wait, by [`Reason::ALL`].
    pub fn waiting(&self) -> [usize; Reason::ALL.len()] {
        self.waiting
    }

    /// An endpoint is stored at this revision with this mark, and should go or
    /// not. A wait goes on while its reason and the mark stay.
    pub fn set(
        &mut self,
        key: &EndpointKey,
        revision: Revision,
        mark: &Mark,
        wanted: Option<Wanted>,
    ) {
        if let Some(wait) = self.waits.get_mut(key) {
            let same = wanted.is_some_and(|wanted| wanted.reason == wait.wanted.reason);
            if same && wait.mark == *mark {
                if wait.revision != revision {
                    wait.revision = revision;
                    // The delete under way was of another revision, and fails.
                    self.again(key);
                }
                return;
            }
            self.forget(key);
        }
        let Some(wanted) = wanted else {
            return;
        };
        if wanted.silent {
            *self.silent.entry(key.node.clone()).or_default() += 1;
        }
        self.waiting[wanted.reason as usize] += 1;
        self.fresh.push(key.clone());
        let wait = Wait {
            revision,
            mark: mark.clone(),
            wanted,
            since: None,
            at: None,
        };
        self.waits.insert(key.clone(), wait);
    }

    /// An endpoint is gone.
    pub fn forget(&mut self, key: &EndpointKey) {
        let Some(wait) = self.waits.remove(key) else {
            return;
        };
        if let Some(at) = wait.at {
            self.due.remove(&(at, key.clone()));
        }
        self.waiting[wait.wanted.reason as usize] -= 1;
        if wait.wanted.silent
            && let Some(count) = self.silent.get_mut(&key.node)
        {
            *count -= 1;
            if *count == 0 {
                self.silent.remove(&key.node);
            }
        }
    }

    /// The time of what was seen since the last contact with the store begins.
    pub fn begin(&mut self, time: &Contact) {
        for key in std::mem::take(&mut self.fresh) {
            self.begin_one(key, time);
        }
    }

    /// The time of an endpoint begins without waiting for the next contact.
    pub fn begin_now(&mut self, key: &EndpointKey, time: &Contact) {
        self.begin_one(key.clone(), time);
    }

    fn begin_one(&mut self, key: EndpointKey, time: &Contact) {
        if let Some(wait) = self.waits.get_mut(&key)
            && wait.since.is_none()
        {
            let since = time.counted();
            let at = since + wait.wanted.time;
            (wait.since, wait.at) = (Some(since), Some(at));
            self.due.insert((at, key));
        }
    }

    /// A delete could not be made; the endpoint is due again.
    pub fn again(&mut self, key: &EndpointKey) {
        if let Some(wait) = self.waits.get_mut(key)
            && let (Some(since), Some(at)) = (wait.since, wait.at)
        {
            let due = since + wait.wanted.time;
            wait.at = Some(due);
            self.due.remove(&(at, key.clone()));
            self.due.insert((due, key.clone()));
        }
    }

    /// The endpoints that go now, at the revisions that were seen.
    pub fn take_due(&mut self, now: Instant, time: &Contact, census: &impl Census) -> Vec<Due> {
        self.allowance.refill(self.pace.per_second, now);
        self.braked_allowance
            .refill(self.pace.braked_per_second, now);
        self.brake(time, census);
        let counted = time.counted();
        let mut taken = Vec::new();
        for (at, key) in self.due.iter().take_while(|(at, _)| *at <= counted) {
            let Some((wait, since)) = self.waits.get(key).and_then(|w| Some((w, w.since?))) else {
                continue;
            };
            // After a gap a third of its time must pass again.
            if !time.has_passed(since, wait.wanted.time) {
                continue;
            }
            let allowed = if wait.wanted.silent && self.braked_since.is_some() {
                let over = counted.saturating_duration_since(since) >= self.pace.brake_for;
                over && self.braked_allowance.take()
            } else {
                self.allowance.take()
            };
            if allowed {
                let due = Due {
                    key: key.clone(),
                    revision: wait.revision,
                    reason: wait.wanted.reason,
                };
                taken.push((*at, due));
            }
        }
        let later = counted + UNDER_WAY;
        for (at, due) in &taken {
            self.due.remove(&(*at, due.key.clone()));
            self.due.insert((later, due.key.clone()));
            if let Some(wait) = self.waits.get_mut(&due.key) {
                wait.at = Some(later);
            }
        }
        taken.into_iter().map(|(_, due)| due).collect()
    }

    /// When many nodes fall silent together, the cause is more likely between
    /// them and us. Those that come back first prove it, so the brake stays until
    /// no node is silent any more.
    fn brake(&mut self, time: &Contact, census: &impl Census) {
        let silent = self
            .silent
            .iter()
            .filter(|(node, count)| **count >= census.endpoints_of(node))
            .count();
        let many = silent >= self.pace.brake_nodes
            && silent as f64 > self.pace.brake_share * census.nodes() as f64;
        if silent == 0 {
            self.braked_since = None;
        } else if many {
            self.braked_since.get_or_insert(time.counted());
        }
    }

    /// For how long collecting has been braked, if it is.
    pub fn braked_for(&self, time: &Contact) -> Option<Duration> {
        let since = self.braked_since?;
        Some(time.counted().saturating_duration_since(since))
    }
}
