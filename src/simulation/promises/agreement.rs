//! A replica that hears everything believes what is stored.

use std::time::Duration;

use crate::listing::Filter;
use crate::simulation::agenda::ClientId;
use crate::simulation::world::World;

/// Watches tell within a fraction of a second; a replica has decided by then.
const AGREES_WITHIN: Duration = Duration::from_secs(5);

impl World {
    /// A replica's index is a copy of the store with what it is about to write laid
    /// over it (DESIGN.md, Three layers): when nothing has stood in its way for
    /// [`AGREES_WITHIN`] and it has nothing to write, both have the same keys, with
    /// the same leases.
    pub(super) fn agrees_with_the_store(&mut self, client: ClientId) {
        let now = self.now_of(client);
        let is_told = self.clients[client]
            .watches
            .iter()
            .all(|watch| !watch.telling);
        if !self.clear_for(client, AGREES_WITHIN) || !is_told {
            return;
        }
        let Some(core) = &mut self.replicas[client].core else {
            return;
        };
        let figures = core.figures(now);
        if !figures.ready || figures.queue > 0 {
            return;
        }
        self.counts
            .add("checked: a replica agrees with the store", 1);
        let stored: Vec<_> = self.api.endpoints().cloned().collect();
        let known = core.keys(0, usize::MAX, &Filter::default());
        let mut wrong = None;
        for record in &stored {
            let key = &record.endpoint.key;
            let same = core.row(now, key).is_some_and(|row| {
                row.holder == record.lease.holder
                    && row.renew_time == record.lease.renew_time
                    && row.lease_seconds == record.lease.duration_seconds
                    && row.address == record.endpoint.address
            });
            if !same {
                wrong = Some(format!("{record:?}, not {:?}", core.row(now, key)));
            }
        }
        for key in known {
            if !stored.iter().any(|record| record.endpoint.key == key) {
                wrong = Some(format!("nothing, not {:?}", core.row(now, &key)));
            }
        }
        if let Some(wrong) = wrong {
            let text = format!("{}: stored is {wrong}", self.name_of(client));
            self.broken("agrees_with_the_store", text);
        }
    }
}
