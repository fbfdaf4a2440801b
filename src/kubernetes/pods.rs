//! The pods that gosts run in, as far as they matter.
//!
//! Whoever may watch them need not wait for leases to run out. Whoever may not is
//! told so once, and asks again from time to time: a Role may be bound later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use k8s_openapi::api::core::v1;
use kube::api::{Api, ApiResource, Object};
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::time::sleep;

use crate::causes::Causes;
use crate::kubernetes::watch::{Broken, Told, watch as watch_objects};
use crate::pods::{Pod, PodChange};
use crate::time::Now;

/// How long it takes until a watch that was forbidden is tried again.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(180);

/// Whose pods are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of a namespace.
    Namespace(String),
    /// All of the cluster.
    All,
}

/// How the watch of pods is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Watched {
    /// Nobody asked for it.
    Off,
    /// It has not told everything yet, or broke.
    NotYet,
    /// It tells what happens.
    Yes,
    /// This account may not watch pods.
    Forbidden,
}

/// Tells how a watch of pods is, to whoever asks.
#[derive(Clone, Debug)]
pub struct Cell(Arc<AtomicU8>);

impl Cell {
    /// There is no watch.
    #[must_use]
    pub fn off() -> Self {
        Self(Arc::new(AtomicU8::new(Watched::Off as u8)))
    }

    /// How the watch is now.
    #[must_use]
    pub fn get(&self) -> Watched {
        let value = self.0.load(Ordering::Relaxed);
        let all = [Watched::NotYet, Watched::Yes, Watched::Forbidden];
        let known = all.into_iter().find(|watched| *watched as u8 == value);
        known.unwrap_or(Watched::Off)
    }

    /// Returns how it was before.
    fn set(&self, watched: Watched) -> Watched {
        let before = self.get();
        self.0.store(watched as u8, Ordering::Relaxed);
        before
    }
}

/// What is read of a pod's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
}

/// What is read of a pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default, rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Clone, Debug, Deserialize)]
struct PodIp {
    #[serde(default)]
    ip: String,
}

type Raw = Object<Spec, Status>;

/// The pods of `scope` and what becomes of them, without end. What it needs is
/// to list and watch them.
pub fn watch(client: Client, scope: Scope) -> (impl Stream<Item = PodChange> + Send + Unpin, Cell) {
    let resource = ApiResource::erase::<v1::Pod>(&());
    let api = match scope {
        Scope::Namespace(namespace) => Api::namespaced_with(client, &namespace, &resource),
        Scope::All => Api::all_with(client, &resource),
    };
    let cell = Cell::off();
    cell.set(Watched::NotYet);
    let watch = Watch {
        told: watch_objects(api).boxed(),
        listing: None,
        cell: cell.clone(),
        causes: Causes::new(),
    };
    let changes = stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await?;
        Some((change, watch))
    });
    (changes.boxed(), cell)
}

struct Watch {
    told: BoxStream<'static, Result<Told<Raw>, Broken>>,
    /// What was listed so far, while that lasts.
    listing: Option<Vec<Pod>>,
    cell: Cell,
    causes: Causes,
}

impl Watch {
    async fn next(&mut self) -> Option<PodChange> {
        loop {
            match self.told.next().await? {
                Ok(told) => {
                    if let Some(change) = self.tell(told) {
                        return Some(change);
                    }
                }
                Err(broken) => {
                    if let Some(pause) = self.broke(&broken) {
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    fn tell(&mut self, told: Told<Raw>) -> Option<PodChange> {
        if self.listing.is_none() && !matches!(told, Told::Begin) {
            self.cell.set(Watched::Yes);
            self.causes.mended();
        }
        match told {
            Told::Begin => self.listing = Some(Vec::new()),
            Told::Put(raw) => {
                let pod = read(&raw)?;
                match &mut self.listing {
                    Some(pods) => pods.push(pod),
                    None => return Some(PodChange::Put(pod)),
                }
            }
            Told::Listed => {
                self.cell.set(Watched::Yes);
                return self.listing.take().map(PodChange::Reset);
            }
            Told::Gone(raw) => return Some(PodChange::Gone(read(&raw)?.uid)),
            Told::Sign => {}
        }
        None
    }

    /// Returns how long to wait beyond what the watch itself waits.
    fn broke(&mut self, broken: &Broken) -> Option<Duration> {
        if broken.is_forbidden {
            if self.cell.set(Watched::Forbidden) != Watched::Forbidden {
                tracing::warn!(
                    "pods may not be watched, so leases alone decide when endpoints go: {broken}, or set --watch-pods off"
                );
            }
            // Three quarters to five quarters, as all pauses.
            return Some(FORBIDDEN_PAUSE.mul_f64(0.75 + fastrand::f64() / 2.0));
        }
        self.cell.set(Watched::NotYet);
        if self.causes.is_news(&broken.to_string(), Now::read().mono) {
            tracing::warn!(again_in = ?broken.again_in, "the watch of pods broke: {broken}");
        }
        None
    }
}

/// What matters of a pod; nothing of one without a uid.
fn read(raw: &Raw) -> Option<Pod> {
    let meta = raw.meta();
    let status = raw.status.as_ref();
    let ended = status.is_some_and(|status| ["Succeeded", "Failed"].contains(&&*status.phase));
    let ips = status
        .into_iter()
        .filter(|_| !raw.spec.host_network && !ended)
        .flat_map(|status| status.pod_ips.iter().flatten())
        .filter_map(|ip| ip.ip.parse().ok())
        .collect();
    Some(Pod {
        uid: meta.uid.as_deref()?.parse().ok()?,
        ips,
        terminating: meta.deletion_timestamp.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::kubernetes::Failure;

    const UID: &str = "8f14e45f-ceea-467f-a0e6-d1cb2a1c5f3b";

    fn raw(change: impl FnOnce(&mut Value)) -> Raw {
        let mut pod = json!({
            "metadata": { "name": "gost-0", "uid": UID },
            "spec": { "containers": [] },
            "status": { "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn watch(told: Vec<Result<Told<Raw>, Broken>>) -> Watch {
        let cell = Cell::off();
        cell.set(Watched::NotYet);
        Watch {
            told: stream::iter(told).boxed(),
            listing: None,
            cell,
            causes: Causes::new(),
        }
    }

    fn broken(is_forbidden: bool) -> Broken {
        Broken {
            failure: Failure::Unavailable("away".into()),
            again_in: Duration::ZERO,
            is_forbidden,
            is_unknown: false,
        }
    }

    #[test]
    fn a_pod_has_the_addresses_that_are_its_own() {
        let pod = read(&raw(|_| ())).unwrap();
        assert_eq!(pod.uid.to_string(), UID);
        assert_eq!(pod.ips.len(), 2);
        assert!(!pod.terminating);
        for change in [
            json!({ "spec": { "hostNetwork": true } }),
            json!({ "status": { "phase": "Succeeded" } }),
            json!({ "status": { "phase": "Failed" } }),
            json!({ "status": { "podIPs": [] } }),
            json!({ "status": { "podIPs": [{}, { "ip": "none" }] } }),
            json!({ "status": { "podIPs": null } }),
        ] {
            let merged = raw(|pod| merge(pod, &change));
            assert!(read(&merged).unwrap().ips.is_empty(), "{change}");
        }
        let going = raw(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-07-01T12:00:00Z"));
        assert!(read(&going).unwrap().terminating);
        assert_eq!(read(&raw(|pod| pod["metadata"]["uid"] = json!("x"))), None);
    }

    fn merge(into: &mut Value, change: &Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (key, value) in change {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, change) => *into = change.clone(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_told_at_once_and_changes_one_by_one() {
        let mut watch = watch(vec![
            Ok(Told::Begin),
            Ok(Told::Put(raw(|_| ()))),
            Ok(Told::Listed),
            Ok(Told::Sign),
            Ok(Told::Put(raw(|_| ()))),
            Ok(Told::Gone(raw(|_| ()))),
        ]);
        let pod = read(&raw(|_| ())).unwrap();
        assert_eq!(
            watch.next().await,
            Some(PodChange::Reset(vec![pod.clone()]))
        );
        assert_eq!(watch.cell.get(), Watched::Yes);
        assert_eq!(watch.next().await, Some(PodChange::Put(pod)));
        let gone = Uuid::parse_str(UID).unwrap();
        assert_eq!(watch.next().await, Some(PodChange::Gone(gone)));
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forbidden_is_tried_again_after_minutes() {
        let mut watch = watch(vec![Err(broken(true)), Ok(Told::Begin), Ok(Told::Listed)]);
        let cell = watch.cell.clone();
        let wait = FORBIDDEN_PAUSE.mul_f64(0.74);
        assert!(tokio::time::timeout(wait, watch.next()).await.is_err());
        assert_eq!(cell.get(), Watched::Forbidden);
        assert_eq!(watch.next().await, Some(PodChange::Reset(Vec::new())));
        assert_eq!(cell.get(), Watched::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_breaks_goes_on_soon() {
        let mut watch = watch(vec![
            Ok(Told::Begin),
            Ok(Told::Listed),
            Err(broken(false)),
            Ok(Told::Put(raw(|_| ()))),
        ]);
        watch.next().await;
        let second = Duration::from_secs(1);
        let change = tokio::time::timeout(second, watch.next()).await.unwrap();
        assert!(matches!(change, Some(PodChange::Put(_))));
        assert_eq!(watch.cell.get(), Watched::Yes);
    }
}
