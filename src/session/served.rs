//! Who serves which place, as all parts of the product decide it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::map::{Map, Set};
use crate::session::id::SessionKey;
use crate::session::place::Place;
use crate::session::record::SessionRecord;
use crate::session::registration::Instance;
use crate::session::route::BackendUrl;

/// Who serves a place: one of the sessions of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The session, with its headers, options and maintenance.
    pub session: Arc<SessionRecord>,
    /// Where it serves the place.
    pub backend: BackendUrl,
}

/// Which of two is older: by the wall clocks of who took them, so only for what
/// must be the same everywhere and is otherwise open.
#[must_use]
pub fn age(record: &SessionRecord) -> (Timestamp, SessionKey) {
    (record.registered, record.key)
}

/// The sessions whose instance has opened another one since, as that one says.
#[must_use]
pub fn superseded<'a>(records: impl Iterator<Item = &'a SessionRecord>) -> Set<SessionKey> {
    records
        .flat_map(|record| record.supersedes.iter().copied())
        .collect()
}

/// Who serves which place, the oldest session first, given all sessions and which
/// were superseded. One that was serves what its successor does not; of several
/// services that took a place at once, at different replicas, the oldest has it.
#[must_use]
pub fn served<'a>(
    sessions: impl Iterator<Item = (&'a Arc<SessionRecord>, bool)>,
) -> BTreeMap<Place, Vec<Offer>> {
    let sessions: Vec<_> = sessions.collect();
    let mut instances: Map<&Instance, Vec<&SessionRecord>> = Map::default();
    for (session, _) in &sessions {
        let of = instances.entry(&session.registration.instance).or_default();
        of.push(session);
    }
    let is_replaced = |session: &SessionRecord, place: &Place| {
        let all = instances.get(&session.registration.instance);
        all.into_iter()
            .flatten()
            .any(|other| age(other) > age(session) && other.routes.0.contains_key(place))
    };
    let mut served: BTreeMap<Place, Vec<Offer>> = BTreeMap::new();
    for (session, is_superseded) in &sessions {
        for (place, backend) in &session.routes.0 {
            if !is_superseded || !is_replaced(session, place) {
                served.entry(place.clone()).or_default().push(Offer {
                    session: Arc::clone(session),
                    backend: backend.clone(),
                });
            }
        }
    }
    for offers in served.values_mut() {
        offers.sort_unstable_by_key(|offer| age(&offer.session));
        if let Some(first) = offers.first() {
            let service = first.session.registration.instance.service.clone();
            offers.retain(|offer| offer.session.registration.instance.service == service);
        }
    }
    served
}
