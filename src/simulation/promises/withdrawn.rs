//! What was deregistered goes, and what is written here is seen here.

use std::time::Duration;

use crate::record::EndpointKey;
use crate::registry::{Caller, ConnectionId};
use crate::simulation::agenda::ClientId;
use crate::simulation::world::World;

/// The queue's longest pause, a conflict or two, and the way there.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);

impl World {
    /// A Deregister is kept until it is made (DESIGN.md, Register; gost-sd.md 3):
    /// the replica that heard it removes what was stored before, once nothing has
    /// stood in its way for [`WRITTEN_WITHIN`]. That what others bring back does
    /// not stay is checked with all that has ended.
    pub(super) fn withdrawn_goes(&mut self) {
        let mut broken = None;
        let mut checked = 0;
        for (key, truth) in &self.truths {
            let Some(heard) = truth.withdrawn.last() else {
                continue;
            };
            if !self.lives(heard.replica, heard.life) || self.now < heard.at + WRITTEN_WITHIN {
                continue;
            }
            if self.now == heard.at + WRITTEN_WITHIN {
                checked += 1;
            }
            if self.clear_for(heard.replica, WRITTEN_WITHIN)
                && truth.written < heard.at
                && truth.last_heard <= heard.at
                && self.api.endpoint(key).is_some()
            {
                broken = Some(format!("{key} was deregistered at {heard:?} and stays"));
            }
        }
        self.counts.add("checked: withdrawn", checked);
        if let Some(text) = broken {
            self.broken("withdrawn_goes", text);
        }
    }

    /// "Own writes visible to own Get at once" (issue 4): what was just registered
    /// at a replica is offered by it, and what was just deregistered is not.
    pub(super) fn own_writes_are_visible(
        &mut self,
        client: ClientId,
        key: &EndpointKey,
        there: bool,
    ) {
        let now = self.now_of(client);
        let gone = self
            .truths
            .get(key)
            .and_then(|truth| truth.pod)
            .is_some_and(|pod| !self.pods.is_there(pod));
        let Some(core) = &mut self.replicas[client].core else {
            return;
        };
        let Ok(told) = core.get(now, &stranger(), &key.tunnel) else {
            return;
        };
        let is_there = told.iter().any(|record| record.endpoint.key == *key);
        self.counts.add("checked: own write is visible", 1);
        if is_there != there && !(there && gone) {
            let text = format!(
                "{} offers {key}: {is_there}, after it was written there",
                self.name_of(client)
            );
            self.broken("own_writes_are_visible", text);
        }
    }
}

/// Somebody who asks from another host.
pub(super) fn stranger() -> Caller {
    Caller::new(ConnectionId(u64::MAX), [10, 200, 0, 1].into(), &[])
}
