//! The responder of maintenance: it answers 503 in place of sessions that are
//! not to be asked, with the page that their maintenance port serves.
//!
//! A proxy sends it what it would have sent to the session; the host and the
//! path of a request tell whose page is wanted (`index`), and `page` fetches it.
//! Whatever comes of that, the answer is 503: a page of our own when there is
//! none, when it is away, too slow or too large, and for hosts that nobody
//! serves.

mod index;
mod page;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::causes::Causes;
use crate::metrics::Metrics;
use crate::metrics::proxy::Shown;
use crate::server::throttle::Throttle;
use crate::server::{self, BindError};
use crate::session::serving::{Derived, Serving};
use crate::time::Now;
use index::{At, Index};
use page::Page;

/// Pages that are fetched at once; a request that finds so many gets our own.
pub const FETCHES: usize = 64;
/// How long fetching a page may take in all: looking up its host, connecting,
/// and the whole answer.
pub const FETCH_TIME: Duration = Duration::from_secs(3);
/// The longest page, in bytes.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// The most bytes of a request's body that are read, to be thrown away: who
/// sends one reads the answer only then.
const BODY_BYTES: usize = 1024 * 1024;
/// Connections at once; further ones wait in the system's queue.
const CONNECTIONS: usize = 1_024;
/// By how much what is known of sessions may be out of date. A request costs as
/// little when sessions change all the time.
const FRESH: Duration = Duration::from_millis(200);
/// What a page that says nothing tells about when to come back, in seconds.
const COME_BACK: HeaderValue = HeaderValue::from_static("30");

const OUR_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <title>Service unavailable</title>\n\
    <h1>Service unavailable</h1>\n<p>This service is not available at the moment. Please try again later.</p>\n";

/// The responder's listener: bound, and not accepting yet.
#[derive(Debug)]
pub struct Responder {
    listener: TcpListener,
    address: SocketAddr,
}

/// Whom requests are for, and how many pages are fetched.
#[derive(Debug)]
struct Pages {
    index: Derived<Index>,
    room: Semaphore,
    metrics: Arc<Metrics>,
    /// Why pages could not be had, as far as that was told lately.
    told: Mutex<Causes>,
    /// Bounds what is told of many pages at once.
    lines: Throttle,
}

impl Responder {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address cannot be had; the error says what to do.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let (listener, address) = server::bind(address, "--maintenance-listen")?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where a proxy on this host reaches it.
    #[must_use]
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Answers for the sessions that `serving` tells of, until it is asked to
    /// stop; then what is in flight, which is bounded in time.
    pub async fn run(
        self,
        serving: Arc<dyn Serving>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        serve(self.listener, Arc::new(Pages::of(serving, metrics)), stop).await;
    }
}

async fn serve(listener: TcpListener, pages: Arc<Pages>, stop: CancellationToken) {
    let router = router(pages);
    let Ok(()) =
        admin::server::serve_at_most("maintenance", CONNECTIONS, listener, router, stop).await;
}

impl Pages {
    fn of(serving: Arc<dyn Serving>, metrics: Arc<Metrics>) -> Self {
        Self {
            index: Derived::new(serving, FRESH, Index::of),
            room: Semaphore::new(FETCHES),
            metrics,
            told: Mutex::default(),
            lines: Throttle::default(),
        }
    }

    /// The page for a request if it can be had, and as what the answer counts.
    async fn page(&self, request: &page::Wanted<'_>) -> (Shown, Option<Page>) {
        let (host, path) = (request.host, request.uri.path());
        let Some(index) = self.index.get(Instant::now()) else {
            return (Shown::Unknown, None);
        };
        let Some(at) = index.find(host, path) else {
            let is_served = index.serves(host, path);
            let shown = if is_served {
                Shown::Plain
            } else {
                Shown::Unknown
            };
            return (shown, None);
        };
        match self.fetch(&at, request).await {
            Ok(page) => (Shown::Page, Some(page)),
            Err(why) => {
                self.tell(&at, &why);
                (Shown::Plain, None)
            }
        }
    }

    async fn fetch(&self, at: &At, request: &page::Wanted<'_>) -> Result<Page, String> {
        let Ok(_permit) = self.room.try_acquire() else {
            return Err(format!("{FETCHES} pages were being fetched"));
        };
        match timeout(FETCH_TIME, page::fetch(at, request)).await {
            Ok(page) => page.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it took longer than {FETCH_TIME:?}")),
        }
    }

    /// Tells why a page could not be had: each cause once a minute, and of many
    /// causes some.
    fn tell(&self, at: &At, why: &str) {
        let is_news = self
            .told
            .lock()
            .is_news(&format!("{at} {why}"), Now::read().mono);
        if is_news && let Some(unsaid) = self.lines.admit(Instant::now()) {
            tracing::warn!(%at, why, unsaid, "a maintenance page could not be fetched, so visitors get a plain one; see what serves that host and port, which REGISTER named");
        }
    }
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new().fallback(answer).with_state(pages)
}

async fn answer(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (shown, page) = match host(&head.uri, &head.headers) {
        // A page that is behind this very responder.
        Some(_) if head.headers.contains_key(page::MARK) => (Shown::Plain, None),
        None => (Shown::Unknown, None),
        Some(host) => {
            let wanted = page::Wanted {
                host,
                method: &head.method,
                uri: &head.uri,
                headers: &head.headers,
            };
            pages.page(&wanted).await
        }
    };
    discard(body).await;
    pages.metrics.proxy.shown(shown);
    respond(page)
}

/// Whom a request is for.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}

/// Reads a body to its end, as long as that is no burden.
async fn discard(mut body: Body) {
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if bytes > BODY_BYTES {
                break;
            }
        }
    };
    // Who sends so much, or so slowly, may see the connection break.
    let _ = timeout(FETCH_TIME, reading).await;
}

fn respond(page: Option<Page>) -> Response<Body> {
    let (mut headers, body) = match page {
        Some(page) => (page.headers, Body::from(page.body)),
        None => {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            (
                HeaderMap::from_iter([(CONTENT_TYPE, html)]),
                Body::from(OUR_PAGE),
            )
        }
    };
    headers.entry(RETRY_AFTER).or_insert(COME_BACK);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    *response.headers_mut() = headers;
    response
}
