//! What is true of each connector, whatever anybody believes.

use uuid::Uuid;

use crate::simulation::agenda::{ClientId, Time};

/// At most so many calls are kept of each connector.
const KEPT: usize = 64;

/// A call that a replica heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which replica.
    pub replica: ClientId,
    /// In which of its lives.
    pub life: u32,
    /// When.
    pub at: Time,
}

/// How a connector ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its client left; gost said so.
    Left,
    /// Its gost died.
    Died,
    /// The object of its pod was removed.
    PodGone,
}

/// What is true of a connector.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Its gost.
    pub gost: usize,
    /// The pod that it is in.
    pub pod: Option<Uuid>,
    /// The pod that owns what is made of it.
    pub owner: Option<Uuid>,
    /// When and how it ended.
    pub ended: Option<(Time, End)>,
    /// Whether a replica took its registration.
    pub accepted: bool,
    /// The calls that were heard of it lately.
    pub heard: Vec<Heard>,
    /// When the last one was.
    pub last_heard: Time,
    /// The Deregisters that were heard.
    pub withdrawn: Vec<Heard>,
    /// Renewals since it is missing from the store, at replicas that knew it.
    pub missed: Vec<Heard>,
    /// When it was last written or removed.
    pub written: Time,
    /// When it was last removed, other than by hand.
    pub removed: Option<Time>,
    /// When its Register was heard.
    pub registered: Option<Heard>,
}

impl Truth {
    /// A connector was just opened.
    pub fn new(gost: usize, pod: Option<Uuid>, owner: Option<Uuid>, now: Time) -> Self {
        Self {
            gost,
            pod,
            owner,
            ended: None,
            accepted: false,
            heard: Vec::new(),
            last_heard: now,
            withdrawn: Vec::new(),
            missed: Vec::new(),
            written: now,
            removed: None,
            registered: None,
        }
    }

    /// Whether it is there.
    pub fn lives(&self) -> bool {
        self.ended.is_none()
    }

    /// It has ended; the first end counts.
    pub fn end(&mut self, now: Time, how: End) {
        self.ended.get_or_insert((now, how));
    }

    /// A call was heard of it.
    pub fn hear(&mut self, heard: Heard) {
        self.last_heard = heard.at;
        self.heard.push(heard);
        if self.heard.len() > KEPT {
            self.heard.remove(0);
        }
    }
}
