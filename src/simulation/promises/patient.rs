//! How long a controller waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::contact::LONGEST_GAP;
use crate::controller::plan::{Due, Reason};
use crate::record::{Key, Record, ReplicaRecord};
use crate::simulation::agenda::{ClientId, Time};
use crate::simulation::world::World;

/// What a controller was answered.
#[derive(Debug, Default)]
pub struct Answers {
    last: Option<Time>,
    /// The time between answers that were close together.
    counted: Time,
    /// The leases of replicas, each since when (counted) it is as it is.
    leases: BTreeMap<Arc<str>, (Arc<ReplicaRecord>, Time)>,
}

impl World {
    /// A controller was told the leases of replicas.
    pub fn leases_were_read(&mut self, client: ClientId, leases: &[Arc<ReplicaRecord>]) {
        let now = self.now;
        let answers = self.answers.entry(client).or_default();
        let gap = answers.last.replace(now).map(|last| now - last);
        answers.counted += gap.filter(|gap| *gap <= LONGEST_GAP).unwrap_or_default();
        let counted = answers.counted;
        let mut before = std::mem::take(&mut answers.leases);
        for lease in leases {
            let since = match before.remove(&lease.identity) {
                Some((same, since)) if same == *lease => since,
                _ => counted,
            };
            let known = (Arc::clone(lease), since);
            answers.leases.insert(Arc::clone(&lease.identity), known);
        }
    }

    /// An orphan is collected when its holder's lease stayed as it is for the
    /// orphan's wait at least, in time between answers (DESIGN.md, "Liveness"). A
    /// collected endpoint of a replica that lives would come back by a renewal, so
    /// this is not seen by what is lost.
    pub fn no_orphan_goes_early(&mut self, client: ClientId, due: &[Due]) {
        let Some(answers) = self.answers.get(&client) else {
            return;
        };
        let early = due.iter().find_map(|due| {
            let stored = self.api.get(&Key::Endpoint(due.key.clone()))?;
            // Of another revision it is not deleted.
            let Record::Endpoint(record) = &stored.record else {
                return None;
            };
            let holder = record.lease.holder.as_ref()?;
            let (_, since) = answers.leases.get(holder)?;
            let waited = answers.counted - *since;
            let early = due.reason == Reason::HolderLost
                && due.revision == stored.revision
                && waited < self.settings.orphan_for;
            early.then(|| format!("{} after {waited:?} of {holder}'s silence", due.key))
        });
        if let Some(early) = early {
            self.broken("no orphan goes early", early);
        }
    }
}
