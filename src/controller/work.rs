//! The tasks of a controller of a cluster: what they know together, and what each
//! tells and asks the API server. [`ClusterPlan`] decides.
//!
//! A controller that does not lead watches and counts all the same, so that it
//! can go on at once when it must.

mod collect;
mod statuses;
mod watching;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::Api;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::controller::election::Election;
use crate::controller::notices::{About, Notice, Notices, Tally};
use crate::controller::objects::Objects;
use crate::controller::plan::cluster::ClusterPlan;
use crate::controller::plan::{Pace, Reason};
use crate::controller::status::StatusQueue;
use crate::kubernetes::pods::{Cell, Watched};
use crate::resources::TunnelEndpoint;
use crate::time::Now;

/// How a controller is set up.
#[derive(Debug)]
pub struct Setup {
    /// The namespace of the TunnelEndpoints.
    pub namespace: String,
    /// How long an orphan waits.
    pub orphan_for: Duration,
    /// Whether it only tells what it would do.
    pub dry_run: bool,
}

/// A controller: what its tasks share.
pub struct Work {
    client: Client,
    setup: Setup,
    state: Mutex<State>,
    election: Arc<Mutex<Election>>,
    pods: Cell,
    notices: Arc<Notices>,
    counts: Counts,
    /// Something may be due before the next tick.
    wake: Notify,
}

struct State {
    plan: ClusterPlan,
    objects: Objects,
    statuses: StatusQueue,
    /// When the watch of endpoints last gave a sign.
    heard: Option<Instant>,
    /// Why the endpoints were not read yet; none when they were.
    unread: Option<String>,
    /// Why the replicas' leases could not be read the last time.
    leases_unread: Option<String>,
}

#[derive(Debug, Default)]
struct Counts {
    deleted: [AtomicU64; Reason::ALL.len()],
    deletes_failed: AtomicU64,
    statuses: AtomicU64,
    statuses_failed: AtomicU64,
    leases_deleted: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a controller knows and has done.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Whether it acts.
    pub leads: bool,
    /// Endpoints that are there.
    pub endpoints: usize,
    /// Nodes that are not kept by hand.
    pub nodes: usize,
    /// Replicas that live.
    pub replicas: usize,
    /// Objects that are not served.
    pub problems: usize,
    /// Endpoints that wait, by [`Reason::ALL`].
    pub waiting: [usize; Reason::ALL.len()],
    /// Endpoints that were deleted, by [`Reason::ALL`].
    pub deleted: [u64; Reason::ALL.len()],
    /// Deletes that could not be made.
    pub deletes_failed: u64,
    /// For how long collecting has been braked.
    pub braked: Duration,
    /// Endpoints whose status may have to change.
    pub status_queue: usize,
    /// Statuses that were written.
    pub statuses: u64,
    /// Statuses that could not be written.
    pub statuses_failed: u64,
    /// Leases of replicas that were deleted.
    pub leases_deleted: u64,
    /// What became of events.
    pub events: Tally,
    /// Whether pods are watched.
    pub pods_watched: bool,
    /// How long ago the watch of endpoints gave a sign.
    pub cache_age: Option<Duration>,
    /// How long ago the replicas' leases were read.
    pub contact_age: Option<Duration>,
}

impl Work {
    /// A controller that has not begun. `pods` tells how its watch of pods is.
    #[must_use]
    pub fn new(
        client: Client,
        setup: Setup,
        election: Arc<Mutex<Election>>,
        pods: Cell,
        notices: Arc<Notices>,
    ) -> Arc<Self> {
        let now = Now::read().mono;
        let state = State {
            plan: ClusterPlan::new(Pace::cluster(), setup.orphan_for, now),
            objects: Objects::default(),
            statuses: StatusQueue::default(),
            heard: None,
            unread: Some("the TunnelEndpoints have not been listed yet".into()),
            leases_unread: Some("the leases of replicas have not been listed yet".into()),
        };
        Arc::new(Self {
            client,
            setup,
            state: Mutex::new(state),
            election,
            pods,
            notices,
            counts: Counts::default(),
            wake: Notify::new(),
        })
    }

    /// Whether it has read what it needs; an error says what it waits for.
    ///
    /// # Errors
    /// With what it waits for.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state.lock();
        let unread = state.unread.as_ref().or(state.leases_unread.as_ref());
        let never = state.unread.is_some() || state.plan.last_contact().is_none();
        match unread {
            Some(why) if never => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// What it knows and has done.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let now = Now::read().mono;
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let leads = self.leads(now);
        let state = self.state.lock();
        Figures {
            leads,
            endpoints: state.plan.len(),
            nodes: state.plan.nodes(),
            replicas: state.plan.living_replicas(),
            problems: state.objects.problems().len(),
            waiting: state.plan.waiting(),
            deleted: [0, 1, 2, 3].map(|reason: usize| read(&counts.deleted[reason])),
            deletes_failed: read(&counts.deletes_failed),
            braked: state.plan.braked_for().unwrap_or_default(),
            status_queue: state.statuses.len(),
            statuses: read(&counts.statuses),
            statuses_failed: read(&counts.statuses_failed),
            leases_deleted: read(&counts.leases_deleted),
            events: self.notices.tally(),
            pods_watched: self.pods.get() == Watched::Yes,
            cache_age: age(state.heard),
            contact_age: age(state.plan.last_contact()),
        }
    }

    fn endpoints(&self) -> Api<TunnelEndpoint> {
        Api::namespaced(self.client.clone(), &self.setup.namespace)
    }

    fn leads(&self, now: Instant) -> bool {
        self.election.lock().is_leader(now)
    }

    /// Whether it may write.
    fn acts(&self) -> bool {
        !self.setup.dry_run && self.leads(Now::read().mono)
    }

    /// Tells a person, if this is the one that acts.
    fn tell(&self, notice: Notice) {
        if self.acts() {
            self.notices.tell(notice, Now::read().mono);
        }
    }

    /// The election told who leads.
    pub fn turned(&self, leads: bool, holder: &str) {
        if leads {
            // What the one before has not written or told.
            self.look_at_all();
            self.tell(Notice {
                about: About::Controller,
                reason: "LeaderElection",
                action: "Lead",
                is_warning: false,
                note: format!("{holder} became leader"),
            });
            let problems = self.state.lock().objects.problems();
            for problem in problems {
                self.tell_problem(problem);
            }
            tracing::info!("leads: it collects, and writes statuses");
        } else {
            self.state.lock().statuses.clear();
            tracing::info!(leader = holder, "does not lead: it watches and counts only");
        }
    }

    /// Any endpoint's status may have to change.
    fn look_at_all(&self) {
        let now = Now::read().mono;
        let mut state = self.state.lock();
        let State {
            objects, statuses, ..
        } = &mut *state;
        for key in objects.keys() {
            statuses.push(key.clone(), now);
        }
    }
}
