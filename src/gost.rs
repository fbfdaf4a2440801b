//! The way in for gost: its service-discovery protocol over HTTP and gRPC.
//!
//! [`Gost`] answers requests and knows nothing of sockets. gRPC does not pass
//! through the HTTP router: Get and Renew are what a visitor waits for.

mod body;
mod calls;
mod denial;
pub mod grpc;
pub mod http;
mod json;
mod query;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request, Response, Version};
use axum::Router;
use bytes::Bytes;
use tokio::time::Instant;

pub use body::Body;
pub use calls::Calls;
pub use grpc::Health;

use crate::metrics::{Metrics, Protocol};
use crate::registry::{Caller, Registry};
use crate::server::auth::Access;
use denial::Denial;

/// The protocol's messages and a client.
#[allow(missing_docs, reason = "the fields' comments are in proto/sd.proto")]
pub mod proto {
    tonic::include_proto!("proto");
}

/// The largest body of a request, or message of a call, in bytes. Five names
/// of the greatest length take 1.3 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Marks a write that is kept but not stored yet: a response header over HTTP,
/// metadata over gRPC. Its value is `true`.
pub const PENDING: &str = "tunnel-registry-pending";

/// Answers gost.
#[derive(Debug)]
pub struct Gost {
    calls: Arc<Calls>,
    access: Arc<Access>,
    router: Router,
    beside: Option<(Router, IsBeside)>,
    grpc: grpc::Grpc,
}

/// Whether a path is for the routes beside gost's.
pub type IsBeside = fn(&str) -> bool;

impl Gost {
    /// Answers from `registry` whoever `access` lets in. A request's body must
    /// arrive within `time`. `pod_ips` are those of the pod that this process
    /// runs in, the preferred one first; none outside a pod.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        access: Arc<Access>,
        pod_ips: Arc<[IpAddr]>,
        health: &Health,
        time: Duration,
    ) -> Self {
        let calls = Arc::new(Calls::new(registry, metrics, pod_ips, time));
        Self {
            router: http::router(Arc::clone(&calls)),
            beside: None,
            grpc: grpc::Grpc::new(health),
            access,
            calls,
        }
    }

    /// Answers further paths, for the same callers.
    #[must_use]
    pub fn also(mut self, paths: Router) -> Self {
        self.router = self.router.merge(paths);
        self
    }

    /// Lets these routes answer paths of their own. Who may call is for them to say.
    #[must_use]
    pub fn beside(mut self, paths: Option<(Router, IsBeside)>) -> Self {
        self.beside = paths;
        self
    }

    /// Whether a path is not gost's.
    #[must_use]
    pub fn is_beside(&self, path: &str) -> bool {
        self.beside
            .as_ref()
            .is_some_and(|(_, is_theirs)| is_theirs(path))
    }

    /// Answers one request.
    pub async fn answer<B>(&self, caller: Caller, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let started = Instant::now();
        if request.version() == Version::HTTP_2 && is_grpc(request.headers()) {
            if !self.access.admit_grpc(request.headers()) && !grpc::is_health(request.uri().path())
            {
                let method = grpc::method(request.uri().path());
                let refused = Err(Denial::Unauthenticated);
                self.calls
                    .note(method, Protocol::Grpc, &caller, started, &refused);
                return grpc::refuse(&Denial::Unauthenticated);
            }
            return self
                .grpc
                .answer(&self.calls, caller, started, request)
                .await;
        }
        if let Some((router, is_theirs)) = &self.beside
            && is_theirs(request.uri().path())
        {
            return http::route(router, caller, request).await.map(Body::Http);
        }
        if !self.access.admit_http(request.headers()) {
            let method = http::method(request.method());
            let refused = Err(Denial::Unauthenticated);
            self.calls
                .note(method, Protocol::Http, &caller, started, &refused);
            return http::refuse(&Denial::Unauthenticated).map(Body::Http);
        }
        http::route(&self.router, caller, request)
            .await
            .map(Body::Http)
    }
}

/// Whether a request is a gRPC call: `application/grpc`, whatever follows.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(::http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
