//! Requests, to whichever server answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout};

use crate::Error;
use crate::error::causes;
use crate::pause::Pauses;
use crate::token::Token;

/// The longest answer, in bytes: 10,000 instances with attributes of some KiB each.
const MAX_ANSWER: usize = 64 << 20;
/// How long a connection is kept that nobody uses: less than the registry keeps it.
const IDLE: Duration = Duration::from_secs(60);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const AGENT: HeaderValue = HeaderValue::from_static(concat!(
    "tunnel-registry-client/",
    env!("CARGO_PKG_VERSION")
));

/// What a transport is made of; as [`Builder`](crate::Builder) says.
pub(crate) struct Setup {
    pub servers: Vec<String>,
    pub token: Token,
    pub tls: ClientConfig,
    pub timeout: Duration,
    pub patience: Duration,
    pub silence: Duration,
}

/// The way to the servers.
#[derive(Debug)]
pub(crate) struct Transport {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// URLs without a path.
    servers: Vec<String>,
    /// The server that answered last.
    current: AtomicUsize,
    token: Token,
    timeout: Duration,
    patience: Duration,
    /// How long a stream may be silent.
    pub silence: Duration,
}

/// Whether a request is made again that may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It comes to the same.
    Always,
    /// The answer would be another one.
    Never,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub method: Method,
    pub path: String,
    pub body: Bytes,
    pub again: Again,
}

/// An answer that goes on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub body: Incoming,
    /// Which server sends it.
    pub server: usize,
}

/// What is made of an answer of 200.
trait Answer: Sized {
    /// The media type that is asked for.
    const KIND: HeaderValue;

    fn take(
        response: Response<Incoming>,
        url: &str,
        server: usize,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

impl Answer for Bytes {
    const KIND: HeaderValue = JSON;

    async fn take(response: Response<Incoming>, url: &str, _: usize) -> Result<Self, Error> {
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| Error::lost(url, &*error))?;
        Ok(body.to_bytes())
    }
}

impl Answer for Opened {
    const KIND: HeaderValue = EVENTS;

    async fn take(response: Response<Incoming>, url: &str, server: usize) -> Result<Self, Error> {
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let wrong = format!("a stream was asked for, {kind:?} is answered");
            return Err(Error::of_body(url, &wrong));
        }
        let body = response.into_body();
        Ok(Self { body, server })
    }
}

impl Transport {
    pub fn new(setup: Setup) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(setup.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(setup.tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // Its tasks drive one connection each, and end with them.
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self {
            http,
            servers: setup.servers,
            current: AtomicUsize::new(0),
            token: setup.token,
            timeout: setup.timeout,
            patience: setup.patience,
            silence: setup.silence,
        }
    }

    /// The URL of a server.
    pub fn url(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", String::as_str)
    }

    /// The answer to a call, which is made again for as long as nobody answers and
    /// there is patience.
    pub async fn call(&self, call: &Call) -> Result<Bytes, Error> {
        let end = Instant::now() + self.patience;
        let mut pauses = Pauses::default();
        loop {
            let error = match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = pauses.next(fastrand::f64());
            if !may_be_repeated(call, &error) || Instant::now() + pause > end {
                return Err(error);
            }
            tracing::debug!(%error, path = call.path, "a call is made again");
            sleep(pause).await;
        }
    }

    /// The answer to a call, for which each server is asked once.
    pub async fn once(&self, call: &Call) -> Result<Bytes, Error> {
        self.ask_each(call).await
    }

    /// Begins a stream of events; each server is asked once.
    pub async fn open(&self, path: &str) -> Result<Opened, Error> {
        let call = Call {
            method: Method::GET,
            path: path.to_owned(),
            body: Bytes::new(),
            again: Again::Always,
        };
        self.ask_each(&call).await
    }

    /// A server has ceased to answer: the next one is asked first.
    pub fn leave(&self, server: usize) {
        let next = (server + 1) % self.servers.len();
        // Unless somebody else has found one that answers.
        let _left =
            self.current
                .compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks one server after the other, for as long as trying helps.
    async fn ask_each<A: Answer>(&self, call: &Call) -> Result<A, Error> {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.servers.len());
        let mut failure = None;
        for server in (0..count).map(|n| (first + n) % count) {
            let asked = timeout(self.timeout, self.ask(server, call)).await;
            let error = match asked {
                Ok(Ok(answer)) => {
                    self.current.store(server, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) => error,
                Err(_) => Error::Late {
                    server: self.url(server).to_owned(),
                    after: self.timeout,
                },
            };
            if !may_be_repeated(call, &error) {
                return Err(error);
            }
            failure = Some(match (failure, error) {
                // What a server said tells more than that another one is away.
                (Some(former), Error::Unreachable { .. })
                    if !matches!(former, Error::Unreachable { .. }) =>
                {
                    former
                }
                (_, Error::Unreachable { reason, .. }) => Error::Unreachable {
                    servers: self.servers.join(", "),
                    reason,
                },
                (_, error) => error,
            });
        }
        Err(failure.unwrap_or_else(|| Error::Unreachable {
            servers: String::new(),
            reason: "there is no server".into(),
        }))
    }

    async fn ask<A: Answer>(&self, server: usize, call: &Call) -> Result<A, Error> {
        let response = self.send(server, call, A::KIND).await?;
        A::take(response, self.url(server), server).await
    }

    /// One request to one server; its answer, if that is 200.
    async fn send(
        &self,
        server: usize,
        call: &Call,
        accept: HeaderValue,
    ) -> Result<Response<Incoming>, Error> {
        let url = self.url(server);
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{url}{}", call.path))
            .header(ACCEPT, accept)
            .header(USER_AGENT, AGENT);
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        if let Some(token) = self.token.header().await? {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(call.body.clone()));
        let request = request.map_err(|error| Error::of_body(url, &error))?;
        let response = self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                Error::Unreachable {
                    servers: url.to_owned(),
                    reason: reason(&error),
                }
            } else {
                Error::lost(url, &error)
            }
        })?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = Bytes::take(response, url, server).await?;
        Err(Error::of_answer(url, status, &body))
    }
}

/// Why no connection came about, without hyper's own words around it.
fn reason(error: &legacy::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), causes)
}

fn may_be_repeated(call: &Call, error: &Error) -> bool {
    error.is_temporary() && (call.again == Again::Always || error.is_unsent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_not_done_again_where_that_matters() {
        let call = |again| Call {
            method: Method::PUT,
            path: "/".into(),
            body: Bytes::new(),
            again,
        };
        let unreachable = Error::Unreachable {
            servers: String::new(),
            reason: String::new(),
        };
        let lost = Error::Lost {
            server: String::new(),
            reason: String::new(),
        };
        let late = Error::Late {
            server: String::new(),
            after: Duration::ZERO,
        };
        let refused = |status: u16, retry: bool| {
            let body = format!(r#"{{"code":"unknown_error","message":"m","retry":{retry}}}"#);
            Error::of_answer("", status.try_into().unwrap(), body.as_bytes())
        };
        for (error, always, never) in [
            (unreachable, true, true),
            (lost, true, false),
            (late, true, false),
            (refused(429, true), true, true),
            // The store may take it yet.
            (refused(503, true), true, false),
            (refused(500, false), false, false),
            (Error::Name(String::new()), false, false),
        ] {
            let may = |again| may_be_repeated(&call(again), &error);
            assert_eq!(
                (may(Again::Always), may(Again::Never)),
                (always, never),
                "{error:?}"
            );
        }
    }
}
