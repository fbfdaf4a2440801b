//! What operators ask: is it alive, is it ready, what does it do, what is
//! registered, which backends announce themselves. Everything here only reads.

pub mod endpoints;
mod list;
pub mod server;
pub mod sessions;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::{Serialize, Serializer};
use tracing::error;

use crate::listing::Listing;
use crate::session::engine::view::Listed;
use sessions::Unlisted;

/// A question that is answered at once, without waiting for anything.
pub type Ask<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Whom the admin port asks.
#[derive(Clone)]
pub struct Admin {
    /// Whether the process does its work; an error says what stands still.
    pub alive: Ask<Result<(), String>>,
    /// Every part that must be ready before the process is.
    pub parts: Ask<Vec<Part>>,
    /// All metrics in the OpenMetrics text format.
    pub metrics: Ask<Result<String, fmt::Error>>,
    /// What is registered.
    pub listing: Arc<dyn Listing>,
    /// The proxy sessions, in any order.
    pub sessions: Ask<Result<Vec<Listed>, Unlisted>>,
}

/// Whom the admin port asks how the process is.
#[derive(Clone)]
pub struct Vitals {
    /// Whether the process does its work; an error says what stands still.
    pub alive: Ask<Result<(), String>>,
    /// Every part that must be ready before the process is.
    pub parts: Ask<Vec<Part>>,
    /// All metrics in the OpenMetrics text format.
    pub metrics: Ask<Result<String, fmt::Error>>,
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").finish_non_exhaustive()
    }
}

impl Admin {
    fn vitals(&self) -> Vitals {
        Vitals {
            alive: Arc::clone(&self.alive),
            parts: Arc::clone(&self.parts),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// A part of the process that is ready or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// An error says what it waits for.
    #[serde(flatten, serialize_with = "readiness")]
    pub ready: Result<(), String>,
    /// What a person should know though it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn readiness<S: Serializer>(ready: &Result<(), String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Readiness<'a> {
        ready: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    }
    let reason = ready.as_ref().err().map(String::as_str);
    let ready = reason.is_none();
    Readiness { ready, reason }.serialize(serializer)
}

const INDEX: &str = "\
tunnel-registry

/livez      whether the process does its work
/readyz     whether every part is ready, and what stands in the way
/metrics    figures for Prometheus
/endpoints  what is registered; ?tunnel= ?node= ?limit= ?format=table|json
/sessions   the proxy sessions; ?service= ?state= ?limit= ?format=table|json
";

const INDEX_OF_VITALS: &str = "\
tunnel-registry controller

/livez    whether the process does its work
/readyz   whether every part is ready, and what stands in the way
/metrics  figures for Prometheus
";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin port's paths.
pub fn router(admin: Admin) -> Router {
    let vitals = admin.vitals();
    Router::new()
        .route("/", get(INDEX))
        .route("/endpoints", get(endpoints::list))
        .route("/sessions", get(sessions::list))
        .with_state(admin)
        .merge(vital_paths(vitals))
}

/// The admin port's paths of a process that has no endpoints to list.
pub fn router_of_vitals(vitals: Vitals) -> Router {
    Router::new()
        .route("/", get(INDEX_OF_VITALS))
        .merge(vital_paths(vitals))
}

fn vital_paths(vitals: Vitals) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "no such path; / lists what there is\n",
            )
        })
        .with_state(vitals)
}

async fn livez(State(admin): State<Vitals>) -> Response {
    match (admin.alive)() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

async fn readyz(State(admin): State<Vitals>, headers: HeaderMap) -> Response {
    let parts = (admin.parts)();
    let ready = parts.iter().all(|part| part.ready.is_ok());
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if wants_json(&headers) {
        let body = serde_json::json!({ "ready": ready, "parts": parts });
        return (status, [(CONTENT_TYPE, JSON)], body.to_string()).into_response();
    }
    let text: String = parts
        .iter()
        .map(|part| match &part.ready {
            Ok(()) => match &part.note {
                None => format!("{}: ready\n", part.name),
                Some(note) => format!("{}: ready, but {note}\n", part.name),
            },
            Err(reason) => format!("{}: not ready: {reason}\n", part.name),
        })
        .collect();
    (status, text).into_response()
}

async fn metrics(State(admin): State<Vitals>) -> Response {
    match (admin.metrics)() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => {
            error!("the metrics could not be encoded");
            let text = "the metrics could not be encoded\n";
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// Whether the caller names JSON among what it takes. `*/*` does not count:
/// curl and browsers send it for people.
fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(JSON))
}

#[cfg(test)]
mod tests;
