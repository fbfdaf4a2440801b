//! Moving what is stored: from any store to any other by way of a file, and from
//! the peer that keeps its tunnels in Redis.
//!
//! gost never registers twice, so a registry that begins with an empty store knows
//! no tunnel until its client connects anew. What is moved is therefore everything
//! that somebody announced; replicas' own leases are not.
//!
//! - [`mod@format`]: the file, as text. [`plan`]: what becomes of each record in the
//!   store that it is put into, and who holds it there. [`peer`]: the peer's
//!   entries as endpoints. All three are pure.
//! - [`store`] reads and writes stores; [`redis`] reads Redis.

pub mod format;
pub mod peer;
pub mod plan;
pub mod redis;
pub mod store;

use clap::ValueEnum;

use crate::record::Kind;

/// The most records that are moved at once: four times the most that a registry
/// takes unless it is told otherwise.
pub const MAX_RECORDS: usize = 2_000_000;

/// What may be moved, as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Connectors of tunnels and where they are reached.
    Endpoints,
    /// Proxy sessions.
    Sessions,
    /// discoverd's services with their instances.
    Services,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Endpoints, Self::Sessions, Self::Services];

    /// The kinds of records, in the order in which they are written: an instance
    /// without its service is none.
    #[must_use]
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Endpoints => &[Kind::Endpoint],
            Self::Sessions => &[Kind::Session],
            Self::Services => &[Kind::Service, Kind::Instance],
        }
    }

    /// What a kind belongs to; none for what is not moved.
    #[must_use]
    pub fn of(kind: Kind) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|what| what.kinds().contains(&kind))
    }
}
