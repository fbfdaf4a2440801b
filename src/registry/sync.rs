//! The store's side of the registry: which writes are made, what their ends
//! mean, and what the watch tells. Pure, like all of [`Core`].

use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Change, Revision, Stored, Write, WriteError, endpoint_keys};
use crate::index::Entry;
use crate::map::Set;
use crate::record::{EndpointKey, EndpointRecord, Key, Kind, Record};
use crate::registry::core::{Core, Leaving};
use crate::registry::events::Event;
use crate::registry::queue::Ended;
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
                    if self.queue.ended(&key, Ended::Done, now.mono) {
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
        let entry = self.index.get_mut(key).filter(|entry| entry.dirty)?;
        // What waited long is dated when it is written, not when it was wished.
        let record = Arc::make_mut(&mut entry.record);
        record.lease.renew_time = now.wall;
        // A change that comes while this write is under way sets it again.
        entry.dirty = false;
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
                self.holds_now(made, *revision);
                Ended::Done
            }
            Err(error) => {
                if let Some(entry) = self.index.get_mut(key) {
                    entry.dirty = true;
                }
                match error {
                    WriteError::Conflict(current) => {
                        self.holds_instead(key, current.as_deref().map(|stored| stored.revision));
                        Ended::Conflict
                    }
                    WriteError::Refused(_) => Ended::Refused,
                    WriteError::Unavailable(_) => Ended::Unavailable,
                }
            }
        };
        self.queue.ended(key, ended, now.mono)
    }

    /// A write was made, at this revision.
    fn holds_now(&mut self, made: &Made, revision: Revision) {
        if let Some(entry) = self.index.get_mut(&made.key) {
            entry.revision = match made.what {
                Wrote::Record => entry.revision.max(Some(revision)),
                // Registered anew while the delete was under way.
                Wrote::Delete => None,
            };
        }
        if let Some(leaving) = self.leaving.get_mut(&made.key) {
            *leaving = match made.what {
                Wrote::Record => Leaving::Stored(Some(revision)),
                Wrote::Delete => Leaving::Deleted(revision),
            };
            if made.what == Wrote::Delete {
                self.deleted.push_back((revision, made.key.clone()));
            }
        }
    }

    /// The store holds something else than a write expected: at this revision,
    /// or nothing.
    fn holds_instead(&mut self, key: &EndpointKey, revision: Option<Revision>) {
        if let Some(entry) = self.index.get_mut(key) {
            entry.revision = revision;
        }
        if let Some(leaving) = self.leaving.get_mut(key) {
            *leaving = Leaving::Stored(revision);
        }
    }

    /// The watch tells a change.
    pub fn apply(&mut self, now: Now, change: Change) {
        match change {
            Change::Reset(Kind::Replica, ..) | Change::Delete(Key::Replica(_), _) => {}
            Change::Reset(Kind::Endpoint, all, revision) => {
                let present = endpoint_keys(&all);
                for stored in all {
                    self.was_put(now, stored);
                }
                self.are_gone(now, &present, revision, 0, usize::MAX);
                self.was_reset(revision);
            }
            Change::Put(stored) => {
                let revision = stored.revision;
                self.was_put(now, stored);
                self.caught_up(revision);
            }
            Change::Delete(Key::Endpoint(key), revision) => {
                self.was_deleted(now, &key, revision);
                self.caught_up(revision);
            }
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

    /// All that the store held at `revision` was compared.
    pub fn was_reset(&mut self, revision: Revision) {
        self.caught_up(revision);
        self.ready = true;
    }

    /// The store holds this. What did not change is not touched.
    pub fn was_put(&mut self, now: Now, stored: Stored) {
        let Record::Endpoint(record) = stored.record else {
            return;
        };
        let key = record.endpoint.key.clone();
        let revision = stored.revision;
        match self.leaving.get_mut(&key) {
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
        let heard = match self.index.get_mut(&key) {
            None => None,
            Some(entry) => {
                // While a write of ours is wanted or under way, that decides.
                let news = entry.revision.is_some_and(|known| known < revision);
                if !news {
                    return;
                }
                entry.revision = Some(revision);
                if entry.dirty || self.queue.contains(&key) {
                    return;
                }
                entry.heard
            }
        };
        self.adopt(now, record, revision, heard);
    }

    /// Takes over what the store tells of an endpoint.
    fn adopt(
        &mut self,
        now: Now,
        record: Arc<EndpointRecord>,
        revision: Revision,
        heard: Option<Instant>,
    ) {
        let key = record.endpoint.key.clone();
        let at = self.patience.counted(now.mono);
        self.memory.ghosts.take(&key, at);
        let claimed = self.memory.claims.take(&key, at).map(|(since, ())| since);
        let maintained = record.lease.is_held();
        let told = record.lease.interval();
        let entry = Entry {
            record,
            revision: Some(revision),
            dirty: false,
            attempted: true,
            heard: heard.max(claimed),
        };
        self.insert(entry, at);
        if let Some(interval) = told.filter(|_| maintained) {
            self.presence.interval(&key.node, interval, at);
        }
        if claimed.is_some() && !maintained {
            let lease = self.held(now, &key.node);
            self.set_lease(now, &key, lease);
        }
    }

    fn was_deleted(&mut self, now: Now, key: &EndpointKey, revision: Revision) {
        let Some(entry) = self.index.get_mut(key) else {
            return;
        };
        if entry.revision.is_none_or(|known| known > revision) {
            return;
        }
        if entry.dirty || self.queue.contains(key) {
            // Heard again meanwhile: it is made anew.
            entry.revision = None;
            entry.dirty = true;
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

/// The kind of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// A record was created or replaced.
    Record,
    /// A record was removed.
    Delete,
}
