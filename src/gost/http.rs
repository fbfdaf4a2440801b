//! gost's HTTP plugin: POST, PUT, DELETE and GET at `/sd` and at `/`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::routing::{MethodRouter, get};
use axum::{BoxError, Router};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method as Verb, Response, Uri};
use tokio::time::Instant;
use tower_service::Service as _;

use crate::gost::calls::{Calls, Fields};
use crate::gost::denial::Denial;
use crate::gost::{MAX_BODY_BYTES, PENDING, body, json, query};
use crate::metrics::{Method, Protocol};
use crate::registry::{Caller, Kept};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The routes. Each request needs its [`Caller`] among its extensions.
pub fn router(calls: Arc<Calls>) -> Router {
    let methods: MethodRouter<Arc<Calls>> = get(find).post(write).put(write).delete(write);
    Router::new()
        .route("/sd", methods.clone())
        .route("/", methods)
        .fallback(no_path)
        .method_not_allowed_fallback(no_verb)
        .with_state(calls)
}

/// Passes a request on to the routes.
pub(super) async fn route<B>(
    router: &Router,
    caller: Caller,
    request: http::Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(caller);
    match router.clone().call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The call that an HTTP method stands for.
pub(super) fn method(verb: &Verb) -> Method {
    match *verb {
        Verb::POST => Method::Register,
        Verb::PUT => Method::Renew,
        Verb::DELETE => Method::Deregister,
        Verb::GET | Verb::HEAD => Method::Get,
        _ => Method::Other,
    }
}

/// Tells why a request was not done.
pub(super) fn refuse(denial: &Denial) -> Response<Body> {
    let text = serde_json::json!({ "error": denial.to_string() }).to_string();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = denial.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    match denial {
        Denial::Unauthenticated => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Denial::NoVerb(_) => {
            let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
            headers.insert(ALLOW, allowed);
        }
        _ => {}
    }
    response
}

async fn find(
    State(calls): State<Arc<Calls>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Response<Body> {
    let started = Instant::now();
    let found = query::tunnel(uri.query().unwrap_or_default())
        .and_then(|tunnel| calls.get(&caller, &tunnel));
    let kept = found.as_ref().map(|_| Kept::Stored).map_err(Clone::clone);
    calls.note(Method::Get, Protocol::Http, &caller, started, &kept);
    match found {
        Ok(records) => {
            let mut response = Response::new(Body::from(json::services(&records)));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        Err(denial) => refuse(&denial),
    }
}

async fn write(
    State(calls): State<Arc<Calls>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    let started = Instant::now();
    let method = method(request.method());
    let result = written(&calls, &caller, method, request.into_body()).await;
    calls.note(method, Protocol::Http, &caller, started, &result);
    match result {
        Ok(kept) => accept(kept),
        Err(denial) => refuse(&denial),
    }
}

/// Tells that a write was accepted. gost reads no body of a write: one would
/// cost it a new connection.
fn accept(kept: Kept) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if kept == Kept::Pending {
        let name = HeaderName::from_static(PENDING);
        let value = HeaderValue::from_static("true");
        response.headers_mut().insert(name, value);
    }
    response
}

async fn written(
    calls: &Calls,
    caller: &Caller,
    method: Method,
    body: Body,
) -> Result<Kept, Denial> {
    let body = body::read(body, MAX_BODY_BYTES, calls.time).await?;
    let service = json::service(&body)?;
    let fields: Fields<'_> = service.fields();
    match method {
        Method::Register => calls.register(caller, fields).await,
        Method::Renew => calls.renew(caller, fields),
        _ => calls.deregister(caller, fields).await,
    }
}

async fn no_path(
    State(calls): State<Arc<Calls>>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    turned_away(&calls, &caller, Denial::NoPath)
}

async fn no_verb(
    State(calls): State<Arc<Calls>>,
    Extension(caller): Extension<Caller>,
    verb: Verb,
) -> Response<Body> {
    turned_away(&calls, &caller, Denial::NoVerb(verb.to_string()))
}

fn turned_away(calls: &Calls, caller: &Caller, denial: Denial) -> Response<Body> {
    let response = refuse(&denial);
    let denied = Err(denial);
    calls.note(
        Method::Other,
        Protocol::Http,
        caller,
        Instant::now(),
        &denied,
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stored_yet_is_marked() {
        let pending = accept(Kept::Pending);
        assert_eq!(pending.status(), 200);
        assert_eq!(pending.headers()["tunnel-registry-pending"], "true");
        assert!(accept(Kept::Stored).headers().is_empty());
    }
}
