//! What Get answers.

use std::sync::Arc;
use std::time::Duration;

use crate::record::{EndpointRecord, Name};
use crate::registry::order::MAX_PER_NETWORK;
use crate::replicas::VALIDITY;
use crate::simulation::agenda::ClientId;
use crate::simulation::promises::withdrawn::stranger;
use crate::simulation::world::World;

/// Watches tell within a fraction of a second.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// So long after nothing stands in anybody's way any more all know who lives: a
/// validity, and as much again for those that were only read.
const KNOWN_WITHIN: Duration = VALIDITY.saturating_mul(2);

impl World {
    /// "The API server is away: Get goes on"; "before the first list has arrived Get
    /// answers 503" (DESIGN.md): a replica that has read its store always answers,
    /// and offers nothing twice.
    ///
    /// What lives and is stored is offered by a replica that hears everything;
    /// what is kept by hand, always.
    ///
    /// "Nothing dead is offered" before what lives: see [`World::is_good`] and
    /// [`World::is_bad`].
    pub(super) fn routes(&mut self, client: ClientId) {
        let now = self.now_of(client);
        let clear = self.clear_for(client, TOLD_WITHIN);
        for tunnel in ["t0", "t1"] {
            let Ok(tunnel) = tunnel.parse::<Name>() else {
                continue;
            };
            let Some(core) = &mut self.replicas[client].core else {
                return;
            };
            let ready = core.is_ready();
            let told = match core.get(now, &stranger(), &tunnel) {
                Ok(told) => told,
                Err(refusal) => {
                    if ready {
                        self.broken("routes", format!("Get failed: {refusal}"));
                    }
                    return;
                }
            };
            self.counts.add("checked: Get", 1);
            let mut wrong = duplicate(&told);
            if clear && told.len() < MAX_PER_NETWORK {
                wrong = wrong.or(self.missing(&tunnel, &told));
            }
            wrong = wrong.or(self.misplaced(&told));
            if let Some(wrong) = wrong {
                let rows: Vec<_> = match &mut self.replicas[client].core {
                    Some(core) => core
                        .keys(0, usize::MAX, &Default::default())
                        .iter()
                        .filter_map(|key| core.row(now, key))
                        .collect(),
                    None => Vec::new(),
                };
                let text = format!("{} {wrong}; it has {rows:?}", self.name_of(client));
                self.broken("routes", text);
            }
        }
    }

    fn missing(&self, tunnel: &Name, told: &[Arc<EndpointRecord>]) -> Option<String> {
        let stored = self
            .api
            .endpoints()
            .filter(|record| record.endpoint.key.tunnel == *tunnel);
        for record in stored {
            let key = &record.endpoint.key;
            let truth = self.truths.get(key);
            let settled = match truth {
                Some(truth) => truth.lives() && self.now >= truth.written + TOLD_WITHIN,
                None => self
                    .statics
                    .get(key)
                    .is_some_and(|made| self.now >= *made + TOLD_WITHIN),
            };
            // Another pod's that is gone, until its next renewal.
            let mistaken = truth.is_some_and(|truth| record.endpoint.pod != truth.pod)
                && record.endpoint.pod.is_some();
            let offered = told.iter().any(|other| other.endpoint.key == *key);
            if settled && !mistaken && !offered {
                return Some(format!(
                    "does not offer {key}, which is stored and lives, among {}",
                    told.len()
                ));
            }
        }
        None
    }

    fn misplaced(&mut self, told: &[Arc<EndpointRecord>]) -> Option<String> {
        let bad = told.iter().position(|record| self.is_bad(record))?;
        let good = told.iter().rposition(|record| self.is_good(record))?;
        self.counts.add("checked: what is dead goes last", 1);
        (bad < good).then(|| {
            format!(
                "offers {}, which is dead, before {}",
                told[bad].endpoint.key, told[good].endpoint.key
            )
        })
    }

    fn all_is_known(&self) -> bool {
        self.calm_since()
            .is_some_and(|calm| self.now >= calm + KNOWN_WITHIN)
    }

    /// Lives, is held by a replica that runs and that heard it in the last two
    /// renewals, and since its gost closed a connection; and nothing has stood in anybody's way for [`KNOWN_WITHIN`].
    fn is_good(&self, record: &EndpointRecord) -> bool {
        let key = &record.endpoint.key;
        let (Some(truth), Some(holder)) = (self.truths.get(key), &record.lease.holder) else {
            return false;
        };
        let Some(at) = self.replica_of(holder) else {
            return false;
        };
        let life = self.clients[at].life;
        let ttl = self.gosts[truth.gost].ttl;
        let since = self.gosts[truth.gost].hung_up + TOLD_WITHIN;
        let heard = truth.heard.iter().any(|heard| {
            (heard.replica, heard.life) == (at, life)
                && heard.at + 2 * ttl >= self.now
                && heard.at > since
                && heard.at + TOLD_WITHIN <= self.now
        });
        let alone = self
            .gosts
            .iter()
            .filter(|gost| gost.ip == self.gosts[truth.gost].ip)
            .count()
            == 1;
        truth.lives()
            && heard
            && alone
            && record.endpoint.pod == truth.pod.filter(|_| record.endpoint.pod.is_some())
            && self.now >= truth.written + TOLD_WITHIN
            && self.all_is_known()
    }

    /// Has ended, and is released, or its holder has not run for
    /// [`KNOWN_WITHIN`]: "doubtful everywhere within 40 s" (issue 4).
    fn is_bad(&self, record: &EndpointRecord) -> bool {
        let Some(truth) = self.truths.get(&record.endpoint.key) else {
            return false;
        };
        let dead = match &record.lease.holder {
            None => self.now >= truth.written + TOLD_WITHIN,
            Some(holder) => {
                let died = self.rates.died.get(holder).copied().unwrap_or_default();
                self.replica_of(holder).is_none()
                    && self.now >= died + KNOWN_WITHIN
                    && self.now >= truth.last_heard + 10 * KNOWN_WITHIN
            }
        };
        !truth.lives() && dead && self.all_is_known()
    }
}

fn duplicate(told: &[Arc<EndpointRecord>]) -> Option<String> {
    let twice = told.iter().enumerate().find(|(at, record)| {
        told[..*at]
            .iter()
            .any(|other| other.endpoint.key == record.endpoint.key)
    });
    twice.map(|(_, record)| format!("offers {} twice", record.endpoint.key))
}
