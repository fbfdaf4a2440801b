//! What the sessions of a place ask for beside being reached.

use std::collections::BTreeMap;

use crate::session::engine::view::Offer;
use crate::session::header::Header;
use crate::session::options::Options;
use crate::session::registration::ServiceName;
use crate::session::traefik::model::{
    ForwardingTimeouts, HealthCheck, Middleware, Server, ServersTransport,
};
use crate::session::traefik::names;

/// How long one may take if nobody says, unless the interval is shorter:
/// Traefik's own default.
const CHECK_MS: u64 = 5_000;
/// How long a connection may take: Traefik's own default. A session's `timeout`
/// that is shorter holds for it as well.
const DIAL_MS: u64 = 30_000;
/// Idle connections to a server: what Traefik's default transport keeps. In a
/// transport of its own none would be 2.
const IDLE_CONNECTIONS: u32 = 200;
/// How often a request is tried while servers refuse connections, with the first
/// time. Others' requests take their turns in between, so that twice may meet the
/// same dead server twice.
const ATTEMPTS: u32 = 4;

/// What sessions say together: the newest that says something decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The headers, by their names in lower case.
    headers: BTreeMap<String, Header>,
    options: Options,
}

impl Told {
    /// What `offers` say, of which the oldest is the first.
    pub fn by(offers: &[&Offer]) -> Self {
        let mut told = Self::default();
        for offer in offers {
            for header in &offer.session.headers {
                let name = header.name.as_str().to_ascii_lowercase();
                told.headers.insert(name, header.clone());
            }
            told.options = newer(&offer.session.options, &told.options);
        }
        told
    }
}

/// One session's options, and an older one's where it says nothing.
fn newer(new: &Options, old: &Options) -> Options {
    Options {
        timeout_ms: new.timeout_ms.or(old.timeout_ms),
        health_check_interval_ms: new
            .health_check_interval_ms
            .or(old.health_check_interval_ms),
        health_check_timeout_ms: new.health_check_timeout_ms.or(old.health_check_timeout_ms),
        health_check_path: new
            .health_check_path
            .clone()
            .or_else(|| old.health_check_path.clone()),
        max_body_size: new.max_body_size.or(old.max_body_size),
        websocket: new.websocket.or(old.websocket),
        compression: new.compression.or(old.compression),
        http2: new.http2.or(old.http2),
        http3: new.http3.or(old.http3),
        // Of each for itself.
        weight: None,
    }
}

/// What a place has beside its router and its servers, by names.
#[derive(Debug)]
pub(super) struct Extras {
    /// The outermost first.
    pub middlewares: Vec<(String, Middleware)>,
    pub health_check: Option<HealthCheck>,
    pub transport: Option<(String, ServersTransport)>,
}

impl Extras {
    /// Of a place that `servers` serve.
    pub fn of(service: &ServiceName, told: &Told, servers: &[Server]) -> Self {
        let options = &told.options;
        let mut middlewares = Middlewares::of(service);
        middlewares.headers(told, options.websocket == Some(false));
        if options.compression == Some(true) {
            middlewares.add("compress", Middleware::Compress {});
        }
        if let Some(bytes @ 1..) = options.max_body_size {
            let max_request_body_bytes = bytes;
            let buffering = Middleware::Buffering {
                max_request_body_bytes,
            };
            middlewares.add("buffering", buffering);
        }
        if servers.len() > 1 {
            let attempts = ATTEMPTS;
            middlewares.add("retry", Middleware::Retry { attempts });
        }
        let is_secure = servers
            .iter()
            .any(|server| server.url.starts_with("https:"));
        let transport = transport(options, is_secure).map(|transport| {
            let name = names::extra(service, "transport", &format!("{transport:?}"));
            (name, transport)
        });
        Self {
            middlewares: middlewares.made,
            health_check: health_check(options),
            transport,
        }
    }

    /// Of a place that the responder of maintenance has: nothing but headers.
    pub fn of_maintenance(service: &ServiceName, told: &Told) -> Self {
        let mut middlewares = Middlewares::of(service);
        middlewares.headers(told, false);
        Self {
            middlewares: middlewares.made,
            health_check: None,
            transport: None,
        }
    }
}

/// Middlewares of a service; its places share those that are the same.
struct Middlewares<'a> {
    service: &'a ServiceName,
    made: Vec<(String, Middleware)>,
}

impl<'a> Middlewares<'a> {
    fn of(service: &'a ServiceName) -> Self {
        Self {
            service,
            made: Vec::new(),
        }
    }

    fn add(&mut self, kind: &str, middleware: Middleware) {
        let name = names::extra(self.service, kind, &format!("{middleware:?}"));
        self.made.push((name, middleware));
    }

    /// Sets headers of responses. Without websockets, a request's wish for
    /// another protocol is removed: the backend answers it as any other.
    fn headers(&mut self, told: &Told, without_upgrade: bool) {
        let upgrade = without_upgrade.then(|| ("Upgrade".to_owned(), String::new()));
        let custom_request_headers: BTreeMap<_, _> = upgrade.into_iter().collect();
        let pair = |header: &Header| {
            let (name, value) = (header.name.as_str(), header.value.as_str());
            (name.to_owned(), value.to_owned())
        };
        let custom_response_headers: BTreeMap<_, _> = told.headers.values().map(pair).collect();
        if !custom_request_headers.is_empty() || !custom_response_headers.is_empty() {
            let headers = Middleware::Headers {
                custom_request_headers,
                custom_response_headers,
            };
            self.add("headers", headers);
        }
    }
}

/// A check, if it is told what to ask for: not every backend answers `/` with
/// success, and one that does not would get no request any more.
fn health_check(options: &Options) -> Option<HealthCheck> {
    let path = options.health_check_path.as_ref()?;
    let interval = options
        .health_check_interval_ms
        .unwrap_or(Options::CHECK_EVERY_MS);
    let timeout = options.health_check_timeout_ms.unwrap_or(CHECK_MS);
    Some(HealthCheck {
        path: path.as_str().to_owned(),
        interval: milliseconds(interval),
        // Two sessions may have said what does not fit together.
        timeout: milliseconds(timeout.min(interval)),
        follow_redirects: false,
    })
}

/// A transport, if servers are to be reached in another way than by default.
fn transport(options: &Options, is_secure: bool) -> Option<ServersTransport> {
    let timeout = options.timeout_ms.filter(|timeout| *timeout > 0);
    // Over connections without TLS Traefik speaks HTTP/1.1 in any case.
    let disable_http2 = is_secure && options.http2 == Some(false);
    (timeout.is_some() || disable_http2).then(|| ServersTransport {
        max_idle_conns_per_host: IDLE_CONNECTIONS,
        disable_http2,
        forwarding_timeouts: timeout.map(|timeout| ForwardingTimeouts {
            dial_timeout: milliseconds(timeout.min(DIAL_MS)),
            response_header_timeout: milliseconds(timeout),
        }),
    })
}

fn milliseconds(time: u64) -> String {
    format!("{time}ms")
}
