//! The tasks that keep the objects of proxy sessions: HTTPRoutes, Services and
//! EndpointSlices. [`crate::controller::plan::routes`] decides what there should
//! be, [`made`] what is to be done for it.
//!
//! A controller that does not lead hears of everything all the same, and writes
//! and looks up nothing.

mod apply;
mod hear;
pub mod hosts;
pub mod made;
mod resolve;
mod statuses;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::controller::election::Election;
use crate::controller::notices::{Notice, Notices};
use crate::controller::plan::Allowance;
use crate::controller::plan::routes::words::{Api as GatewayApi, ROUTES_ACCEPTED};
use crate::controller::plan::routes::{self, Kind, Plan, Session, Settings};
use crate::resources::ProxySession;
use crate::resources::gateway::HttpRoute;
use crate::time::Now;

use hosts::Hosts;
use made::Made;

/// Who writes, as `managedFields` tells it.
const MANAGER: &str = "tunnel-registry-controller";

/// How the part of a controller that is for sessions is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The namespace of the ProxySessions, and of all that is made for them.
    pub namespace: String,
    /// How sessions become objects.
    pub settings: Settings,
    /// Whether it writes nothing.
    pub dry_run: bool,
}

/// What its tasks share.
pub struct Sessions {
    client: Client,
    setup: Setup,
    state: Mutex<State>,
    election: Arc<Mutex<Election>>,
    notices: Arc<Notices>,
    counts: Counts,
    /// Something changed that objects may follow from.
    changed: Notify,
    /// Hosts may have to be looked up.
    wanted: Notify,
}

/// A session's object, as far as it must be known.
#[derive(Debug)]
struct Object {
    session: Session,
    generation: i64,
    conditions: Vec<Condition>,
    /// Since when its status has not said what it should.
    differs: Option<Instant>,
    epoch: u32,
}

impl Object {
    /// Whether its status says that a Gateway does not take its routes.
    fn is_refused(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.any(|one| one.type_ == ROUTES_ACCEPTED && one.status == "False")
    }
}

#[derive(Debug, Default)]
struct State {
    /// By their names.
    objects: BTreeMap<String, Object>,
    /// Objects that cannot be read, with why, by their names.
    malformed: BTreeMap<String, String>,
    is_listed: bool,
    /// Why they could not be listed the last time.
    unread: Option<String>,
    epoch: u32,
    made: Made,
    hosts: Hosts,
    plan: Arc<Plan>,
    /// Whether the plan may be another one now.
    is_stale: bool,
    /// Whether statuses may be others now.
    is_said: bool,
    routes: GatewayApi,
    /// The kind that this account was not allowed to write the last time.
    forbidden: Option<Kind>,
    writes: Allowance,
    statuses: Allowance,
}

#[derive(Debug, Default)]
struct Counts {
    applied: AtomicU64,
    deleted: AtomicU64,
    failed: AtomicU64,
    statuses: AtomicU64,
    statuses_failed: AtomicU64,
    lookups_failed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What it knows and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Sessions that are there.
    pub sessions: usize,
    /// Objects of sessions that cannot be read.
    pub malformed: usize,
    /// Objects that there should be, by [`Kind::ALL`].
    pub wanted: [usize; Kind::ALL.len()],
    /// Objects that there are, by [`Kind::ALL`].
    pub made: [usize; Kind::ALL.len()],
    /// Whether the Gateway API can be used, and there is a Gateway.
    pub gateway_api: bool,
    /// Sessions whose `HTTPRoute`s a Gateway does not take, by their statuses.
    pub refused: usize,
    /// Hosts of backends that have no address.
    pub unresolved: usize,
    /// Objects that were written.
    pub applied: u64,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Objects that could not be written or deleted.
    pub failed: u64,
    /// Statuses that were written.
    pub statuses: u64,
    /// Statuses that could not be written.
    pub statuses_failed: u64,
    /// Lookups that found no address.
    pub lookups_failed: u64,
}

impl Sessions {
    /// One that has not begun.
    #[must_use]
    pub fn new(
        client: Client,
        setup: Setup,
        election: Arc<Mutex<Election>>,
        notices: Arc<Notices>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            setup,
            state: Mutex::new(State::default()),
            election,
            notices,
            counts: Counts::default(),
            changed: Notify::new(),
            wanted: Notify::new(),
        })
    }

    /// Why the sessions were not read yet; none when they were. It holds up
    /// nothing else.
    #[must_use]
    pub fn unread(&self) -> Option<String> {
        let state = self.state.lock();
        let unread = state.unread.as_deref();
        let unread = unread.unwrap_or("the ProxySessions have not been listed yet");
        (!state.is_listed).then(|| unread.to_owned())
    }

    /// What it knows and has done.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let state = self.state.lock();
        let wanted = |kind| {
            state
                .plan
                .wanted
                .keys()
                .filter(|id| id.kind == kind)
                .count()
        };
        let gateway_api = self.gateway_api(&state) == GatewayApi::Ready;
        // What statuses say while the API cannot be used is no Gateway's word.
        let objects = state.objects.values().filter(|_| gateway_api);
        let refused = objects.filter(|object| object.is_refused()).count();
        Figures {
            sessions: state.objects.len(),
            malformed: state.malformed.len(),
            wanted: Kind::ALL.map(wanted),
            made: Kind::ALL.map(|kind| state.made.count(kind)),
            gateway_api,
            refused,
            unresolved: state.hosts.unknown(),
            applied: read(&counts.applied),
            deleted: read(&counts.deleted),
            failed: read(&counts.failed),
            statuses: read(&counts.statuses),
            statuses_failed: read(&counts.statuses_failed),
            lookups_failed: read(&counts.lookups_failed),
        }
    }

    /// The election told who leads: what the one before has not done is due.
    pub fn turned(&self) {
        self.state.lock().is_said = true;
        self.look_again();
    }

    /// Whether it may write.
    fn acts(&self) -> bool {
        !self.setup.dry_run && self.election.lock().is_leader(Now::read().mono)
    }

    /// Tells a person, if this is the one that acts.
    fn tell(&self, notice: Notice) {
        if self.acts() {
            self.notices.tell(notice, Now::read().mono);
        }
    }

    /// Something changed that objects may follow from.
    fn look_again(&self) {
        self.state.lock().is_stale = true;
        self.changed.notify_one();
        self.wanted.notify_one();
    }

    fn gateway_api(&self, state: &State) -> GatewayApi {
        match state.routes {
            _ if self.setup.settings.gateways.is_empty() => GatewayApi::Unset,
            GatewayApi::Ready | GatewayApi::Unknown if state.forbidden.is_some() => {
                GatewayApi::Forbidden
            }
            api => api,
        }
    }

    /// The plan for what is known now. Nobody waits while it is made.
    fn plan(&self, now: Instant) -> Arc<Plan> {
        let (sessions, addresses) = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.is_stale) {
                return Arc::clone(&state.plan);
            }
            let State {
                objects,
                hosts,
                made,
                ..
            } = &mut *state;
            let sessions: Vec<_> = objects.values().map(|it| it.session.clone()).collect();
            let backends = sessions.iter().flat_map(|it| it.record.routes.0.values());
            hosts.want(backends.map(|backend| backend.host()), now);
            for slice in made.slices() {
                if let Some((host, addresses)) = routes::objects::host_of(slice) {
                    hosts.remembered(&host, addresses);
                }
            }
            (sessions, hosts.addresses())
        };
        let plan = Arc::new(routes::plan(&sessions, &addresses, &self.setup.settings));
        let mut state = self.state.lock();
        state.plan = Arc::clone(&plan);
        state.is_said = true;
        drop(state);
        self.wanted.notify_one();
        plan
    }

    fn sessions(&self) -> Api<ProxySession> {
        Api::namespaced(self.client.clone(), &self.setup.namespace)
    }

    fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = match kind {
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::Slice => ApiResource::erase::<EndpointSlice>(&()),
            Kind::Route => ApiResource::erase::<HttpRoute>(&()),
        };
        Api::namespaced_with(self.client.clone(), &self.setup.namespace, &resource)
    }
}
