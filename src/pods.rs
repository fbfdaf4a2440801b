//! What is known of the pods that gosts run in: which one has an address, and
//! which are going or gone.
//!
//! Watching pods is optional. Of a pod that was never seen nothing is known, and
//! leases decide.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::map::{Map, Set};
use crate::remembered::Remembered;

/// How long a pod that has gone is remembered: longer than anything that it left
/// behind stays.
const GONE_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// At most so many pods that have gone are remembered; the oldest goes first.
const MAX_GONE: usize = 50_000;

/// A pod, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its uid.
    pub uid: Uuid,
    /// The addresses that it has for itself. None of a pod on its host's network:
    /// others share those; none of one that has finished: others may have them now.
    pub ips: Vec<IpAddr>,
    /// Whether it was asked to end.
    pub terminating: bool,
}

/// What a watch of pods tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// All pods there are.
    Reset(Vec<Pod>),
    /// A pod was made or has changed.
    Put(Pod),
    /// A pod is gone.
    Gone(Uuid),
}

/// How a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It was never seen.
    Unknown,
    /// It is there.
    Running,
    /// It was asked to end.
    Terminating,
    /// It was there and is no more.
    Gone,
}

/// The pods that were seen.
#[derive(Debug)]
pub struct Pods {
    pods: Map<Uuid, Pod>,
    addresses: Map<IpAddr, Vec<Uuid>>,
    gone: Remembered<Uuid, ()>,
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            pods: Map::default(),
            addresses: Map::default(),
            gone: Remembered::new(GONE_FOR, MAX_GONE),
        }
    }
}

impl Pods {
    /// A watch told a change. Returns the pods that went by it.
    pub fn apply(&mut self, change: PodChange, now: Instant) -> Vec<Uuid> {
        match change {
            PodChange::Reset(all) => {
                let there: Set<Uuid> = all.iter().map(|pod| pod.uid).collect();
                let mut gone: Vec<Uuid> = self.pods.keys().copied().collect();
                gone.retain(|uid| !there.contains(uid));
                gone.iter().for_each(|uid| self.remove(*uid, now));
                all.into_iter().for_each(|pod| self.put(pod));
                gone
            }
            PodChange::Put(pod) => {
                self.put(pod);
                Vec::new()
            }
            PodChange::Gone(uid) => {
                self.remove(uid, now);
                vec![uid]
            }
        }
    }

    fn put(&mut self, pod: Pod) {
        self.forget_addresses(pod.uid);
        for ip in &pod.ips {
            self.addresses.entry(*ip).or_default().push(pod.uid);
        }
        self.pods.insert(pod.uid, pod);
    }

    fn remove(&mut self, uid: Uuid, now: Instant) {
        self.forget_addresses(uid);
        self.pods.remove(&uid);
        self.gone.insert(uid, (), now);
    }

    fn forget_addresses(&mut self, uid: Uuid) {
        let Some(pod) = self.pods.get(&uid) else {
            return;
        };
        for ip in &pod.ips {
            if let Some(there) = self.addresses.get_mut(ip) {
                there.retain(|other| *other != uid);
                if there.is_empty() {
                    self.addresses.remove(ip);
                }
            }
        }
    }

    /// How the pod is.
    #[must_use]
    pub fn state(&self, uid: &Uuid, now: Instant) -> PodState {
        match self.pods.get(uid) {
            Some(pod) if pod.terminating => PodState::Terminating,
            Some(_) => PodState::Running,
            None if self.gone.get(uid, now).is_some() => PodState::Gone,
            None => PodState::Unknown,
        }
    }

    /// The one pod that has this address. One that was asked to end may be gone
    /// already, and its address another's.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Option<Uuid> {
        match self.addresses.get(&ip).map(Vec::as_slice) {
            Some([only]) => Some(*only).filter(|uid| !self.pods[uid].terminating),
            _ => None,
        }
    }

    /// How many pods are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no pod is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    fn pod(uid: u128, ip: u8) -> Pod {
        Pod {
            uid: Uuid::from_u128(uid),
            ips: vec![[10, 0, 0, ip].into()],
            terminating: false,
        }
    }

    fn at(pods: &Pods, ip: u8) -> Option<u128> {
        pods.at([10, 0, 0, ip].into()).map(|uid| uid.as_u128())
    }

    #[test]
    fn a_pod_is_found_by_an_address_that_it_alone_has() {
        let now = Now::read().mono;
        let mut pods = Pods::default();
        pods.apply(PodChange::Put(pod(1, 1)), now);
        pods.apply(PodChange::Put(pod(2, 2)), now);
        assert_eq!(
            (at(&pods, 1), at(&pods, 2), at(&pods, 3)),
            (Some(1), Some(2), None)
        );
        pods.apply(PodChange::Put(pod(3, 1)), now);
        assert_eq!(at(&pods, 1), None, "whose is it?");
        pods.apply(PodChange::Gone(Uuid::from_u128(1)), now);
        assert_eq!(at(&pods, 1), Some(3));
        pods.apply(PodChange::Put(pod(3, 4)), now);
        assert_eq!((at(&pods, 1), at(&pods, 4)), (None, Some(3)));
    }

    #[test]
    fn pods_go_through_their_states() {
        let now = Now::read().mono;
        let mut pods = Pods::default();
        let uid = Uuid::from_u128(1);
        assert_eq!(pods.state(&uid, now), PodState::Unknown);
        pods.apply(PodChange::Put(pod(1, 1)), now);
        assert_eq!(pods.state(&uid, now), PodState::Running);
        let terminating = Pod {
            terminating: true,
            ..pod(1, 1)
        };
        pods.apply(PodChange::Put(terminating), now);
        assert_eq!(pods.state(&uid, now), PodState::Terminating);
        assert_eq!(pods.apply(PodChange::Gone(uid), now), [uid]);
        assert_eq!(pods.state(&uid, now), PodState::Gone);
        assert_eq!(pods.state(&uid, now + GONE_FOR), PodState::Unknown);
    }

    #[test]
    fn a_reset_tells_who_has_gone() {
        let now = Now::read().mono;
        let mut pods = Pods::default();
        pods.apply(PodChange::Reset(vec![pod(1, 1), pod(2, 2)]), now);
        let gone = pods.apply(PodChange::Reset(vec![pod(2, 2)]), now);
        assert_eq!(gone, [Uuid::from_u128(1)]);
        assert_eq!(pods.len(), 1);
    }
}
