//! What is asked of a store: conditional writes of sessions, as in
//! [`crate::backend`].

use std::sync::Arc;

use crate::backend::Revision;
use crate::session::id::SessionKey;
use crate::session::record::SessionRecord;

/// A session and the revision at which it is stored.
pub type Stored = (Arc<SessionRecord>, Revision);

/// One conditional write, as [`crate::backend::Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a session that must be absent.
    Create(Arc<SessionRecord>),
    /// Replaces the session that is stored at exactly this revision.
    Put(Arc<SessionRecord>, Revision),
    /// Removes the session that is stored at exactly this revision. Removing
    /// what is absent succeeds; at revision 0 it finds out what is stored.
    Delete(SessionKey, Revision),
}

/// Why a write was not made, as [`crate::backend::WriteError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The condition did not hold: this is stored instead, if anything.
    Conflict(Option<Stored>),
    /// Whether it was made, or will be, is unknown.
    Unavailable,
    /// It was not and will not be made.
    Refused,
}
