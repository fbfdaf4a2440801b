//! gost's gRPC plugin: `proto.SD`, with health and reflection beside it.
//!
//! The four unary calls are framed here and not by the library's general
//! machinery, which boxes decoder, body and stream for every call: less work,
//! and statuses of our own for what is malformed or too large.

use std::convert::Infallible;
use std::fmt;

use axum::BoxError;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service;

use crate::gost::body::{self, Body};
use crate::gost::calls::{Calls, Fields};
use crate::gost::denial::Denial;
use crate::gost::{MAX_BODY_BYTES, PENDING, proto, wire};
use crate::metrics::{Method, Protocol};
use crate::registry::{Caller, Kept};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const SERVICE: &str = "proto.SD";
const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION_V1: &str = "/grpc.reflection.v1.ServerReflection/";
const REFLECTION_V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/";
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sd.bin"));

/// What the health service tells of the server as a whole (`""`) and of
/// `proto.SD`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Not serving yet.
    pub async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set(false).await;
        health
    }

    /// Tells whether calls are answered from now on.
    pub async fn set(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", SERVICE] {
            self.0.set_service_status(service, status).await;
        }
    }
}

type Answer = Response<tonic::body::Body>;

/// A service of the library.
type Other = Box<dyn Fn(Request<tonic::body::Body>) -> BoxFuture<'static, Answer> + Send + Sync>;

fn other<S>(service: S) -> Other
where
    S: Service<Request<tonic::body::Body>, Response = Answer, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    Box::new(move |request| {
        let answer = service.clone().call(request);
        Box::pin(async {
            match answer.await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        })
    })
}

/// The gRPC services.
pub(super) struct Grpc {
    health: Other,
    /// None if the library refuses the descriptors, which a test rules out.
    reflection_v1: Option<Other>,
    reflection_v1alpha: Option<Other>,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").finish_non_exhaustive()
    }
}

impl Grpc {
    pub(super) fn new(health: &Health) -> Self {
        let health = HealthService::from_health_reporter(health.0.clone());
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let health = HealthServer::new(health).max_decoding_message_size(MAX_BODY_BYTES);
        Self {
            health: other(health),
            reflection_v1: reflection()
                .build_v1()
                .ok()
                .map(|service| other(service.max_decoding_message_size(MAX_BODY_BYTES))),
            reflection_v1alpha: reflection()
                .build_v1alpha()
                .ok()
                .map(|service| other(service.max_decoding_message_size(MAX_BODY_BYTES))),
        }
    }

    /// Answers a call.
    pub(super) async fn answer<B>(
        &self,
        calls: &Calls,
        caller: Caller,
        started: Instant,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let method = match method(request.uri().path()) {
            Method::Other => return self.elsewhere(calls, caller, started, request).await,
            method => method,
        };
        let result = unary(calls, &caller, method, request).await;
        let kept = result
            .as_ref()
            .map(|reply| reply.kept)
            .map_err(Clone::clone);
        calls.note(method, Protocol::Grpc, &caller, started, &kept);
        match result {
            Ok(reply) => reply.into_response(),
            Err(denial) => refuse(&denial),
        }
    }

    async fn elsewhere<B>(
        &self,
        calls: &Calls,
        caller: Caller,
        started: Instant,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let path = request.uri().path();
        let service = if is_health(path) {
            Some(&self.health)
        } else if path.starts_with(REFLECTION_V1) {
            self.reflection_v1.as_ref()
        } else if path.starts_with(REFLECTION_V1ALPHA) {
            self.reflection_v1alpha.as_ref()
        } else {
            None
        };
        let Some(service) = service else {
            /// Of a path that somebody made up, enough to recognise it.
            const SHOWN: usize = 100;
            let denial = Denial::NoMethod(path.chars().take(SHOWN).collect());
            let response = refuse(&denial);
            let denied = Err(denial);
            calls.note(Method::Other, Protocol::Grpc, &caller, started, &denied);
            return response;
        };
        let response = service(request.map(tonic::body::Body::new)).await;
        let done = Ok(Kept::Stored);
        calls.note(Method::Other, Protocol::Grpc, &caller, started, &done);
        response.map(Body::Streaming)
    }
}

/// The call at a path.
pub(super) fn method(path: &str) -> Method {
    match path {
        "/proto.SD/Register" => Method::Register,
        "/proto.SD/Renew" => Method::Renew,
        "/proto.SD/Deregister" => Method::Deregister,
        "/proto.SD/Get" => Method::Get,
        _ => Method::Other,
    }
}

/// Whether a path is the health service's, which is open to everybody: probes
/// have no token.
pub(super) fn is_health(path: &str) -> bool {
    path.starts_with(HEALTH)
}

/// Tells why a call was not done: a header without a message.
pub(super) fn refuse(denial: &Denial) -> Response<Body> {
    let mut response = Response::new(Body::Unary {
        message: None,
        trailers: None,
    });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    let status = Status::new(denial.code(), denial.to_string());
    if let Err(error) = status.add_header(headers) {
        // The text is percent-encoded, so this does not happen; the code is
        // what counts.
        headers.insert(Status::GRPC_STATUS, code(error.code()));
    }
    response
}

fn code(code: Code) -> HeaderValue {
    HeaderValue::from(code as i32)
}

struct Reply {
    message: Bytes,
    kept: Kept,
}

impl Reply {
    fn written(kept: Kept) -> Self {
        Self {
            message: Bytes::from_static(wire::OK),
            kept,
        }
    }

    fn into_response(self) -> Response<Body> {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        let mut response = Response::new(Body::Unary {
            message: Some(self.message),
            trailers: Some(trailers),
        });
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        if self.kept == Kept::Pending {
            let name = HeaderName::from_static(PENDING);
            let value = HeaderValue::from_static("true");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

async fn unary<B>(
    calls: &Calls,
    caller: &Caller,
    method: Method,
    request: Request<B>,
) -> Result<Reply, Denial>
where
    B: http_body::Body<Data = Bytes>,
{
    let max = wire::FRAME_BYTES + MAX_BODY_BYTES;
    let body = body::read(request.into_body(), max, calls.time).await?;
    let message = wire::message(body)?;
    if method == Method::Get {
        let request = decoded::<proto::GetServiceRequest>(message)?;
        return Ok(Reply {
            message: wire::services(&calls.get(caller, &request.name)?),
            kept: Kept::Stored,
        });
    }
    // The three requests have the same shape.
    let request = decoded::<proto::RegisterRequest>(message)?;
    let Some(service) = request.service else {
        return Err(Denial::Malformed(
            "`service` is missing; send one with id, name and node".into(),
        ));
    };
    let fields = Fields {
        id: &service.id,
        name: &service.name,
        node: &service.node,
        network: &service.network,
        address: &service.address,
    };
    let kept = match method {
        Method::Register => calls.register(caller, fields).await?,
        Method::Renew => calls.renew(caller, fields)?,
        _ => calls.deregister(caller, fields).await?,
    };
    Ok(Reply::written(kept))
}

fn decoded<M: prost::Message + Default>(message: Bytes) -> Result<M, Denial> {
    M::decode(message).map_err(|error| {
        Denial::Malformed(format!(
            "the message is not as sd.proto defines it: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_descriptors_can_be_reflected() {
        let grpc = Grpc::new(&Health::new().await);
        assert!(grpc.reflection_v1.is_some());
        assert!(grpc.reflection_v1alpha.is_some());
    }

    #[test]
    fn a_refusal_is_told_in_the_header() {
        let response = refuse(&Denial::Malformed("nö: 100%".into()));
        assert_eq!(response.status(), http::StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "3");
        assert_eq!(response.headers()["grpc-message"], "n%C3%B6:%20100%25");
        assert!(http_body::Body::is_end_stream(response.body()));
    }

    #[test]
    fn what_is_not_stored_yet_is_marked() {
        let pending = Reply::written(Kept::Pending).into_response();
        assert_eq!(pending.headers()["tunnel-registry-pending"], "true");
        let stored = Reply::written(Kept::Stored).into_response();
        assert!(!stored.headers().contains_key("tunnel-registry-pending"));
    }

    #[test]
    fn paths() {
        assert_eq!(method("/proto.SD/Get"), Method::Get);
        assert_eq!(method("/proto.SD/get"), Method::Other);
        assert_eq!(method("/proto.SD/Get/"), Method::Other);
        assert!(is_health("/grpc.health.v1.Health/Check"));
        assert!(!is_health(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        ));
    }
}
