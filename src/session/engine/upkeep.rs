//! What happens without a command: silence, grace, and the leases in the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::session::engine::{Engine, Entry, Ticket};
use crate::session::events::Event;
use crate::session::id::SessionKey;
use crate::session::problem::Problem;
use crate::time::Now;

/// At most so many sessions are removed, or have their leases written, by one
/// sweep: commands are not to wait behind them.
pub const UPKEEP_PER_SWEEP: usize = 100;

/// So long, or a third of the grace, a session is without a connection until the
/// store is told: most clients are back by then.
const RELEASE_AFTER: Duration = Duration::from_secs(10);

impl Engine {
    /// Looks at every session. To be called every second; `has_run_out` tells of
    /// another replica whether it has certainly ceased to keep its connections.
    pub fn sweep(&mut self, now: Now, has_run_out: impl Fn(&Arc<str>) -> bool) {
        let at = self.patience.counted(now.mono);
        if !self.is_ready {
            return;
        }
        self.appear_no_more(now);
        let late: Vec<Ticket> = self
            .entries
            .values()
            .flat_map(|entry| &entry.asked)
            .filter(|asked| asked.deadline <= now.mono)
            .map(|asked| asked.ticket)
            .collect();
        for ticket in late {
            if self.give_up(now, ticket).is_some() {
                self.answers.insert(ticket, Problem::Unavailable.into());
            }
        }
        let (mut expired, mut leases) = (Vec::new(), Vec::new());
        let (setup, version) = (&self.setup, &mut self.version);
        for (key, entry) in &mut self.entries {
            let Some(record) = &entry.record else {
                continue;
            };
            let kept_elsewhere = setup.shared
                && record
                    .lease
                    .holder
                    .as_ref()
                    .is_some_and(|holder| *holder != setup.identity && !has_run_out(holder));
            let is_silent = entry.connection.is_none()
                && !record.is_static
                && (entry.superseded || !kept_elsewhere);
            let before = entry.silent;
            entry.silent = is_silent.then(|| before.unwrap_or(at));
            *version += u64::from(before.is_some() != is_silent);
            let passed = |since| at.saturating_duration_since(since) >= setup.grace;
            // Whoever keeps it after all sees that it was released, and objects.
            let is_released = !setup.shared || !record.lease.is_held();
            if is_released && entry.silent.is_some_and(passed) && entry.asked.is_empty() {
                expired.push(*key);
            }
        }
        expired.truncate(UPKEEP_PER_SWEEP);
        for key in &expired {
            self.expire(now, *key);
        }
        for (key, entry) in &self.entries {
            if expired.len() + leases.len() >= UPKEEP_PER_SWEEP {
                break;
            }
            if self.lease_due(entry, at) && !self.queue.contains(key) {
                leases.push(*key);
            }
        }
        for key in leases {
            self.queue.push(&key, now.mono);
        }
    }

    /// A session goes: it is served no more, and removed from the store.
    pub(super) fn expire(&mut self, now: Now, key: SessionKey) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Some(record) = entry.record.take() else {
            return;
        };
        self.version += 1;
        let instance = record.registration.instance.clone();
        let event = Event::Expired(instance, Arc::clone(&record.front));
        self.events.push(event);
        self.queue.push(&key, now.mono);
        self.claim(key);
        self.turn(now, key);
    }

    /// Whether the lease that the store holds is to be written anew.
    pub(super) fn lease_due(&self, entry: &Entry, at: Instant) -> bool {
        self.setup.shared
            && entry.record.is_some()
            && match entry.connection {
                Some(_) => entry.hold_due,
                None => self.release_due(entry, at),
            }
    }

    /// Whether the store is to be told that nobody keeps a session any more.
    pub(super) fn release_due(&self, entry: &Entry, at: Instant) -> bool {
        let is_held = entry
            .record
            .as_ref()
            .is_some_and(|record| !record.is_static && record.lease.is_held());
        let after = RELEASE_AFTER.min(self.setup.grace / 3);
        let passed = |since| at.saturating_duration_since(since) >= after;
        self.setup.shared
            && is_held
            && entry.connection.is_none()
            && entry.silent.is_some_and(passed)
    }
}
