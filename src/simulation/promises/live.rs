//! Nothing live is ever lost.

use std::time::Duration;

use crate::record::EndpointKey;
use crate::simulation::agenda::ClientId;
use crate::simulation::api::Edit;
use crate::simulation::promises::By;
use crate::simulation::world::World;

/// Beside the two renewals: the queue's longest pause (5 s, and a quarter), a
/// conflict or two, and the way there.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);
/// A replica that had nothing in its way for so long has taken over what it
/// hears: the validity of another's lease, a third of it again after a gap, and
/// a sweep or two.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(100);
/// What is heard is heard of some seconds before the base time is over.
const MARGIN: Duration = Duration::from_secs(5);

impl World {
    /// "Nothing live is ever lost": what goes on renewing at a replica that knew it
    /// is back within two renewals (DESIGN.md, Ghosts; issue 4), where the
    /// replica runs and nothing has stood between it and the API server since the
    /// first of the two. Allows [`WRITTEN_WITHIN`] beside that.
    pub(super) fn live_is_back(&mut self) {
        let mut broken = None;
        for (key, truth) in &self.truths {
            if truth.missed.is_empty() || !truth.lives() || !truth.accepted {
                continue;
            }
            let mut good = truth.missed.iter().filter(|heard| {
                self.lives(heard.replica, heard.life)
                    && self.clear_for(heard.replica, Duration::ZERO)
                    && self.clients[heard.replica].troubled < heard.at
            });
            if let (Some(first), Some(second)) = (good.next(), good.next())
                && self.now >= second.at + WRITTEN_WITHIN
            {
                broken = Some(format!(
                    "{key} is not stored, though it was renewed at {first:?} and {second:?}"
                ));
            }
        }
        if let Some(text) = broken {
            self.broken("live_is_back", text);
        }
        for truth in self.truths.values_mut() {
            if !truth.lives() {
                truth.missed.clear();
            }
        }
    }

    /// "Silence never deletes directly", "two nodes that are both alive behind one
    /// address are both kept" (DESIGN.md, Liveness; gost-sd.md 6): no replica and
    /// no controller removes what a replica hears that knows it and that has had
    /// nothing in its way for [`TAKES_OVER_WITHIN`]. Allows what was taken for
    /// another pod's.
    pub(super) fn nothing_live_is_removed(&mut self, by: By, edit: &Edit) {
        let (By::Client(client), Some(record), None) = (by, edit.before(), edit.after()) else {
            return;
        };
        let key = record.endpoint.key.clone();
        let Some(truth) = self.truths.get(&key).filter(|truth| truth.lives()) else {
            return;
        };
        if record.endpoint.pod.is_some() && record.endpoint.pod != truth.pod {
            self.counts
                .add("removed though live: taken for another pod's", 1);
            return;
        }
        let hears = (0..self.replicas.len()).find(|at| self.hears(*at, &key));
        if let Some(at) = hears {
            let text = format!(
                "{} removed {key}, which {} hears",
                self.name_of(client),
                self.name_of(at)
            );
            self.broken("nothing_live_is_removed", text);
        } else {
            self.counts
                .add("removed though live: nobody could hear it", 1);
        }
    }

    /// Whether a replica that nothing stands in the way of hears a connector.
    fn hears(&self, client: ClientId, key: &EndpointKey) -> bool {
        let Some(core) = &self.replicas[client].core else {
            return false;
        };
        let life = self.clients[client].life;
        let heard = self.truths.get(key).and_then(|truth| {
            let here = |heard: &&crate::simulation::truth::Heard| {
                heard.replica == client && heard.life == life
            };
            truth.heard.iter().rev().find(here)
        });
        self.clear_for(client, TAKES_OVER_WITHIN)
            && !self.replicas[client].stopping
            && self.replicas[client].knows.contains(key)
            && heard.is_some_and(|heard| self.now + MARGIN < heard.at + core.base_time(&key.node))
    }

    /// A Register that is answered as stored is stored (DESIGN.md, Register): when
    /// a replica reports that, the store has it, or somebody removed it since.
    /// What is stored does not depend on the replica's memory, so it survives a
    /// `kill -9` at any moment.
    pub fn reported_stored(&mut self, client: ClientId, key: &EndpointKey) {
        let life = self.clients[client].life;
        let Some(truth) = self.truths.get_mut(key) else {
            return;
        };
        let Some(registered) = truth
            .registered
            .take_if(|heard| heard.replica == client && heard.life == life)
        else {
            return;
        };
        let lives = truth.lives() && truth.withdrawn.is_empty();
        let removed = truth.removed.is_some_and(|at| at >= registered.at);
        self.counts
            .add("checked: registration reported as stored", 1);
        if lives && !removed && self.api.endpoint(key).is_none() {
            let text = format!("{} reported {key} as stored", self.name_of(client));
            self.broken("reported_stored", text);
        }
    }

    /// "`spec.static: true`: served, never collected" (DESIGN.md, In Kubernetes):
    /// nobody but people touches what is kept by hand.
    pub(super) fn static_is_untouched(&mut self, by: By, edit: &Edit) {
        if by != By::Hand && edit.before().is_some_and(|record| record.is_static) {
            self.broken("static_is_untouched", format!("{by:?} wrote {}", edit.key));
        }
    }
}
