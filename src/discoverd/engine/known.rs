//! What is known of services and their instances, and what is asked of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Revision;
use crate::discoverd::engine::{Done, Request, Ticket};
use crate::discoverd::instance::InstanceId;
use crate::discoverd::record::{InstanceRecord, ServiceRecord};

/// A request that waits for its turn, or has it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) wish: Request,
    pub(super) deadline: Instant,
    /// What the store may hold because of it, or that it may hold nothing: a write
    /// that was not answered.
    pub(super) attempt: Option<Option<Arc<ServiceRecord>>>,
}

/// A write that is under way, or was made and is not told yet.
#[derive(Debug)]
pub(super) struct Pending<T> {
    /// What is to be stored; nothing, if it is to be removed.
    pub(super) content: Option<Arc<T>>,
    /// For which request, if for one, and what that is answered.
    pub(super) asked: Option<(Ticket, Done)>,
    /// The instances to which its last indexes go.
    pub(super) reserved: Vec<InstanceId>,
    /// What was stored before.
    pub(super) before: Option<Revision>,
    /// At which revision it was made; none while it is under way.
    pub(super) made: Option<Revision>,
}

/// A service that is known, or asked for.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) stored: Option<(Arc<ServiceRecord>, Revision)>,
    pub(super) pending: Option<Pending<ServiceRecord>>,
    pub(super) asked: VecDeque<Asked>,
    /// Instances that wait for an index.
    pub(super) wanting: Vec<InstanceId>,
    pub(super) instances: BTreeMap<InstanceId, Entry>,
    /// Those of them that are shown.
    pub(super) order: BTreeSet<(u64, InstanceId)>,
    /// Who leads, as was told.
    pub(super) leader: Option<InstanceId>,
    /// Of which life the store was last told to be gone.
    pub(super) removed: Option<u64>,
    /// Since when there are instances of it without it, in counted time.
    pub(super) missing: Option<Instant>,
}

/// An instance that is known, or asked for.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stored: Option<(Arc<InstanceRecord>, Revision)>,
    pub(super) pending: Option<Pending<InstanceRecord>>,
    pub(super) asked: VecDeque<Asked>,
    /// The index that it will have, in which life of the service.
    pub(super) index: Option<(u64, u64)>,
    /// When it was last heard of here, in counted time.
    pub(super) heard: Option<Instant>,
    /// Since when it is known.
    pub(super) since: Instant,
    /// Since when nobody keeps it.
    pub(super) loose: Option<Instant>,
    /// Whether the store may remove it yet, by a write that was not answered.
    pub(super) unsure: bool,
}

impl Service {
    pub(super) fn record(&self) -> Option<&Arc<ServiceRecord>> {
        self.stored.as_ref().map(|(record, _)| record)
    }

    pub(super) fn born(&self) -> Option<u64> {
        self.record().map(|record| record.born)
    }

    /// Whether an instance is of the life that is there.
    pub(super) fn shows(&self, record: &InstanceRecord) -> bool {
        self.born() == Some(record.born)
    }

    pub(super) fn shown(&self, id: InstanceId) -> Option<&Arc<InstanceRecord>> {
        let (record, _) = self.instances.get(&id)?.stored.as_ref()?;
        self.shows(record).then_some(record)
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.stored.is_none()
            && self.pending.is_none()
            && self.asked.is_empty()
            && self.instances.is_empty()
    }
}

impl Entry {
    pub(super) fn new(at: Instant) -> Self {
        Self {
            stored: None,
            pending: None,
            asked: VecDeque::new(),
            index: None,
            heard: None,
            since: at,
            loose: None,
            unsure: false,
        }
    }

    /// Whether it is being removed.
    pub(super) fn is_leaving(&self) -> bool {
        self.unsure
            || self
                .pending
                .as_ref()
                .is_some_and(|pending| pending.content.is_none())
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.stored.is_none() && self.pending.is_none() && self.asked.is_empty()
    }
}
