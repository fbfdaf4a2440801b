//! The store in Kubernetes: endpoints are `TunnelEndpoint`s, replicas are Leases,
//! sessions are `ProxySession`s, services `DiscoveryService`s and their instances
//! `DiscoveryInstance`s, all in one namespace.
//!
//! A record's revision is the `resourceVersion` of its object, and conditions are
//! the API server's own. Reading is a list and a watch for each kind, apart from
//! each other: what breaks one does not make the other list again.

mod api;
mod catalogue;
mod events;
mod holders;
mod kinds;
mod mirror;
mod object;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::fmt;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;

use crate::backend::{Backend, Change, Revision, WatchError, Write, WriteError};
use crate::record::Kind;

use crate::resources::{DiscoveryInstance, DiscoveryService, ProxySession, TunnelEndpoint};

pub use crate::backend::problems::{MAX_PROBLEMS, Problem};
use api::Api;
use mirror::mirror;
use object::Object;
pub use object::Owner;
use shared::Shared;
use writer::{WRITES_AT_ONCE, Writer};

/// What a write of a record comes to whose kind is not kept.
const NOT_KEPT: &str =
    "with --store kubernetes services are kept with --services, and sessions with --session-listen";

/// Where records are kept, and who keeps them.
#[derive(Clone)]
pub struct Settings {
    /// How the API server is reached.
    pub client: Client,
    /// The namespace of all objects.
    pub namespace: String,
    /// The pod that this process runs in, from the downward API. What it
    /// registers goes with it. Ignored when it is in another namespace.
    pub owner: Option<Owner>,
    /// Whether sessions are kept too. Else their definition need not be installed,
    /// nor may they be read.
    pub sessions: bool,
    /// The same of services and their instances.
    pub services: bool,
}

/// Keeps records as objects of Kubernetes.
pub struct Kubernetes {
    namespace: String,
    api: Api,
    writer: Writer,
    shared: Shared,
    sessions: bool,
    services: bool,
}

impl Kubernetes {
    /// The store in a namespace. Asks nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings {
            client,
            namespace,
            owner,
            sessions,
            services,
        } = settings;
        let api = Api::new(client, namespace.clone());
        let shared = Shared::new();
        let owner = owner.filter(|owner| owner.namespace == namespace);
        Self {
            writer: Writer::new(api.clone(), owner, shared.clone()),
            namespace,
            api,
            shared,
            sessions,
            services,
        }
    }

    fn mirror<K: Object>(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        mirror::<K>(self.api.clone(), self.shared.clone())
    }

    /// The objects that the last watch met and that are not served, at most
    /// [`MAX_PROBLEMS`] of a kind: what cannot be read, and what has the identity
    /// of another. Empty before a watch has listed.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.problems()
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubernetes({:?})", self.namespace)
    }
}

impl Backend for Kubernetes {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        let writer = self.writer.clone();
        if !self.keeps(write.key().kind()) {
            let refused = Err(WriteError::Refused(NOT_KEPT.into()));
            return Box::pin(std::future::ready(refused));
        }
        Box::pin(async move { writer.write(write).await })
    }

    fn writes_at_once(&self) -> usize {
        WRITES_AT_ONCE
    }

    fn keeps(&self, kind: Kind) -> bool {
        match kind {
            Kind::Endpoint | Kind::Replica => true,
            Kind::Session => self.sessions,
            Kind::Service | Kind::Instance => self.services,
        }
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        let mut kinds = vec![self.mirror::<TunnelEndpoint>(), self.mirror::<Lease>()];
        if self.sessions {
            kinds.push(self.mirror::<ProxySession>());
        }
        if self.services {
            kinds.push(self.mirror::<DiscoveryService>());
            kinds.push(self.mirror::<DiscoveryInstance>());
        }
        stream::select_all(kinds).boxed()
    }

    fn trouble(&self) -> Option<String> {
        self.shared.any_trouble()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        let api = self.api.clone();
        Box::pin(async move { api.ping::<TunnelEndpoint>().await.map_err(writer::error) })
    }
}
