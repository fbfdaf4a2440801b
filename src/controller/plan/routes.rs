//! What proxy sessions are in Kubernetes: the objects that there should be, and
//! how each session stands. Pure: sessions and the addresses of their backends
//! come in, all objects come out, the same ones each time.
//!
//! - A place is a domain and a path. Places with one path and the same offers,
//!   those of the sessions of one service, are a *pool* ([`pool`]).
//! - The backends of a pool are in *classes*: what one Service can hold. Their
//!   Services have no selector and no address, and an EndpointSlice for each
//!   session. A Service is named by all that it means but who is in it. So a
//!   session that comes or goes changes its own slice only, and a Service never
//!   comes to mean something else under the feet of a route.
//! - Each session has its own HTTPRoutes, with the rules of its places. Sessions
//!   that share a place have the same rule for it, so that it does not matter
//!   whose a Gateway takes.
//!
//! Slices and HTTPRoutes are owned by their session alone, Services by all sessions
//! of their pool: what a session leaves behind is collected by Kubernetes,
//! also while no controller runs.

pub mod objects;
pub mod pool;
pub mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::map::Map;
use crate::resources::gateway::{BackendRef, ParentRef};
use crate::session::host::HostName;
use crate::session::served::{served, superseded};
use crate::session::{SessionKey, SessionRecord};

/// How sessions become objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The Gateways that serve them. Without one there are no objects.
    pub gateways: Vec<ParentRef>,
    /// The Service that answers 503 for what is in maintenance, without weight.
    pub maintenance: Option<BackendRef>,
}

/// A session's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it holds.
    pub record: Arc<SessionRecord>,
    /// Its name.
    pub name: String,
    /// Its uid: what is made for it goes with it.
    pub uid: String,
}

/// The addresses of the hosts of backends that are known, each at most
/// [`MAX_ADDRESSES`], in order.
pub type Addresses = Map<HostName, Arc<[IpAddr]>>;

/// The most addresses of one host that are used.
pub const MAX_ADDRESSES: usize = 16;

/// A kind of objects, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `Service`.
    Service,
    /// `EndpointSlice`.
    Slice,
    /// `HTTPRoute`.
    Route,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Service, Self::Slice, Self::Route];

    /// The kind as Kubernetes names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Route => "HTTPRoute",
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Of which kind.
    pub kind: Kind,
    /// With which name.
    pub name: String,
}

/// An object that there should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// All that is ours in it.
    pub body: Value,
    /// A hash of the body, which is in it as an annotation.
    pub hash: String,
    /// The Services that it needs: those that an HTTPRoute sends to, and the one
    /// that a slice is of. Only ours.
    pub needs: Vec<String>,
}

/// How a session stands, as far as that follows from the sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The HTTPRoutes that are its own.
    pub routes: Vec<String>,
    /// How many places it announces.
    pub places: usize,
    /// Places that another service had first, with its name.
    pub lost: Vec<(String, String)>,
    /// Hosts of its backends that have no address.
    pub unresolved: Vec<HostName>,
    /// Hosts of its backends whose addresses no other host could dial.
    pub unreachable: Vec<HostName>,
    /// Places at which its backend has another path than the newest session's.
    pub other_path: Vec<String>,
    /// Places with too many kinds of backends for all to be served.
    pub too_many: Vec<String>,
    /// Whether it is in maintenance.
    pub maintenance: bool,
    /// Whether there is nobody to show its page for that.
    pub without_page: bool,
    /// Whether a later session of its instance serves all its places.
    pub replaced: bool,
    /// Whether it is kept by hand.
    pub is_static: bool,
    /// Options that Gateways cannot be told.
    pub unsupported: Vec<&'static str>,
}

/// What there should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The objects.
    pub wanted: BTreeMap<Id, Wanted>,
    /// How the sessions stand.
    pub standings: BTreeMap<SessionKey, Standing>,
}

/// What there should be for these sessions.
#[must_use]
pub fn plan(sessions: &[Session], addresses: &Addresses, settings: &Settings) -> Plan {
    let mut by_key: BTreeMap<SessionKey, &Session> = BTreeMap::new();
    for session in sessions {
        // Of several objects for one session the least name is taken.
        let one = by_key.entry(session.record.key).or_insert(session);
        if session.name < one.name {
            *one = session;
        }
    }
    let former = superseded(by_key.values().map(|session| &*session.record));
    let records = by_key.values().map(|session| &session.record);
    let served = served(records.map(|record| (record, former.contains(&record.key))));
    let mut standings: BTreeMap<_, _> = by_key
        .iter()
        .map(|(key, session)| (*key, words::first(&session.record)))
        .collect();
    for session in by_key.values() {
        let record = &session.record;
        let Some(standing) = standings.get_mut(&record.key) else {
            continue;
        };
        standing.without_page = record.maintenance && settings.maintenance.is_none();
        let mut serves = false;
        for place in record.routes.0.keys() {
            let offers = served.get(place).map_or(&[][..], Vec::as_slice);
            serves |= offers.iter().any(|offer| offer.session.key == record.key);
            let winner = offers
                .first()
                .map(|offer| &offer.session.registration.instance.service);
            if let Some(winner) = winner.filter(|it| **it != record.registration.instance.service) {
                standing.lost.push((place.to_string(), winner.to_string()));
            }
        }
        let is_former = former.contains(&record.key);
        standing.replaced = standing.places > 0 && is_former && !serves && standing.lost.is_empty();
    }
    let pools = pool::pools(served, addresses);
    for pool in &pools {
        pool.tell(&mut standings);
    }
    let wanted = match settings.gateways.is_empty() {
        true => BTreeMap::new(),
        false => objects::all(&pools, &by_key, settings, &mut standings),
    };
    Plan { wanted, standings }
}

#[cfg(test)]
mod tests;
