//! What silence leads to: endpoints are released, or superseded by the next life
//! of their gost. Pure, like all of [`Core`].

use std::time::Instant;

use crate::index::Wanted;
use crate::lease::{Lease, Released};
use crate::record::EndpointKey;
use crate::registry::core::Core;
use crate::registry::events::Event;
use crate::registry::view::Tally;
use crate::time::Now;

impl Core {
    /// Visits the endpoints at positions `from..from + count` and releases or
    /// supersedes those whose time has come.
    pub fn sweep(&mut self, now: Now, from: usize, count: usize) {
        let at = self.patience.counted(now.mono);
        self.memory.forget_old(at);
        self.count(from, count, at);
        self.refresh(now, at);
        if at.saturating_duration_since(self.started) < self.setup.timing.start_grace {
            return;
        }
        let (mut silent, mut over, mut heard) = (Vec::new(), Vec::new(), Vec::new());
        for entry in self.index.slice(from, count) {
            if !self.is_mine(entry) {
                // What was released is taken back by a renewal, or when it is told.
                if entry.record.lease.is_held() && self.heard_lately(entry, at) {
                    heard.push(entry.key().clone());
                }
                continue;
            }
            let node = &entry.key().node;
            let silence = at.saturating_duration_since(entry.heard.unwrap_or(self.started));
            if self.lives.is_over(node, at) && !self.presence.is_connected(node) {
                over.push(entry.key().clone());
            } else if silence >= self.base_time(node) {
                silent.push(entry.key().clone());
            }
        }
        for key in heard {
            // Whoever holds it may have run out since.
            self.hold(now, &key, at);
        }
        for key in silent {
            self.release(now, &key);
        }
        for key in over {
            match self.setup.sharing {
                // Another replica may hear it, and takes it over then.
                Some(_) => self.release(now, &key),
                None => self.supersede(now, &key, at),
            }
        }
    }

    /// Counts the endpoints by their health; a pass over all makes the tally.
    fn count(&mut self, from: usize, count: usize, at: Instant) {
        if from == 0 {
            self.counting = Tally::default();
        }
        let mut counting = self.counting;
        for entry in self.index.slice(from, count) {
            counting.add(self.doubt(entry, at));
            counting.held += u64::from(self.is_mine(entry));
        }
        self.counting = counting;
        if from.saturating_add(count) >= self.index.positions() {
            self.tally = counting;
        }
    }

    fn release(&mut self, now: Now, key: &EndpointKey) {
        let why = match self.presence.is_suspect(&key.node) {
            true => Released::ConnectionClosed,
            false => Released::Silent,
        };
        let interval = self.presence.longest_interval(&key.node);
        let lease =
            Lease::released(why, now.wall, self.setup.timing.released_for).renewed_every(interval);
        self.set_lease(now, key, lease, Wanted::Release);
        self.events.counts.released += 1;
        self.events.push(Event::Released(key.clone(), why));
    }

    fn supersede(&mut self, now: Now, key: &EndpointKey, at: Instant) {
        let longest = self.presence.longest_interval(&key.node);
        if let Some(entry) = self.take_out(now, key, at) {
            self.leave_ghost(key, entry, longest, at);
            self.events.counts.superseded += 1;
            self.events.push(Event::Superseded(key.clone()));
        }
    }
}
