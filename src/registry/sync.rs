//! The store's side of the registry: which writes are made, what their ends
//! mean, and what the watch tells. Pure, like all of [`Core`].

use std::fmt;
use std::sync::Arc;

use crate::backend::{Change, Revision, Stored, Write, WriteError, endpoint_keys};
use crate::index::{Entry, Wanted};
use crate::lease::Lease;
use crate::map::Set;
use crate::pods::PodState;
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Key, Kind, Record};
use crate::registry::core::{Core, Leaving};
use crate::registry::events::Event;
use crate::registry::queue::Ended;
use crate::registry::restore::Withdrawn;
use crate::time::Now;

impl Core {
    /// The next write that is to be made, if one is due.
    pub fn next_write(&mut self, now: Now) -> Option<(Made, Write)> {
        while let Some(key) = self.queue.take(now.mono) {
            match self.write_of(now, &key) {
                Some(write) => {
                    let what = match write {
                        Write::Create(_) | Write::Put(..) => Wrote::Record,
                        Write::Delete(..) => Wrote::Delete,
                    };
                    return Some((Made { key, what }, write));
                }
                None => {
                    if self.queue.ended(&key, Ended::Needless, now.mono) {
                        self.settled.push(key);
                    }
                }
            }
        }
        None
    }

    /// What must be written so that the store holds what it should.
    fn write_of(&mut self, now: Now, key: &EndpointKey) -> Option<Write> {
        if let Some(leaving) = self.leaving.get(key) {
            return match *leaving {
                // Deleting at no revision finds out at which one it is stored.
                Leaving::Stored(revision) => Some(Write::Delete(
                    Key::Endpoint(key.clone()),
                    revision.unwrap_or_default(),
                )),
                Leaving::Deleted(_) => None,
            };
        }
        let entry = self.index.get(key)?;
        let wanted = entry.wanted?;
        let at = self.patience.counted(now.mono);
        if entry.revision.is_none() && self.pod_state(entry, at) == PodState::Gone {
            // Nothing is made for a pod that is gone. If another one has its address
            // by now, a renewal will tell.
            let longest = self.presence.longest_interval(&key.node);
            if let Some(entry) = self.remove(key) {
                if entry.attempted {
                    self.leaving.insert(key.clone(), Leaving::Stored(None));
                    self.queue.push(key, now.mono);
                }
                self.leave_ghost(key, entry, longest, at);
            }
            return None;
        }
        let entry = self.index.get_mut(key)?;
        // What waited long is dated when it is written, not when it was wished.
        let record = Arc::make_mut(&mut entry.record);
        record.lease.renew_time = now.wall;
        // A change that comes while this write is under way wants another one.
        entry.wanted = None;
        entry.writing = Some(wanted);
        entry.attempted = true;
        let record = Record::Endpoint(Arc::clone(&entry.record));
        Some(match entry.revision {
            None => Write::Create(record),
            Some(revision) => Write::Put(record, revision),
        })
    }

    /// A write has ended. Returns whether the store now holds what it should.
    pub fn written(
        &mut self,
        now: Now,
        made: &Made,
        result: &Result<Revision, WriteError>,
    ) -> bool {
        let key = &made.key;
        let ended = match result {
            Ok(revision) => {
                self.holds_now(now, made, *revision);
                Ended::Done
            }
            Err(error) => {
                if let Some(entry) = self.index.get_mut(key) {
                    entry.wanted = entry.pending();
                    entry.writing = None;
                }
                match error {
                    WriteError::Conflict(current) => {
                        self.holds_instead(now, key, current.as_deref());
                        Ended::Conflict
                    }
                    WriteError::Refused(_) => Ended::Refused,
                    WriteError::Unavailable(_) => Ended::Unavailable,
                }
            }
        };
        let settled = self
            .index
            .get(key)
            .is_none_or(|entry| entry.wanted.is_none())
            && !matches!(self.leaving.get(key), Some(Leaving::Stored(_)));
        match ended {
            // Somebody else has seen to it: there is nothing to try again.
            Ended::Conflict if settled => self.queue.ended(key, Ended::Done, now.mono),
            ended => self.queue.ended(key, ended, now.mono),
        }
    }

    /// A write was made, at this revision.
    fn holds_now(&mut self, now: Now, made: &Made, revision: Revision) {
        let key = &made.key;
        if let Some(entry) = self.index.get_mut(key) {
            entry.writing = None;
            entry.revision = match made.what {
                Wrote::Record => entry.revision.max(Some(revision)),
                // Registered anew while the delete was under way.
                Wrote::Delete => None,
            };
            let at = self.patience.counted(now.mono);
            self.schedule(key, at, true);
        }
        if let Some(leaving) = self.leaving.get_mut(key) {
            *leaving = match made.what {
                Wrote::Record => Leaving::Stored(Some(revision)),
                Wrote::Delete => Leaving::Deleted(revision),
            };
            if made.what == Wrote::Delete {
                self.deleted.push_back((revision, key.clone()));
            }
        }
    }

    /// The store holds something else than a write expected, or nothing.
    fn holds_instead(&mut self, now: Now, key: &EndpointKey, current: Option<&Stored>) {
        let current = current.and_then(|stored| match &stored.record {
            Record::Endpoint(record) => Some((Arc::clone(record), stored.revision)),
            _ => None,
        });
        if let Some(leaving) = self.leaving.get_mut(key) {
            match current {
                // What is kept by hand is nobody's to withdraw.
                Some((record, revision)) if record.is_static => {
                    self.leaving.remove(key);
                    self.adopt(now, record, revision);
                }
                current => *leaving = Leaving::Stored(current.map(|(_, revision)| revision)),
            }
            return;
        }
        let known = self.index.get(key).and_then(|entry| entry.revision);
        match current {
            // The watch has told more than that by now.
            Some((_, revision)) if known >= Some(revision) => {}
            Some((record, revision)) => self.changed_by_another(now, record, revision),
            None => self.removed_by_another(now, key),
        }
    }

    /// Somebody else wrote an endpoint that is known here.
    fn changed_by_another(&mut self, now: Now, record: Arc<EndpointRecord>, revision: Revision) {
        let key = record.endpoint.key.clone();
        let Some(entry) = self.index.get(&key) else {
            return;
        };
        match entry.pending() {
            Some(wanted) if self.is_still_due(wanted, &entry.record, &record) => {
                let Some(entry) = self.index.get_mut(&key) else {
                    return;
                };
                entry.revision = Some(revision);
                // What is under way may have been made before theirs.
                entry.wanted = Some(wanted);
                if wanted != Wanted::Announce {
                    // Only the lease is ours to write.
                    let lease = entry.record.lease.clone();
                    let endpoint = record.endpoint.clone();
                    self.replace(endpoint, lease, &key);
                }
                self.queue.push(&key, now.mono);
            }
            _ => self.adopt(now, record, revision),
        }
    }

    /// Whether what is `wanted` is to be written though the store holds `theirs`
    /// now: nobody who maintains it is written over.
    fn is_still_due(&self, wanted: Wanted, ours: &EndpointRecord, theirs: &EndpointRecord) -> bool {
        let holder = theirs.lease.holder.as_ref();
        let mine = holder == Some(&self.setup.identity);
        let free = mine || holder.is_none_or(|holder| self.has_run_out(holder));
        !theirs.is_static
            && match wanted {
                Wanted::Announce => {
                    free || (ours.lease.is_held() && ours.endpoint != theirs.endpoint)
                }
                Wanted::Hold => free,
                Wanted::Refresh | Wanted::Release => mine,
            }
    }

    fn replace(&mut self, endpoint: Endpoint, lease: Lease, key: &EndpointKey) {
        let Some(entry) = self.index.get(key) else {
            return;
        };
        let entry = Entry {
            record: Arc::new(EndpointRecord {
                endpoint,
                lease,
                is_static: false,
            }),
            ..*entry
        };
        self.index.insert(entry);
    }

    /// Somebody else removed an endpoint that is known here.
    fn removed_by_another(&mut self, now: Now, key: &EndpointKey) {
        let Some(entry) = self.index.get_mut(key) else {
            return;
        };
        if matches!(entry.pending(), Some(Wanted::Announce | Wanted::Hold)) {
            // Announced or heard meanwhile: it is made anew.
            entry.revision = None;
            entry.wanted = entry.pending();
            self.queue.push(key, now.mono);
            return;
        }
        let longest = self.presence.longest_interval(&key.node);
        if let Some(entry) = self.remove(key) {
            let at = self.patience.counted(now.mono);
            self.leave_ghost(key, entry, longest, at);
            self.events.counts.expired += 1;
            self.events.push(Event::Expired(key.clone()));
        }
    }

    /// The watch tells a change. Those of sessions and services are for others.
    pub fn apply(&mut self, now: Now, change: Change) {
        match change {
            Change::Reset(Kind::Endpoint, all, revision) => {
                let present = endpoint_keys(&all);
                for stored in all {
                    self.was_put(now, stored);
                }
                self.are_gone(now, &present, revision, 0, usize::MAX);
                self.was_reset(Kind::Endpoint, revision);
            }
            Change::Reset(Kind::Replica, all, revision) => {
                self.replicas_were_reset(now, &all, revision);
                self.was_reset(Kind::Replica, revision);
            }
            Change::Put(stored) => {
                let revision = stored.revision;
                match &stored.record {
                    Record::Replica(record) => self.replica_was_put(now, record, revision),
                    Record::Endpoint(_) => {
                        self.was_put(now, stored);
                        self.caught_up(revision);
                    }
                    Record::Session(_) | Record::Service(_) | Record::Instance(_) => {}
                }
            }
            Change::Delete(Key::Replica(identity), revision) => {
                self.replica_was_deleted(now, &identity, revision);
            }
            Change::Delete(Key::Endpoint(key), revision) => {
                self.was_deleted(now, &key, revision);
                self.caught_up(revision);
            }
            Change::Reset(Kind::Session | Kind::Service | Kind::Instance, ..)
            | Change::Delete(Key::Session(_) | Key::Service(_) | Key::Instance(_), _) => {}
        }
    }

    /// Of the endpoints at positions `from..from + count`, those that are not
    /// among `present`, which is all that the store held at `revision`, are gone.
    pub fn are_gone(
        &mut self,
        now: Now,
        present: &Set<EndpointKey>,
        revision: Revision,
        from: usize,
        count: usize,
    ) {
        let gone: Vec<EndpointKey> = self
            .index
            .slice(from, count)
            .map(Entry::key)
            .filter(|key| !present.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.was_deleted(now, &key, revision);
        }
    }

    /// All of a kind that the store held at `revision` was compared.
    pub fn was_reset(&mut self, kind: Kind, revision: Revision) {
        if kind == Kind::Endpoint {
            self.caught_up(revision);
        }
        self.read[kind as usize] = true;
    }

    /// The store holds this. What did not change is not touched.
    pub fn was_put(&mut self, now: Now, stored: Stored) {
        let Record::Endpoint(record) = stored.record else {
            return;
        };
        let key = record.endpoint.key.clone();
        let revision = stored.revision;
        match self.leaving.get_mut(&key) {
            Some(Leaving::Stored(_)) if record.is_static => {
                self.leaving.remove(&key);
            }
            Some(Leaving::Stored(known)) => {
                if *known < Some(revision) {
                    *known = Some(revision);
                    self.queue.push(&key, now.mono);
                }
                return;
            }
            Some(Leaving::Deleted(at)) if revision <= *at => return,
            Some(Leaving::Deleted(_)) => {
                self.leaving.remove(&key);
            }
            None => {}
        }
        if let Some(entry) = self.index.get_mut(&key) {
            if entry.revision.is_some_and(|known| known >= revision) {
                return;
            }
            if entry.record == record {
                // Our own write, before its answer.
                entry.revision = Some(revision);
            } else {
                self.changed_by_another(now, record, revision);
            }
        } else if self.was_withdrawn(now, &record) {
            let leaving = Leaving::Stored(Some(revision));
            self.leaving.insert(key.clone(), leaving);
            self.queue.push(&key, now.mono);
        } else {
            self.adopt(now, record, revision);
        }
    }

    /// Whether a record that appears was withdrawn here before: it is a write of
    /// ours which the store has made only now, or another replica's, whose
    /// Register that Deregister has overtaken.
    fn was_withdrawn(&mut self, now: Now, record: &EndpointRecord) -> bool {
        let at = self.patience.counted(now.mono);
        let key = &record.endpoint.key;
        let is_ours = record.lease.holder.as_ref() == Some(&self.setup.identity);
        let thawed = is_ours && self.memory.withdrawn.get(key, at).is_some();
        let overtaken = self.memory.tombstones.get(key, at) == Some(&Withdrawn::Nothing);
        !record.is_static && (thawed || overtaken)
    }

    /// Takes over what the store tells of an endpoint.
    fn adopt(&mut self, now: Now, record: Arc<EndpointRecord>, revision: Revision) {
        let key = record.endpoint.key.clone();
        let at = self.patience.counted(now.mono);
        self.memory.ghosts.take(&key, at);
        let claimed = self.memory.claims.take(&key, at).map(|(since, ())| since);
        let told = record.lease.interval();
        if let Some(holder) = &record.lease.holder {
            self.replicas.expect(holder);
        }
        let before = self.index.get(&key);
        let refresh = before
            .filter(|entry| entry.record.lease == record.lease)
            .and_then(|entry| entry.refresh);
        let entry = Entry {
            heard: before.and_then(|entry| entry.heard).max(claimed),
            refresh,
            ..Entry::stored(record, revision)
        };
        self.insert(entry, at);
        if let Some(interval) = told {
            self.presence.interval(&key.node, interval, at);
        }
        if refresh.is_none() {
            self.schedule(&key, at, false);
        }
        self.hold(now, &key, at);
    }

    fn was_deleted(&mut self, now: Now, key: &EndpointKey, revision: Revision) {
        let known = self.index.get(key).and_then(|entry| entry.revision);
        if known.is_some_and(|known| known <= revision) {
            self.removed_by_another(now, key);
        }
    }

    /// The watch has told everything up to this revision, so that nothing from
    /// before a delete can come any more.
    fn caught_up(&mut self, revision: Revision) {
        while let Some((at, _)) = self.deleted.front() {
            if *at > revision {
                break;
            }
            if let Some((at, key)) = self.deleted.pop_front()
                && self.leaving.get(&key) == Some(&Leaving::Deleted(at))
            {
                self.leaving.remove(&key);
            }
        }
    }
}

/// A write that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The endpoint.
    pub key: EndpointKey,
    /// Whether it was to be stored or removed.
    pub what: Wrote,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// The kind of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// A record was created or replaced.
    Record,
    /// A record was removed.
    Delete,
}
