//! The store in Kubernetes: endpoints are `TunnelEndpoint`s, replicas are Leases,
//! sessions are `ProxySession`s, all in one namespace.
//!
//! A record's revision is the `resourceVersion` of its object, and conditions are
//! the API server's own. Reading is a list and a watch for each kind, apart from
//! each other: what breaks one does not make the other list again.

mod api;
mod catalogue;
mod events;
mod holders;
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

use crate::resources::{ProxySession, TunnelEndpoint};

pub use crate::backend::problems::{MAX_PROBLEMS, Problem};
use api::Api;
use mirror::mirror;
pub use object::Owner;
use shared::Shared;
use writer::{WRITES_AT_ONCE, Writer};

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
}

/// Keeps records as objects of Kubernetes.
pub struct Kubernetes {
    namespace: String,
    api: Api,
    writer: Writer,
    shared: Shared,
    sessions: bool,
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
        }
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
        Box::pin(async move { writer.write(write).await })
    }

    fn writes_at_once(&self) -> usize {
        WRITES_AT_ONCE
    }

    fn keeps(&self, kind: Kind) -> bool {
        match kind {
            Kind::Endpoint | Kind::Replica => true,
            Kind::Session => self.sessions,
            Kind::Service | Kind::Instance => false,
        }
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        let endpoints = mirror::<TunnelEndpoint>(self.api.clone(), self.shared.clone());
        let replicas = mirror::<Lease>(self.api.clone(), self.shared.clone());
        let watched = stream::select(endpoints, replicas);
        if !self.sessions {
            return watched.boxed();
        }
        let sessions = mirror::<ProxySession>(self.api.clone(), self.shared.clone());
        stream::select(watched, sessions).boxed()
    }

    fn trouble(&self) -> Option<String> {
        self.shared.any_trouble()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        let api = self.api.clone();
        Box::pin(async move { api.ping::<TunnelEndpoint>().await.map_err(writer::error) })
    }
}
