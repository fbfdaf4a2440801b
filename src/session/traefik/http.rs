//! `GET /traefik`: the configuration over HTTP, as Traefik's HTTP provider asks
//! for it.
//!
//! Traefik polls, so an answer is made once for each change and then only sent.
//! Whatever is not 200 leaves Traefik with what it had, and so does silence:
//! before the store was read, 503 is what keeps the routes.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ring::digest::{SHA256, digest};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::metrics::proxy::Polled;
use crate::session::serving::{Derived, Serving};
use crate::session::traefik::{Configuration, configuration};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// It may be kept, and is to be asked about each time.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
/// How many bytes of a hash are an entity tag.
const TAG: usize = 16;

/// The document and its tag.
#[derive(Debug)]
struct Document {
    body: Bytes,
    tag: HeaderValue,
}

/// What the path needs.
#[derive(Clone)]
struct Source {
    documents: Arc<Derived<Result<Document, String>>>,
    metrics: Arc<Metrics>,
}

/// The path `/traefik`, with what `serving` tells. `responder` is the URL of the
/// responder of maintenance, if there is one.
pub fn router(
    serving: Arc<dyn Serving>,
    responder: Option<String>,
    metrics: Arc<Metrics>,
) -> Router {
    let make = move |served: &_| document(&configuration(served, responder.as_deref()));
    let documents = Arc::new(Derived::new(serving, Duration::ZERO, make));
    Router::new()
        .route("/traefik", get(answer))
        .with_state(Source { documents, metrics })
}

fn document(configuration: &Configuration) -> Result<Document, String> {
    let body = serde_json::to_vec(configuration).map_err(|error| error.to_string())?;
    let hash = digest(&SHA256, &body);
    let hash = HEXLOWER.encode(hash.as_ref().get(..TAG).unwrap_or_default());
    Ok(Document {
        body: body.into(),
        tag: HeaderValue::try_from(format!("\"{hash}\"")).map_err(|error| error.to_string())?,
    })
}

async fn answer(State(source): State<Source>, headers: HeaderMap) -> Response<Body> {
    let response = respond(source.documents, &headers).await;
    source.metrics.proxy.polled(match response.status() {
        StatusCode::OK => Polled::Sent,
        StatusCode::NOT_MODIFIED => Polled::Same,
        StatusCode::SERVICE_UNAVAILABLE => Polled::NotReady,
        _ => Polled::Failed,
    });
    response
}

async fn respond(
    documents: Arc<Derived<Result<Document, String>>>,
    headers: &HeaderMap,
) -> Response<Body> {
    // With ten thousand sessions it takes some ten milliseconds to make: not on
    // a thread on which gost's calls wait.
    let document = spawn_blocking(move || documents.get(Instant::now())).await;
    let document = match document {
        Ok(document) => document,
        Err(error) => return fail(&error),
    };
    let Some(document) = document else {
        let mut response = refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the sessions have not been read from the store yet; ask again, and keep what you have",
        );
        let second = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, second);
        return response;
    };
    let document = match &*document {
        Ok(document) => document,
        Err(error) => return fail(error),
    };
    let mut response = if is_known(headers, &document.tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(document.body.clone()));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, document.tag.clone());
    headers.insert(CACHE_CONTROL, NO_CACHE);
    response
}

/// Whether the client has what bears this tag (RFC 9110 §13.1.2).
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes())
}

fn fail(error: &dyn Display) -> Response<Body> {
    tracing::error!(%error, "the configuration for Traefik could not be made; please report this");
    let text = "the configuration could not be made; the log says why";
    refuse(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let text = serde_json::json!({ "error": why }).to_string();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;

    use super::*;
    use crate::session::serving::testing::{Fixed, session};

    async fn ask(router: &Router, known: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get("/traefik");
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (head.status, head.headers, body)
    }

    #[tokio::test]
    async fn what_is_not_known_yet_takes_no_route_away() {
        let (fixed, metrics) = (Arc::new(Fixed::default()), Arc::new(Metrics::new()));
        let router = router(Arc::clone(&fixed) as _, None, Arc::clone(&metrics));
        let (status, headers, body) = ask(&router, None).await;
        assert_eq!(status, 503);
        assert_eq!(headers[RETRY_AFTER], "1");
        assert!(body.contains("not been read"), "{body}");
        fixed.set(vec![]);
        let (status, _, body) = ask(&router, None).await;
        // Traefik's own empty document: it has no routes from us any more.
        assert_eq!((status, body.as_str()), (StatusCode::OK, "{}"));
    }

    #[tokio::test]
    async fn a_poll_without_a_change_costs_nothing() {
        let (fixed, metrics) = (Arc::new(Fixed::default()), Arc::new(Metrics::new()));
        fixed.set(vec![session("api", 1, &["ROUTE|s|a.com|/|http://h"])]);
        let router = router(Arc::clone(&fixed) as _, None, Arc::clone(&metrics));
        let (status, headers, body) = ask(&router, None).await;
        assert_eq!(status, 200);
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert!(body.contains("Host(`a.com`)"), "{body}");
        let tag = headers[ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"'), "a strong tag: {tag}");
        for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".into()] {
            let (status, headers, body) = ask(&router, Some(&known)).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
            assert_eq!(headers[ETAG], tag);
        }
        assert_eq!(ask(&router, Some("\"x\"")).await.0, 200);
        assert_eq!(fixed.asked(), 1);

        fixed.set(vec![session("api", 1, &["ROUTE|s|b.com|/|http://h"])]);
        let (status, headers, body) = ask(&router, Some(&tag)).await;
        assert_eq!(status, 200);
        assert!(body.contains("Host(`b.com`)"), "{body}");
        assert_ne!(headers[ETAG], tag);
        let text = metrics.encode().unwrap();
        for (status, count) in [(200, 3), (304, 3), (500, 0), (503, 0)] {
            let name = "tunnel_registry_traefik_answers_total";
            let line = format!("\n{name}{{status=\"{status}\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}
