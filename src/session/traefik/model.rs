//! Traefik's dynamic configuration, as far as sessions need it; the names are
//! Traefik's (`pkg/config/dynamic` of 3.6).
//!
//! Traefik refuses a map that is there and empty ("cannot be a standalone
//! element"), and keeps what it had before. The empty document `{}` it takes,
//! and then has no route.

use std::collections::BTreeMap;

use serde::Serialize;

/// The whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// What is done with HTTP.
    #[serde(skip_serializing_if = "Http::is_empty")]
    pub http: Http,
}

/// What is done with HTTP, everything by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Which requests go where.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routers: BTreeMap<String, Router>,
    /// Who serves them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// What is changed on the way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub middlewares: BTreeMap<String, Middleware>,
    /// How servers are reached.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers_transports: BTreeMap<String, ServersTransport>,
}

impl Http {
    fn is_empty(&self) -> bool {
        self.routers.is_empty()
            && self.services.is_empty()
            && self.middlewares.is_empty()
            && self.servers_transports.is_empty()
    }
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Router {
    /// Which requests.
    pub rule: String,
    /// Of several routers whose rules fit, the highest priority has a request.
    pub priority: u32,
    /// Where they go.
    pub service: String,
    /// What is changed on the way, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<String>,
}

/// Who serves requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Servers, in turn.
    pub load_balancer: LoadBalancer,
}

impl Service {
    pub(super) fn of(load_balancer: LoadBalancer) -> Self {
        Self { load_balancer }
    }
}

/// Servers that are asked in turn, by their weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The servers. Without one Traefik answers 503.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// How they are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Whether they are told the host that the client asked for.
    pub pass_host_header: bool,
    /// How they are reached, if not as everybody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers_transport: Option<String>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Where it is.
    pub url: String,
    /// Its share, in relation to the others'.
    pub weight: u32,
    /// Whether the path of its URL comes before that of each request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preserve_path: bool,
}

/// A check of servers: they live while they answer 200 to 399.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked for.
    pub path: String,
    /// How often, such as `30000ms`.
    pub interval: String,
    /// How long an answer may take.
    pub timeout: String,
    /// Whether a redirection is followed. It is an answer as well, and may lead
    /// anywhere.
    pub follow_redirects: bool,
}

/// What is changed on the way; one of its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Middleware {
    /// Headers are set.
    #[serde(rename_all = "camelCase")]
    Headers {
        /// Those of requests; an empty one is removed.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        custom_request_headers: BTreeMap<String, String>,
        /// Those of responses.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        custom_response_headers: BTreeMap<String, String>,
    },
    /// Responses are compressed.
    Compress {},
    /// Bodies are bounded. For that Traefik keeps requests and responses until
    /// they are whole, beyond 1 MiB on its disk.
    #[serde(rename_all = "camelCase")]
    Buffering {
        /// The most bytes of a request's body; more is answered 413.
        max_request_body_bytes: u64,
    },
    /// A request of which a server has not heard yet goes to the next one.
    Retry {
        /// How often it is tried, with the first time.
        attempts: u32,
    },
}

/// How servers are reached. It stands in place of Traefik's default transport,
/// of which it inherits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServersTransport {
    /// How many idle connections are kept to each.
    pub max_idle_conns_per_host: u32,
    /// Whether HTTP/2 is not spoken.
    #[serde(rename = "disableHTTP2", skip_serializing_if = "std::ops::Not::not")]
    pub disable_http2: bool,
    /// How long things may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding_timeouts: Option<ForwardingTimeouts>,
}

/// How long servers may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardingTimeouts {
    /// Until a connection is there.
    pub dial_timeout: String,
    /// From the end of a request to the head of its response.
    pub response_header_timeout: String,
}
