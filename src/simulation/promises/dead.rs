//! Nothing dead stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lease::Timing;
use crate::record::EndpointRecord;
use crate::replicas::VALIDITY;
use crate::simulation::agenda::Time;
use crate::simulation::truth::{End, Truth};
use crate::simulation::world::World;

/// A controller asks for what is due once a second; after a gap a third of the
/// time must pass again, which is in the other bounds, since they begin when
/// nothing stands in the way any more. Some tries may conflict.
const COLLECTED_WITHIN: Duration = Duration::from_secs(30);
/// A holder looks every two seconds, and writes; so does a controller.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);
/// What waits for the store when it comes back is written after the queue's
/// longest pause.
const PAUSED: Duration = Duration::from_secs(10);
/// What the brake held back goes at ten a second.
const BRAKED_WITHIN: Duration = Duration::from_secs(30);
impl World {
    /// Notes when a controller was seen to brake.
    pub(super) fn watch_the_brake(&mut self) {
        let plans = self.controllers.iter().filter_map(|one| one.plan.as_ref());
        if plans.into_iter().any(|plan| plan.braked_for().is_some()) {
            self.rates.braked = Some(self.now);
            self.counts.add("seconds under the brake", 1);
        }
    }

    /// "Nothing stale stays" (DESIGN.md, Liveness): what has ended goes
    /// - in its base time, if a replica holds it that runs; 150 s after that one's
    ///   start at the earliest;
    /// - in 60 s when it is released;
    /// - in the validity of its holder's lease and the orphan time, if that one does
    ///   not run;
    /// - at once when its pod is gone, where a controller has seen the pod;
    ///
    /// each from the later of its end, the last call that was heard of it, and the
    /// moment from which nothing stands in anybody's way. The brake adds its wait.
    pub(super) fn dead_goes(&mut self) {
        let Some(calm) = self.calm_since() else {
            return;
        };
        let mut broken = None;
        let mut seen = BTreeSet::new();
        let mut overdue = BTreeMap::new();
        for record in self.api.endpoints().filter(|record| !record.is_static) {
            let key = &record.endpoint.key;
            let Some(truth) = self.truths.get(key) else {
                continue;
            };
            if let Some((ended, how)) = truth.ended {
                let (due, rule) = self.due(record, truth, ended, how, calm);
                seen.insert(rule);
                if self.now <= due {
                    continue;
                }
                let since = self.rates.overdue.get(key).copied().unwrap_or(self.now);
                overdue.insert(key.clone(), since);
                if self.now >= since + RELEASED_WITHIN {
                    broken = Some(format!(
                        "{key} ended at {ended:?} ({how:?}) and is still stored, though {rule}: {truth:?} {record:?}, calm since {calm:?}"
                    ));
                }
            }
        }
        // A base time may become shorter from one moment to the next.
        self.rates.overdue = overdue;
        for rule in seen {
            self.counts.add(rule, 1);
        }
        if let Some(text) = broken {
            self.broken("dead_goes", text);
        }
    }

    fn due(
        &self,
        record: &EndpointRecord,
        truth: &Truth,
        ended: Time,
        how: End,
        calm: Time,
    ) -> (Time, &'static str) {
        let quiet = calm.max(ended).max(truth.last_heard) + PAUSED;
        let braked = self
            .rates
            .braked
            .is_some_and(|at| at + BRAKED_WITHIN >= self.now);
        let brake = match braked {
            true => self.settings.brake_for + BRAKED_WITHIN,
            false => Duration::ZERO,
        };
        let pod = record.endpoint.pod;
        if how == End::PodGone && pod.is_some() && pod == truth.pod && self.settings.pods {
            // Whoever started later has never seen it.
            if calm + PAUSED < ended {
                return (quiet + COLLECTED_WITHIN, "checked: its pod is gone");
            }
        }
        let Some(holder) = &record.lease.holder else {
            let wait = record.lease.duration() + COLLECTED_WITHIN;
            return (
                quiet.max(truth.written) + wait + brake,
                "checked: it is released",
            );
        };
        if let Some(at) = self.replica_of(holder) {
            let timing = Timing::default();
            let base =
                |core: &crate::registry::core::Core| core.base_time(&record.endpoint.key.node);
            let bases = self
                .replicas
                .iter()
                .filter_map(|replica| replica.core.as_ref());
            let base = bases.map(base).max().unwrap_or(timing.base);
            // A process that was frozen adds the gap to every count.
            let now = self.now_of(at);
            let core = self.replicas[at].core.as_ref();
            let frozen = core.map_or(Duration::ZERO, |core| core.figures(now).frozen);
            let started = self.clients[at].started + frozen;
            // A holder that came back may never have heard of it.
            let due = quiet.max(started + timing.start_grace.max(base)) + base;
            return (due, "checked: its holder runs");
        }
        let died = self.rates.died.get(holder).copied().unwrap_or_default();
        let wait = VALIDITY + self.settings.orphan_for + COLLECTED_WITHIN;
        (
            quiet.max(died) + wait + brake,
            "checked: its holder does not run",
        )
    }
}
