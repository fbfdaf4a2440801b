//! This replica's own lease, by which it vouches for what it holds: when it is
//! written, and with what. Pure, like all of [`Core`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Revision, Stored, Write, WriteError};
use crate::record::replica::MAX_SUSPECTS;
use crate::record::{Key, Record, ReplicaRecord};
use crate::registry::core::Core;
use crate::time::Now;

/// The lease is renewed so many times in its validity.
const RENEWALS: u32 = 4;
/// All replicas together renew their leases so often a second at most.
const RENEWALS_A_SECOND: f64 = 10.0;
/// A change of the suspects is told at once, but not more often than this.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A renewal that failed is tried again after this part of the interval.
const RETRY: u32 = 5;

/// So many writes of the own lease are remembered: twice as many as its validity
/// has renewals.
const WRITES_KNOWN: usize = 2 * RENEWALS as usize;

/// How this replica shares its store with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How long its own lease is valid; it is renewed after a quarter.
    pub validity: Duration,
}

/// The state of the own lease.
#[derive(Debug)]
pub struct Vouch {
    /// At which revision the store holds it.
    revision: Option<Revision>,
    /// When it was last handed out to be written.
    written: Option<Instant>,
    /// The last writes of it that were made, with the counted times at which they
    /// were begun: whatever has a later revision was written after that.
    made: VecDeque<(Revision, Instant)>,
    /// The same of the one under way.
    begun: Option<Instant>,
    /// When it is to be written; none means now.
    due: Option<Instant>,
    /// Whether other suspects are to be told than were.
    changed: bool,
    /// Failures in a row.
    failures: u32,
    /// When it was last renewed; the start of this process before the first time.
    renewed: Instant,
    /// Why it was not renewed at the last attempt, if so.
    failure: Option<String>,
    /// When an endpoint was last written instead.
    stood_in: Option<Instant>,
    /// Times that somebody else had changed it.
    pub(super) disturbed: u64,
}

impl Vouch {
    /// The lease of a process that starts now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            revision: None,
            written: None,
            made: VecDeque::new(),
            begun: None,
            due: None,
            changed: false,
            failures: 0,
            renewed: now,
            failure: None,
            stood_in: None,
            disturbed: 0,
        }
    }

    /// The nodes that are suspect are others than were told.
    pub fn suspects_changed(&mut self) {
        self.changed = true;
    }

    /// Whether others are to be told of a change.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.changed
    }
}

impl Core {
    /// How often the own lease is renewed: a quarter of its validity, and more
    /// seldom when there are many replicas.
    fn vouch_interval(&self, validity: Duration) -> Duration {
        let many = self.living as f64 / RENEWALS_A_SECOND;
        (validity / RENEWALS).max(Duration::from_secs_f64(many))
    }

    /// Whether an endpoint is to be written instead of the own lease, which could
    /// not be for half of its validity: that this replica lives shows by it as
    /// well, so what it holds is not collected. As often as its lease would be.
    pub(super) fn stand_in(&mut self, now: Now) -> bool {
        let Some(sharing) = self.setup.sharing else {
            return false;
        };
        let interval = self.vouch_interval(sharing.validity);
        let vouch = &mut self.vouch;
        let ago = |last: Instant| now.mono.saturating_duration_since(last);
        let is_due = vouch.failure.is_some()
            && ago(vouch.renewed) >= interval * RENEWALS / 2
            && vouch.stood_in.is_none_or(|last| ago(last) >= interval);
        if is_due {
            vouch.stood_in = Some(now.mono);
        }
        is_due
    }

    /// Why the own lease was not renewed at the last attempt, if so, and for how
    /// long it was not.
    #[must_use]
    pub fn unvouched(&self, now: Now) -> Option<(Duration, &str)> {
        let why = self.vouch.failure.as_deref()?;
        let ago = now.mono.saturating_duration_since(self.vouch.renewed);
        Some((ago, why))
    }

    /// When the own lease is to be written, if the store is shared.
    #[must_use]
    pub fn vouch_due(&self, now: Now) -> Option<Instant> {
        self.setup.sharing?;
        let due = self.vouch.due.unwrap_or(now.mono);
        let soon = self.vouch.written.map_or(now.mono, |at| at + LEAST_PAUSE);
        Some(match self.vouch.changed && self.vouch.failures == 0 {
            true => due.min(soon),
            false => due,
        })
    }

    /// The own lease as it is to be written now; with `stopped` it is given up.
    pub fn vouch(&mut self, now: Now, stopped: bool) -> Option<Write> {
        let sharing = self.setup.sharing?;
        self.living = self.replica_count();
        let interval = self.vouch_interval(sharing.validity);
        self.replicas.allow_gap(interval + interval / 2);
        let duration = interval * RENEWALS;
        let record = ReplicaRecord {
            identity: Arc::clone(&self.setup.identity),
            renew_time: now.wall,
            duration_seconds: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX),
            stopped,
            suspects: self.presence.suspects(MAX_SUSPECTS),
        };
        self.vouch.changed = false;
        self.vouch.written = Some(now.mono);
        self.vouch.begun = Some(self.patience.counted(now.mono));
        let record = Record::Replica(Arc::new(record));
        Some(match self.vouch.revision {
            None => Write::Create(record),
            Some(revision) => Write::Put(record, revision),
        })
    }

    /// The write of the own lease has ended.
    pub fn vouched(&mut self, now: Now, result: &Result<Revision, WriteError>) {
        let Some(sharing) = self.setup.sharing else {
            return;
        };
        let interval = self.vouch_interval(sharing.validity);
        let spread = 0.9 + 0.1 * self.random.f64();
        let wait = match result {
            Ok(revision) => {
                self.vouch.revision = self.vouch.revision.max(Some(*revision));
                self.vouch.failures = 0;
                if let Some(begun) = self.vouch.begun.take() {
                    self.vouch.made.push_back((*revision, begun));
                    let surplus = self.vouch.made.len().saturating_sub(WRITES_KNOWN);
                    self.vouch.made.drain(..surplus);
                }
                self.vouch.renewed = now.mono;
                self.vouch.failure = None;
                interval.mul_f64(spread)
            }
            Err(error) => {
                self.vouch.changed = true;
                self.vouch.failures = self.vouch.failures.saturating_add(1);
                self.vouch.failure = Some(error.to_string());
                if let WriteError::Conflict(current) = error {
                    // At first it is what an earlier life of this process left, and a
                    // store may remove it when it was not renewed for long.
                    let by_others = self.vouch.revision.is_some() && current.is_some();
                    self.vouch.disturbed += u64::from(by_others);
                    self.vouch.revision = current.as_ref().map(|stored| stored.revision);
                }
                match (error, self.vouch.failures) {
                    (WriteError::Conflict(_), 1) => Duration::ZERO,
                    _ => (interval / RETRY).mul_f64(spread),
                }
            }
        };
        self.vouch.due = Some(now.mono + wait);
    }

    /// The watch tells the lease of a replica. That it tells the own one proves
    /// that it would tell others.
    pub(super) fn replica_was_put(
        &mut self,
        now: Now,
        record: &Arc<ReplicaRecord>,
        revision: Revision,
    ) {
        let at = self.patience.counted(now.mono);
        if record.identity == self.setup.identity {
            self.vouch.revision = self.vouch.revision.max(Some(revision));
            self.replicas.contact(now.mono);
        }
        let after = self.written_after(revision).or_else(|| {
            // Without writes of its own it can but believe that it is told in time.
            let alone = self.vouch.failure.is_some() || self.vouch.made.is_empty();
            (alone && self.is_ready()).then_some(at)
        });
        self.replicas.see(record, after);
    }

    /// What the store holds at `revision` was written after this, as far as the
    /// own writes tell: that it is told now proves nothing, since the watch may
    /// have been broken for long.
    fn written_after(&self, revision: Revision) -> Option<Instant> {
        let mut made = self.vouch.made.iter().rev();
        made.find(|(own, _)| *own <= revision)
            .map(|(_, begun)| *begun)
    }

    /// The watch tells that the lease of a replica is gone. The own one is made
    /// anew at once.
    pub(super) fn replica_was_deleted(
        &mut self,
        now: Now,
        identity: &Arc<str>,
        revision: Revision,
    ) {
        self.replicas.gone(identity);
        if *identity == self.setup.identity {
            self.vouch_was_deleted(now, revision);
        }
    }

    fn vouch_was_deleted(&mut self, now: Now, revision: Revision) {
        if self.vouch.revision.is_some_and(|known| known <= revision) {
            self.vouch.revision = None;
            self.vouch.due = Some(now.mono);
        }
    }

    /// All leases of replicas that the store held at `revision`.
    pub(super) fn replicas_were_reset(&mut self, now: Now, all: &[Stored], revision: Revision) {
        let own = Key::Replica(Arc::clone(&self.setup.identity));
        let mut records = Vec::new();
        let mut found = false;
        for stored in all {
            if let Record::Replica(record) = &stored.record {
                if stored.record.key() == own {
                    found = true;
                    self.vouch.revision = self.vouch.revision.max(Some(stored.revision));
                }
                let after = self.written_after(stored.revision);
                records.push((Arc::clone(record), after));
            }
        }
        if !found {
            self.vouch_was_deleted(now, revision);
        }
        self.replicas.reset(&records);
    }
}
