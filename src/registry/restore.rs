//! What is remembered of endpoints that are not there: ghosts, tombstones and
//! renewals that came too early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::{EndpointKey, EndpointRecord};
use crate::remembered::Remembered;

/// How long a ghost is kept. A day: longer than any outage in which a gost
/// process goes on living without its registry.
pub const GHOST_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a Deregister absorbs calls that it has overtaken. gost makes them
/// from different goroutines, so they are a network delay apart.
pub const TOMBSTONE_FOR: Duration = Duration::from_secs(5);
/// How long a Renew for something unknown is remembered.
pub const CLAIM_FOR: Duration = Duration::from_secs(5 * 60);
/// How long after a withdrawal a write that was given to the store before it may
/// still come true: a server that hangs makes what it was asked for when it thaws.
pub const WITHDRAWN_FOR: Duration = Duration::from_secs(10 * 60);
/// At most so many ghosts, and as many of the others; the oldest goes first.
pub const MAX_REMEMBERED: usize = 50_000;

/// What a replica remembers of endpoints that it does not have.
#[derive(Debug)]
pub struct Memory {
    /// Endpoints that went without a Deregister: a Renew revives them, because
    /// gost never registers twice.
    pub ghosts: Remembered<EndpointKey, Ghost>,
    /// Connectors that were withdrawn just now, and whether they had been there.
    pub tombstones: Remembered<EndpointKey, Withdrawn>,
    /// Renewals of what is not known yet.
    pub claims: Remembered<EndpointKey, ()>,
    /// What was withdrawn from a store that may still make a write of ours that
    /// it had been given before.
    pub withdrawn: Remembered<EndpointKey, ()>,
}

/// An endpoint that has gone, and what was known of it.
#[derive(Clone, Debug)]
pub struct Ghost {
    /// The endpoint as it was.
    pub record: Arc<EndpointRecord>,
    /// When it was last heard.
    pub heard: Option<Instant>,
    /// The longest interval that was seen of its node.
    pub longest: Duration,
}

/// What a Deregister found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The endpoint: only a late Renew is absorbed.
    Something,
    /// Nothing: the Register may still come, and is absorbed too.
    Nothing,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            ghosts: Remembered::new(GHOST_FOR, MAX_REMEMBERED),
            tombstones: Remembered::new(TOMBSTONE_FOR, MAX_REMEMBERED),
            claims: Remembered::new(CLAIM_FOR, MAX_REMEMBERED),
            withdrawn: Remembered::new(WITHDRAWN_FOR, MAX_REMEMBERED),
        }
    }
}

impl Memory {
    /// Forgets what has been kept long enough.
    pub fn forget_old(&mut self, now: Instant) {
        self.ghosts.forget_old(now);
        self.tombstones.forget_old(now);
        self.claims.forget_old(now);
        self.withdrawn.forget_old(now);
    }
}
