//! Events for what a person would ask about, and never more than a person reads.
//!
//! They are told to one task over a bounded channel and made there one by one;
//! nothing waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::controller::election::lease;
use crate::controller::plan::Allowance;
use crate::kubernetes::{CALL_TIMEOUT, Failure};
use crate::resources::{ProxySession, TunnelEndpoint};

/// So many events may be made at once,
const BURST: f64 = 25.0;
/// and then so many a second. The rest is only counted.
const PER_SECOND: f64 = 1.0;
/// The longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1_024;
/// Who makes the events.
const REPORTER: &str = "tunnel-registry-controller";

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A TunnelEndpoint, by its name and uid.
    Endpoint(String, Option<Uuid>),
    /// A ProxySession, by its name and uid.
    Session(String, Option<Uuid>),
    /// The lease of a replica, by its name.
    Replica(String, Option<Uuid>),
    /// The controllers' own Lease.
    Controller,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub about: About,
    /// Why it is told, as one word.
    pub reason: &'static str,
    /// What was done, as one word.
    pub action: &'static str,
    /// Whether somebody should look.
    pub is_warning: bool,
    /// What a person reads.
    pub note: String,
}

/// How many events there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Made.
    pub written: u64,
    /// Too many at once.
    pub dropped: u64,
    /// Refused by the API server, or not answered.
    pub failed: u64,
}

/// Takes notices from everywhere.
#[derive(Debug)]
pub struct Notices {
    sender: mpsc::Sender<Notice>,
    allowance: Mutex<Allowance>,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Notices {
    /// The place to tell notices to, and where they come out.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(2 * BURST as usize);
        let notices = Self {
            sender,
            allowance: Mutex::new(Allowance::full(BURST)),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        (Arc::new(notices), receiver)
    }

    /// Tells a notice, unless there were too many of late.
    pub fn tell(&self, notice: Notice, now: Instant) {
        let allowed = {
            let mut allowance = self.allowance.lock();
            allowance.refill_up_to(BURST, PER_SECOND, now);
            allowance.take()
        };
        if !allowed || self.sender.try_send(notice).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// Makes events of the notices, until `stop`.
pub async fn run(
    notices: Arc<Notices>,
    mut receiver: mpsc::Receiver<Notice>,
    client: Client,
    namespace: String,
    identity: Arc<str>,
    stop: CancellationToken,
) {
    let reporter = Reporter {
        controller: REPORTER.into(),
        instance: Some(identity.to_string()),
    };
    let recorder = Recorder::new(client, reporter);
    let mut has_failed = false;
    while let Some(Some(notice)) = stop.run_until_cancelled(receiver.recv()).await {
        let about = reference(&notice.about, &namespace);
        let event = event(notice);
        let published = timeout(CALL_TIMEOUT, recorder.publish(&event, &about)).await;
        let failure = match published {
            Ok(Ok(())) => {
                notices.written.fetch_add(1, Ordering::Relaxed);
                has_failed = false;
                continue;
            }
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::late(CALL_TIMEOUT),
        };
        notices.failed.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut has_failed, true) {
            tracing::warn!("events are not written: {failure}");
        }
    }
    stop.cancelled().await;
}

fn event(notice: Notice) -> Event {
    let mut note = notice.note;
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    Event {
        type_: match notice.is_warning {
            true => EventType::Warning,
            false => EventType::Normal,
        },
        reason: notice.reason.into(),
        note: Some(note),
        action: notice.action.into(),
        secondary: None,
    }
}

fn reference(about: &About, namespace: &str) -> ObjectReference {
    let (mut reference, name, uid) = match about {
        About::Endpoint(name, uid) => (of_kind::<TunnelEndpoint>(), name.as_str(), *uid),
        About::Session(name, uid) => (of_kind::<ProxySession>(), name.as_str(), *uid),
        About::Replica(name, uid) => (of_kind::<Lease>(), name.as_str(), *uid),
        About::Controller => (of_kind::<Lease>(), lease::NAME, None),
    };
    reference.name = Some(name.to_owned());
    reference.uid = uid.map(|uid| uid.to_string());
    reference.namespace = Some(namespace.to_owned());
    reference
}

fn of_kind<K: Resource<DynamicType = ()>>() -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::Now;

    fn notice(note: &str) -> Notice {
        Notice {
            about: About::Endpoint("a".into(), Some(Uuid::from_u128(1))),
            reason: "Silent",
            action: "Collect",
            is_warning: false,
            note: note.into(),
        }
    }

    #[tokio::test]
    async fn a_burst_is_told_and_the_rest_is_counted() {
        let (notices, mut receiver) = Notices::new();
        let now = Now::read().mono;
        for _ in 0..100 {
            notices.tell(notice("gone"), now);
        }
        assert_eq!(receiver.len(), 25);
        assert_eq!(notices.tally().dropped, 75);
        for second in 1..=10 {
            notices.tell(notice("gone"), now + Duration::from_secs(second));
            notices.tell(notice("gone"), now + Duration::from_secs(second));
        }
        assert_eq!(receiver.len(), 35);
        assert_eq!(notices.tally().dropped, 85);
        assert_eq!(receiver.recv().await, Some(notice("gone")));
    }

    #[tokio::test]
    async fn nothing_waits_while_nobody_takes_them() {
        let (notices, receiver) = Notices::new();
        let now = Now::read().mono;
        for second in 0..1_000 {
            notices.tell(notice("gone"), now + Duration::from_secs(second));
        }
        assert_eq!(receiver.len(), receiver.max_capacity());
        assert_eq!(notices.tally().dropped, 1_000 - 50);
    }

    #[test]
    fn an_event_names_its_object_and_is_not_too_long() {
        let about = reference(&notice("").about, "tunnels");
        let api = about.api_version.as_deref();
        assert_eq!(api, Some("tunnelregistry.io/v1alpha1"));
        assert_eq!(about.kind.as_deref(), Some("TunnelEndpoint"));
        assert_eq!(about.namespace.as_deref(), Some("tunnels"));
        assert!(about.uid.is_some());
        let event = event(notice(&"ä".repeat(1_000)));
        assert_eq!(event.note.unwrap().len(), MAX_NOTE);
        let own = reference(&About::Controller, "tunnels");
        assert_eq!(own.name.as_deref(), Some(lease::NAME));
    }
}
