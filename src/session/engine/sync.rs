//! The store's side: which write is next, what its end means, what a watch tells.
//!
//! Every write of a session has a time of its own in its lease, so that none is
//! without effect: an older write that the store makes late fails on its
//! condition. That is how what was given up is undone for good.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Revision, Stored, Write, WriteError};
use crate::lease::{Lease, Released};
use crate::map::Set;
use crate::record::{Key, Record};
use crate::registry::queue::Ended;
use crate::session::engine::turns::Wish;
use crate::session::engine::{Engine, Entry, Writing, later};
use crate::session::events::Event;
use crate::session::id::SessionKey;
use crate::session::problem::Problem;
use crate::session::record::SessionRecord;
use crate::time::Now;

/// A session and the revision at which it is stored.
pub type StoredSession = (Arc<SessionRecord>, Revision);

/// The session that is stored, if it is one.
#[must_use]
pub fn session(stored: &Stored) -> Option<StoredSession> {
    match &stored.record {
        Record::Session(record) => Some((Arc::clone(record), stored.revision)),
        _ => None,
    }
}

impl Entry {
    /// Whether the store is to be written, but for leases.
    pub(super) fn is_due(&self) -> bool {
        self.next.is_some() || self.stale || self.record.is_none()
    }

    /// The store may hold this, now or later.
    pub(super) fn doubt(&mut self, content: Option<Arc<SessionRecord>>) {
        if !self.is_known(content.as_deref()) {
            self.doubts.push(content);
        }
    }

    /// Whether the store holds this because of what was written here.
    fn is_known(&self, content: Option<&SessionRecord>) -> bool {
        let is_it = |known: Option<&SessionRecord>| match (known, content) {
            (Some(known), Some(content)) => known.is_same_write(content),
            (None, None) => true,
            _ => false,
        };
        is_it(self.record.as_deref()) || self.doubts.iter().any(|doubt| is_it(doubt.as_deref()))
    }

    /// The store holds what it should, and nothing older can come.
    fn is_settled(&mut self) {
        self.stale = false;
        self.doubts.clear();
    }
}

impl Engine {
    /// The next write that is to be made, if one is due. Its end is told to
    /// [`Engine::written`], also when it did not end in time.
    pub fn next_write(&mut self, now: Now) -> Option<(SessionKey, Write)> {
        while let Some(key) = self.queue.take(now.mono) {
            match self.write_of(now, key) {
                Some(write) => return Some((key, write)),
                None => {
                    self.queue.ended(&key, Ended::Needless, now.mono);
                }
            }
        }
        None
    }

    fn write_of(&mut self, now: Now, key: SessionKey) -> Option<Write> {
        let at = self.patience.counted(now.mono);
        let entry = self.entries.get(&key)?;
        let content = match &entry.next {
            Some(next) => next.clone(),
            None if entry.is_due() || self.lease_due(entry, at) => entry.record.clone(),
            None => return None,
        };
        let ticket = entry.asked.front().filter(|_| entry.next.is_some());
        let ticket = ticket.map(|asked| asked.ticket);
        let content = content.map(|record| {
            let lease = self.lease(now, at, entry, &record);
            Arc::new(SessionRecord {
                lease,
                written_by: Arc::clone(&self.setup.identity),
                ..(*record).clone()
            })
        });
        let entry = self.entries.get_mut(&key)?;
        entry.attempted = true;
        entry.writing = Some(Writing {
            ticket,
            content: content.clone(),
        });
        Some(match (content, entry.revision) {
            (Some(record), None) => Write::Create(Record::Session(record)),
            (Some(record), Some(revision)) => Write::Put(Record::Session(record), revision),
            (None, revision) => Write::Delete(Key::Session(key), revision.unwrap_or_default()),
        })
    }

    /// The lease with which a session is written now.
    fn lease(&self, now: Now, at: Instant, entry: &Entry, record: &SessionRecord) -> Lease {
        let mut lease = record.lease.clone();
        let is_new = matches!(
            entry.asked.front().map(|asked| &asked.wish),
            Some(Wish::Register(..))
        );
        if !record.is_static && (entry.connection.is_some() || is_new) {
            let identity = Arc::clone(&self.setup.identity);
            lease = Lease::held(identity, now.wall, self.setup.grace);
        } else if self.release_due(entry, at) {
            lease = Lease::released(Released::ConnectionClosed, now.wall, self.setup.grace);
        }
        lease.renew_time = match &entry.record {
            Some(known) => now.wall.max(later(known.lease.renew_time)),
            None => now.wall,
        };
        lease
    }

    /// A write that was handed out has ended.
    pub fn written(&mut self, now: Now, key: SessionKey, result: &Result<Revision, WriteError>) {
        let Some(writing) = self
            .entries
            .get_mut(&key)
            .and_then(|entry| entry.writing.take())
        else {
            self.queue.ended(&key, Ended::Done, now.mono);
            return;
        };
        let ended = match result {
            Ok(revision) => {
                self.holds(now, key, &writing, *revision);
                Ended::Done
            }
            Err(WriteError::Conflict(current)) => {
                let current = current.as_deref().and_then(session);
                self.holds_instead(now, key, &writing, current);
                Ended::Conflict
            }
            Err(WriteError::Unavailable(_)) => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.doubt(writing.content);
                }
                Ended::Unavailable
            }
            Err(WriteError::Refused(_)) => {
                if self.has_turn(key, &writing) {
                    self.refuse(now, key);
                }
                Ended::Refused
            }
        };
        let is_due = self.entries.get(&key).is_some_and(Entry::is_due);
        let ended = match (ended, is_due) {
            (Ended::Conflict | Ended::Refused, false) => Ended::Done,
            (Ended::Done, true) => {
                self.queue.push(&key, now.mono);
                Ended::Done
            }
            (ended, _) => ended,
        };
        self.queue.ended(&key, ended, now.mono);
    }

    /// Whether a write is for the command that has its turn.
    fn has_turn(&self, key: SessionKey, writing: &Writing) -> bool {
        self.entries.get(&key).is_some_and(|entry| {
            let turn = entry.asked.front().filter(|_| entry.next.is_some());
            writing.ticket.is_some() && turn.map(|asked| asked.ticket) == writing.ticket
        })
    }

    /// A write was made, at this revision.
    fn holds(&mut self, now: Now, key: SessionKey, writing: &Writing, revision: Revision) {
        let has_turn = self.has_turn(key, writing);
        let identity = Arc::clone(&self.setup.identity);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Some(content) = &writing.content else {
            entry.revision = None;
            if has_turn {
                if let Some(record) = entry.record.take() {
                    let instance = record.registration.instance.clone();
                    let event = Event::Ended(instance, Arc::clone(&record.front));
                    self.events.push(event);
                }
                self.acknowledge(now, key, revision);
            } else if entry.record.is_none() {
                self.forget(now, key, revision);
            } else {
                // It was given up meanwhile.
                entry.is_settled();
                entry.stale = true;
            }
            return;
        };
        // The watch may have told of later writes, which were made on top of it.
        let is_last = entry.revision.is_none_or(|known| known < revision);
        if is_last {
            entry.revision = Some(revision);
            entry.doubts.clear();
            let is_it = entry
                .record
                .as_ref()
                .is_some_and(|record| record.is_like(content));
            entry.stale = !has_turn && !is_it;
            if has_turn || is_it {
                entry.record = Some(Arc::clone(content));
            } else {
                entry.doubts.push(Some(Arc::clone(content)));
            }
            if content.lease.holder == Some(identity) && entry.connection.is_some() {
                entry.hold_due = false;
            }
        }
        self.version += 1;
        if has_turn {
            self.acknowledge(now, key, revision);
        } else {
            self.claim(key);
        }
    }

    /// The store holds something else than a write expected, or nothing.
    fn holds_instead(
        &mut self,
        now: Now,
        key: SessionKey,
        writing: &Writing,
        current: Option<StoredSession>,
    ) {
        match (current, &writing.content) {
            // It had been made, and only its answer was lost.
            (Some((theirs, revision)), Some(content)) if content.is_same_write(&theirs) => {
                let writing = Writing {
                    content: Some(theirs),
                    ..writing.clone()
                };
                self.holds(now, key, &writing, revision);
            }
            (Some((theirs, revision)), _) => {
                // Decided anew: the watch may have told of theirs before.
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.next = None;
                }
                self.meets(now, key, theirs, revision);
                self.turn(now, key);
            }
            (None, None) => self.holds(now, key, writing, Revision::default()),
            (None, Some(_)) => self.was_removed(now, key, Revision::default(), false),
        }
    }

    /// The store holds this at a revision.
    fn meets(&mut self, now: Now, key: SessionKey, theirs: Arc<SessionRecord>, revision: Revision) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if entry.revision.is_some_and(|known| known >= revision) {
            return;
        }
        let is_record = |record: &Arc<SessionRecord>| record.is_same_write(&theirs);
        if entry.record.as_ref().is_some_and(is_record) {
            entry.revision = Some(revision);
            entry.record = Some(theirs);
            // What else was written had an older revision as its condition.
            if entry.writing.is_none() {
                entry.is_settled();
            }
        } else if entry.is_known(Some(&theirs)) {
            entry.revision = Some(revision);
            entry.stale = true;
            self.queue.push(&key, now.mono);
        } else {
            self.adopt(now, theirs, revision);
        }
    }

    /// Takes over what somebody else has stored.
    fn adopt(&mut self, now: Now, theirs: Arc<SessionRecord>, revision: Revision) {
        let at = self.patience.counted(now.mono);
        let key = theirs.key;
        let instance = theirs.registration.instance.clone();
        let is_mine = theirs.lease.holder.as_ref() == Some(&self.setup.identity);
        let is_held = theirs.lease.is_held();
        let entry = self.entries.entry(key).or_default();
        let supersedes = theirs.supersedes.clone();
        entry.record = Some(theirs);
        entry.revision = Some(revision);
        entry.attempted = true;
        entry.is_settled();
        if entry.writing.is_none() {
            // Decided anew, on top of theirs.
            entry.next = None;
        }
        if self.setup.shared && entry.connection.is_some() && !is_mine {
            // One that nobody keeps was taken for dead.
            if entry.hold_due || !is_held {
                entry.stale = true;
                self.queue.push(&key, now.mono);
            } else {
                // The client has a newer connection, elsewhere.
                self.unbind(key, at);
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.silent = None;
                }
            }
        }
        self.version += 1;
        self.claim(key);
        let mut superseded = supersedes;
        let is_former = |other: &&SessionKey| {
            let record = self
                .entries
                .get(*other)
                .and_then(|entry| entry.record.as_ref());
            record.is_some_and(|record| record.supersedes.contains(&key))
        };
        if self
            .table
            .of(&instance)
            .iter()
            .any(|other| is_former(&other))
        {
            superseded.push(key);
        }
        for former in superseded {
            self.supersede(at, former);
        }
        self.turn(now, key);
        self.appeared(now, key);
    }

    /// The store holds a session no more. One whose connection is open may have
    /// been taken for dead, unless it `was_ended`: then it is made again.
    fn was_removed(&mut self, now: Now, key: SessionKey, revision: Revision, was_ended: bool) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        // A SHUTDOWN that was given up.
        let is_ours = entry.doubts.iter().any(Option::is_none);
        let lives = entry.connection.is_some() && !was_ended;
        if entry.record.is_some() && (is_ours || lives) {
            entry.revision = None;
            entry.stale = true;
            entry.doubts.clear();
            self.queue.push(&key, now.mono);
        } else {
            let revision = revision.max(entry.revision.unwrap_or_default());
            self.forget(now, key, revision);
        }
    }

    /// A session is gone.
    pub(super) fn forget(&mut self, now: Now, key: SessionKey, revision: Revision) {
        let at = self.patience.counted(now.mono);
        self.unbind(key, at);
        self.table.remove(key);
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        self.version += 1;
        for asked in entry.asked {
            self.tickets.remove(&asked.ticket);
            self.answers
                .insert(asked.ticket, Problem::InvalidSession.into());
        }
        if entry.attempted {
            self.gone.insert(key, revision, at);
        }
    }

    /// The watch tells what the store holds.
    pub fn was_put(&mut self, now: Now, theirs: Arc<SessionRecord>, revision: Revision) {
        let at = self.patience.counted(now.mono);
        let key = theirs.key;
        if let Some(entry) = self.entries.get(&key) {
            let writing = entry.writing.as_ref();
            let content = writing.and_then(|writing| writing.content.as_ref());
            // What is under way is settled by its own end.
            if content.is_none_or(|content| !content.is_same_write(&theirs)) {
                self.meets(now, key, theirs, revision);
            }
            return;
        }
        let is_mine = theirs.lease.holder.as_ref() == Some(&self.setup.identity);
        match self.gone.get(&key, at).copied() {
            // Told late.
            Some(gone) if revision <= gone => {}
            // Written by us, and made only now.
            Some(_) if is_mine => {
                let entry = Entry {
                    revision: Some(revision),
                    attempted: true,
                    ..Entry::default()
                };
                self.entries.insert(key, entry);
                self.queue.push(&key, now.mono);
            }
            _ => {
                self.gone.take(&key, at);
                self.adopt(now, theirs, revision);
            }
        }
    }

    /// The watch tells that a session was removed.
    pub fn was_deleted(&mut self, now: Now, key: SessionKey, revision: Revision) {
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        // Before one is removed for its silence it is released. So this one was
        // ended, elsewhere or by hand. One that was just released, and is kept here
        // after all, is made again either way.
        let record = entry.record.as_ref();
        let was_ended = record.is_some_and(|record| record.lease.is_held());
        self.is_absent(now, key, revision, was_ended);
    }

    /// The store did not hold a session at `revision`.
    fn is_absent(&mut self, now: Now, key: SessionKey, revision: Revision, was_ended: bool) {
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        let is_known = entry.revision.is_some_and(|known| known <= revision);
        let writing = entry.writing.as_ref();
        // A removal of ours that is under way is settled by its own end.
        if is_known && writing.is_none_or(|writing| writing.content.is_some()) {
            self.was_removed(now, key, revision, was_ended);
        }
    }

    /// The watch tells all that the store held at `revision`.
    pub fn was_reset(&mut self, now: Now, all: Vec<StoredSession>, revision: Revision) {
        let present: Set<SessionKey> = all.iter().map(|(record, _)| record.key).collect();
        for (record, revision) in all {
            self.was_put(now, record, revision);
        }
        let gone: Vec<SessionKey> = self
            .entries
            .keys()
            .filter(|key| !present.contains(*key))
            .copied()
            .collect();
        for key in gone {
            self.is_absent(now, key, revision, false);
        }
        self.is_ready = true;
    }
}
