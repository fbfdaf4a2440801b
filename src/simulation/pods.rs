//! Pods: which there are, and what watches of them tell.

use std::net::IpAddr;

use uuid::Uuid;

use crate::backend::Write;
use crate::pods::{Pod, PodChange};
use crate::record::{EndpointKey, Key};
use crate::simulation::agenda::{ClientId, Event, Time};
use crate::simulation::client::{Fault, Process};
use crate::simulation::network::told_write;
use crate::simulation::promises::By;
use crate::simulation::truth::End;
use crate::simulation::world::World;

/// Kubernetes collects what a gone pod owned so often.
const GARBAGE: Time = Time::from_secs(10);
/// What runs in a pod may go on for so many milliseconds when its object is gone.
const UNSEEN: u64 = 60_000;
/// A watch of pods tells within so many milliseconds.
const TOLD_WITHIN: u64 = 500;

/// Every change of pods.
#[derive(Debug, Default)]
pub struct PodLog {
    changes: Vec<PodChange>,
    there: Vec<Pod>,
    made: u128,
}

impl PodLog {
    /// Whether a pod's object is there.
    pub fn is_there(&self, uid: Uuid) -> bool {
        self.there.iter().any(|pod| pod.uid == uid)
    }
}

impl World {
    /// A pod is made at an address; one on its host's network has none.
    pub fn make_pod(&mut self, ip: Option<IpAddr>) -> Uuid {
        self.pods.made += 1;
        let pod = Pod {
            uid: Uuid::from_u128(self.pods.made),
            ips: ip.into_iter().collect(),
            terminating: false,
        };
        let uid = pod.uid;
        self.pods.there.push(pod.clone());
        self.pods_changed(PodChange::Put(pod));
        uid
    }

    /// A pod is asked to end.
    pub fn terminate_pod(&mut self, uid: Uuid) {
        if let Some(pod) = self.pods.there.iter_mut().find(|pod| pod.uid == uid) {
            pod.terminating = true;
            let pod = pod.clone();
            self.pods_changed(PodChange::Put(pod));
        }
    }

    /// A pod's object is removed.
    pub fn pod_gone(&mut self, uid: Uuid) {
        if !self.pods.is_there(uid) {
            return;
        }
        self.note(|_| format!("pod {uid} is gone"));
        self.counts.add("pod gone", 1);
        self.pods.there.retain(|pod| pod.uid != uid);
        self.pods_changed(PodChange::Gone(uid));
        let killed = self.soon(UNSEEN);
        self.agenda.put(killed, Event::PodKilled(uid));
        for truth in self.truths.values_mut() {
            if truth.pod == Some(uid) {
                truth.end(self.now, End::PodGone);
            }
        }
    }

    fn pods_changed(&mut self, change: PodChange) {
        self.pods.changes.push(change);
        for client in 0..self.clients.len() {
            self.pods_want_telling(client);
        }
    }

    /// The watch of pods of a client will tell what there is to tell.
    pub fn pods_want_telling(&mut self, client: ClientId) {
        let length = self.pods.changes.len();
        let state = &self.clients[client];
        let wants = self.settings.pods
            && !state.telling_pods
            && state.process != Process::Down
            && state.pods < length
            && !state.has(Fault::PodsStuck)
            && !state.has(Fault::Cut);
        if wants {
            let life = state.life;
            self.clients[client].telling_pods = true;
            let at = self.soon(TOLD_WITHIN);
            self.agenda.put(at, Event::TellPods(client, life));
        }
    }

    /// The watch of pods tells a client everything at first, then each change.
    pub fn tell_pods(&mut self, client: ClientId) {
        self.clients[client].telling_pods = false;
        let (stuck, position) = {
            let state = &self.clients[client];
            (
                state.has(Fault::PodsStuck) || state.has(Fault::Cut),
                state.pods,
            )
        };
        if stuck || self.api.hangs > 0 {
            return;
        }
        let change = match position {
            0 => {
                self.clients[client].pods = self.pods.changes.len();
                Some(PodChange::Reset(self.pods.there.clone()))
            }
            at => {
                self.clients[client].pods += 1;
                self.pods.changes.get(at).cloned()
            }
        };
        let now = self.now_of(client);
        self.note(|world| format!("{} is told of pods: {change:?}", world.name_of(client)));
        if let Some(change) = change {
            if self.is_replica(client) {
                if let Some(core) = &mut self.replicas[client].core {
                    core.apply_pods(now, change);
                }
                self.pump(client);
            } else {
                let at = client - self.replicas.len();
                if let Some(plan) = &mut self.controllers[at].plan {
                    plan.pods(change, now.mono);
                }
            }
        }
        self.pods_want_telling(client);
    }

    /// Kubernetes deletes what sidecars made whose pods are gone: those own it.
    pub fn collect_garbage(&mut self) {
        let owned: Vec<EndpointKey> = self
            .api
            .endpoints()
            .filter(|record| {
                let truth = self.truths.get(&record.endpoint.key);
                truth
                    .and_then(|truth| truth.owner)
                    .is_some_and(|owner| !self.pods.is_there(owner))
            })
            .map(|record| record.endpoint.key.clone())
            .collect();
        for key in owned {
            let key = Key::Endpoint(key);
            if let Some(stored) = self.api.get(&key) {
                let write = Write::Delete(key, stored.revision);
                self.counts.add("collected by Kubernetes with its pod", 1);
                self.make_directly(By::Garbage, write);
            }
        }
        self.agenda.put(self.now + GARBAGE, Event::Garbage);
    }

    /// Somebody writes who is none of ours.
    pub fn make_directly(&mut self, by: By, write: Write) {
        self.note(|_| format!("{by:?} writes: {}", told_write(&write)));
        if let Ok(Some(edit)) = self.api.write(write) {
            self.made(by, edit);
        }
    }
}
