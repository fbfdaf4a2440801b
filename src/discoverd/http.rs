//! The HTTP API, as the clients of discoverd's second version know it.
//!
//! Reading needs no token, as with DNS; writing needs the same as gost's calls do.

mod body;
pub mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::routing::{get, put};
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::discoverd::engine::view::Summary;
use crate::discoverd::engine::{self, Done, Outcome};
use crate::discoverd::event::{Audience, SentMeta, Wanted};
use crate::discoverd::instance::InstanceId;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::{InstanceRecord, LeaderType, Shown};
use crate::discoverd::services::Services;
use crate::discoverd::tunnels::Tunnels;
use crate::metrics::Metrics;
use crate::metrics::services::Asked;
use crate::server::Lasting;
use crate::server::auth::Access;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How often a stream on which nothing happens has a comment.
pub const COMMENT_EVERY: Duration = Duration::from_secs(30);

/// What the API needs to know.
#[derive(Debug)]
pub struct Config {
    /// The services.
    pub services: Arc<Services>,
    /// gost's tunnels.
    pub tunnels: Arc<dyn Tunnels>,
    /// Who may write, and see tunnels.
    pub access: Arc<Access>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// How long a body may take to arrive.
    pub request: Duration,
    /// How long a stream may be without a comment; at most [`COMMENT_EVERY`], and
    /// less than connections may be idle.
    pub comment: Duration,
    /// Ends all streams.
    pub stop: CancellationToken,
}

type Api = State<Arc<Config>>;
type Answer = Result<Response<Body>, Problem>;
type Kept = Option<Extension<Lasting>>;
type Names<T> = Result<Path<T>, PathRejection>;

/// A service in the list of all, which discoverd does not have.
#[derive(Serialize)]
struct SentService<'a> {
    service: &'a ServiceName,
    leader_type: LeaderType,
    instances: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<Shown<'a>>,
}

impl<'a> SentService<'a> {
    fn new(summary: &'a Summary) -> Self {
        Self {
            service: &summary.record.name,
            leader_type: summary.record.leader_type,
            instances: summary.instances,
            leader: summary.leader.as_deref().map(InstanceRecord::shown),
        }
    }
}

/// Whether a path is the API's.
#[must_use]
pub fn is_its_path(path: &str) -> bool {
    path == "/ping" || path == "/services" || path.starts_with("/services/")
}

/// The routes.
pub fn router(config: Config) -> Router {
    Router::new()
        .route("/ping", get(ping))
        .route("/services", get(list))
        .route("/services/{service}", get(watch).put(create).delete(remove))
        .route("/services/{service}/meta", get(meta).put(set_meta))
        .route("/services/{service}/instances", get(instances))
        .route(
            "/services/{service}/instances/{id}",
            put(register).delete(unregister),
        )
        .route("/services/{service}/leader", get(leader).put(set_leader))
        .fallback(async || refuse(&Problem::NoPath))
        .method_not_allowed_fallback(async |verb: Method| {
            refuse(&Problem::NoVerb(verb.to_string()))
        })
        .with_state(Arc::new(config))
}

/// The routes where services are switched off: they say so.
pub fn router_of_nothing() -> Router {
    Router::new()
        .route("/ping", get(ping))
        .fallback(async || refuse(&Problem::Off))
}

async fn ping() -> Response<Body> {
    Response::new(Body::empty())
}

async fn list(State(api): Api) -> Response<Body> {
    api.answer(Asked::List, async {
        let all = api.services.list()?;
        let all: Vec<SentService<'_>> = all.iter().map(SentService::new).collect();
        json(&all)
    })
    .await
}

async fn create(State(api): Api, names: Names<String>, request: Request) -> Response<Body> {
    api.answer(Asked::Create, async {
        api.admit(request.headers())?;
        let service = name(&names)?;
        let body::Service { leader_type } = api.read(request).await?;
        let leader_type = body::leader_type(leader_type.as_deref())?;
        let request = engine::Request::Create(service, leader_type);
        done(api.services.ask(request).await)
    })
    .await
}

async fn remove(State(api): Api, names: Names<String>, headers: HeaderMap) -> Response<Body> {
    api.answer(Asked::Remove, async {
        api.admit(&headers)?;
        let request = engine::Request::Remove(name(&names)?);
        done(api.services.ask(request).await)
    })
    .await
}

/// A stream, whatever is accepted: a client that was redirected may have lost the
/// header that asks for one.
async fn watch(
    State(api): Api,
    names: Names<String>,
    lasting: Kept,
    headers: HeaderMap,
) -> Response<Body> {
    api.answer(Asked::Watch, async {
        api.stream(&name(&names)?, Wanted::All, &headers, lasting)
    })
    .await
}

async fn meta(State(api): Api, names: Names<String>) -> Response<Body> {
    api.answer(Asked::Meta, async {
        let meta = api.services.meta(&name(&names)?)?;
        json(&SentMeta::new(&meta).map_err(broken)?)
    })
    .await
}

async fn set_meta(State(api): Api, names: Names<String>, request: Request) -> Response<Body> {
    api.answer(Asked::SetMeta, async {
        api.admit(request.headers())?;
        let service = name(&names)?;
        let body: body::Meta = api.read(request).await?;
        let data = body.data()?;
        let leader = match body.leader_id.as_deref() {
            None | Some("") => None,
            Some(id) => Some(InstanceId::parse(id).ok_or(Problem::Id("leader_id"))?),
        };
        let request = engine::Request::SetMeta(service, data, body.index, leader);
        done(api.services.ask(request).await)
    })
    .await
}

async fn instances(
    State(api): Api,
    names: Names<String>,
    lasting: Kept,
    headers: HeaderMap,
) -> Response<Body> {
    api.answer(Asked::Instances, async {
        let service = name(&names)?;
        if wants_stream(&headers) {
            return api.stream(&service, Wanted::Instances, &headers, lasting);
        }
        let all = match api.services.instances(&service) {
            Err(Problem::NoService(_)) if api.may_see_tunnels(&headers) => {
                api.services.tunnel(&service, &*api.tunnels)?
            }
            all => all?,
        };
        let all: Vec<Shown<'_>> = all.iter().map(|record| record.shown()).collect();
        json(&all)
    })
    .await
}

async fn register(
    State(api): Api,
    names: Names<(String, String)>,
    request: Request,
) -> Response<Body> {
    api.answer(Asked::Register, async {
        api.admit(request.headers())?;
        let (service, id) = name_and_id(&names)?;
        let body: body::Instance = api.read(request).await?;
        let instance = body.instance()?.named(id)?;
        let request = engine::Request::Register(service, instance);
        done(api.services.ask(request).await)
    })
    .await
}

async fn unregister(
    State(api): Api,
    names: Names<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    api.answer(Asked::Unregister, async {
        api.admit(&headers)?;
        let (service, id) = name_and_id(&names)?;
        let id = InstanceId::parse(id).ok_or(Problem::Id("id"))?;
        let request = engine::Request::Unregister(service, id);
        done(api.services.ask(request).await)
    })
    .await
}

async fn leader(
    State(api): Api,
    names: Names<String>,
    lasting: Kept,
    headers: HeaderMap,
) -> Response<Body> {
    api.answer(Asked::Leader, async {
        let service = name(&names)?;
        if wants_stream(&headers) {
            return api.stream(&service, Wanted::Leader, &headers, lasting);
        }
        json(&api.services.leader(&service)?.shown())
    })
    .await
}

async fn set_leader(State(api): Api, names: Names<String>, request: Request) -> Response<Body> {
    api.answer(Asked::SetLeader, async {
        api.admit(request.headers())?;
        let service = name(&names)?;
        let body::Leader { id } = api.read(request).await?;
        let id = InstanceId::parse(&id).ok_or(Problem::Id("id"))?;
        let request = engine::Request::SetLeader(service, id);
        done(api.services.ask(request).await)
    })
    .await
}

impl Config {
    /// Answers, and counts that.
    async fn answer(&self, asked: Asked, answer: impl Future<Output = Answer>) -> Response<Body> {
        let response = answer.await.unwrap_or_else(|problem| refuse(&problem));
        let services = &self.metrics.services;
        services.answered(asked, response.status());
        response
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self.access.admit_http(headers) {
            true => Ok(()),
            false => Err(Problem::Unauthorized),
        }
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T, Problem> {
        body::read(request, self.request).await
    }

    /// Who holds a tunnel is not for everybody, over gost's protocol neither.
    fn may_see_tunnels(&self, headers: &HeaderMap) -> bool {
        self.access.admit_http(headers)
    }

    fn stream(
        &self,
        service: &ServiceName,
        wanted: Wanted,
        headers: &HeaderMap,
        lasting: Kept,
    ) -> Answer {
        let audience = Audience {
            wanted,
            tunnels: self.may_see_tunnels(headers),
        };
        let services = &self.services;
        let subscription = services.subscribe(service, audience, &*self.tunnels)?;
        let lasting = lasting.map(|Extension(lasting)| lasting);
        Ok(stream::response(
            subscription,
            lasting,
            self.comment,
            self.stop.clone(),
        ))
    }
}

fn name(names: &Names<String>) -> Result<ServiceName, Problem> {
    match names {
        Ok(Path(service)) => Ok(ServiceName::parse(service)?),
        Err(_) => Err(crate::discoverd::name::NameError::Character.into()),
    }
}

fn name_and_id(names: &Names<(String, String)>) -> Result<(ServiceName, &str), Problem> {
    match names {
        Ok(Path((service, id))) => Ok((ServiceName::parse(service)?, id)),
        Err(_) => Err(crate::discoverd::name::NameError::Character.into()),
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.to_ascii_lowercase().contains("text/event-stream")
    })
}

fn done(outcome: Outcome) -> Answer {
    match outcome? {
        Done::Done => Ok(Response::new(Body::empty())),
        Done::Meta(meta) => json(&SentMeta::new(&meta).map_err(broken)?),
    }
}

fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(broken)?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// What was stored was checked when it was made.
fn broken(error: impl fmt::Display) -> Problem {
    tracing::error!(%error, "an answer could not be made; please report this");
    Problem::Broken
}

fn refuse(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::from(problem.json()));
    *response.status_mut() = problem.code().1;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if matches!(problem, Problem::Unauthorized) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;

    use super::*;

    #[test]
    fn its_paths_are_no_others() {
        for path in ["/ping", "/services", "/services/", "/services/a/b"] {
            assert!(is_its_path(path), "{path}");
        }
        for path in ["/", "/sd", "/pings", "/servicesx", "/traefik", "//services"] {
            assert!(!is_its_path(path), "{path}");
        }
    }

    #[tokio::test]
    async fn a_store_that_keeps_no_services_says_so() {
        for verb in [Method::GET, Method::PUT] {
            let request = Request::builder().method(verb).uri("/services/db");
            let request = request.body(Body::empty()).unwrap();
            let response = router_of_nothing().call(request).await.unwrap();
            assert_eq!(response.status(), 501);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["code"], "unknown_error");
            let message = body["message"].as_str().unwrap();
            assert!(message.contains("--services "), "{message}");
        }
    }
}
