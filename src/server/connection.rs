//! One connection, from the first byte to who ended it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::header::CONNECTION;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::gost::Gost;
use crate::metrics::connections::Connections;
use crate::metrics::{Closed, Metrics};
use crate::registry::{Caller, ClosedBy, ConnectionId, Registry};
use crate::server::batch::Batch;
use crate::server::limits::{Limits, Room};
use crate::server::listener::{Keepalive, Serve};
use crate::server::stream::{Fate, Handshake, NoTransport, Side, Stream};
use crate::server::throttle::Throttle;
use crate::server::tls::Tls;

/// HTTP/2 flow control: a stream may send what a request may have, which is
/// also the protocol's own default; a connection four such at once.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// The smallest read buffer that hyper takes.
const MIN_BUFFER: usize = 8 * 1024;

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) gost: Gost,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) pod_ips: Arc<[IpAddr]>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) cancelled: CancellationToken,
    pub(super) bad_handshakes: Throttle,
}

/// Tells of a connection's end, however its task ends.
struct Open<'a> {
    host: &'a Host,
    id: ConnectionId,
    closed: Closed,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.host.metrics.connections.closed(self.closed);
        let by = match self.closed {
            Closed::Peer => ClosedBy::Peer,
            _ => ClosedBy::Registry,
        };
        self.host.registry.closed(self.id, by);
    }
}

/// The connection of a request whose answer goes on for long.
#[derive(Clone, Debug)]
pub struct Lasting(Arc<Activity>);

impl Lasting {
    /// More of the answer was taken: the connection is not idle.
    pub fn goes_on(&self) {
        self.0.call(Instant::now());
    }
}

/// When a connection had its last call.
#[derive(Debug)]
struct Activity {
    opened: Instant,
    /// Milliseconds from `opened` to the last call, plus one; 0 before any.
    last: AtomicU64,
}

impl Activity {
    fn new(opened: Instant) -> Self {
        Self {
            opened,
            last: AtomicU64::new(0),
        }
    }

    fn call(&self, now: Instant) {
        let since = now.saturating_duration_since(self.opened).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last.store(since.saturating_add(1), Ordering::Relaxed);
    }

    /// When the connection is to be ended if there is no call until then, and
    /// as what.
    fn deadline(&self, first: Option<Duration>, idle: Duration) -> (Instant, Closed) {
        match (self.last.load(Ordering::Relaxed), first) {
            (0, Some(first)) => (self.opened + first, Closed::NoRequest),
            (0, None) => (self.opened + idle, Closed::Idle),
            (last, _) => {
                let last = self.opened + Duration::from_millis(last - 1);
                (last + idle, Closed::Idle)
            }
        }
    }
}

impl Serve for Host {
    type Closed = Closed;

    // HTTP/2's own ping is quicker.
    const KEEPALIVE: Keepalive = Keepalive {
        after: Duration::from_secs(60),
        interval: Duration::from_secs(15),
        retries: 3,
        unacknowledged: None,
    };

    const FLAGS: [&'static str; 2] = ["--max-connections", "--max-connections-per-address"];

    fn room(&self) -> Room {
        Room {
            total: self.limits.connections,
            per_peer: self.limits.connections_per_peer,
        }
    }

    fn connections(&self) -> &Connections<Closed> {
        &self.metrics.connections
    }

    fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, id: ConnectionId) {
        let caller = Caller::new(id, peer.ip(), &self.pod_ips);
        let mut open = Open {
            host: &self,
            id,
            closed: Closed::Fault,
        };
        open.closed = self.converse(stream, caller).await;
        tracing::debug!(%peer, connection = id.0, cause = open.closed.as_str(), "connection ended");
    }
}

impl Host {
    /// Handshake, protocol, requests.
    async fn converse(self: &Arc<Self>, stream: TcpStream, caller: Caller) -> Closed {
        let limits = &self.limits;
        let handshake = Handshake {
            tls: self.tls.as_deref(),
            limit: limits.tls_handshake,
            failures: &self.bad_handshakes,
            cancelled: &self.cancelled,
        };
        let transport = match handshake.make(stream, caller.peer).await {
            Ok(transport) => transport,
            Err(NoTransport::Tls) => return Closed::Tls,
            Err(NoTransport::Cancelled) => return Closed::Shutdown,
        };
        let opened = Instant::now();
        let fate = Arc::new(Fate::default());
        let mut stream = Stream::new(transport, Arc::clone(&fate));
        let look = timeout(limits.first_request, stream.is_http2());
        let is_http2 = match self.cancelled.run_until_cancelled(look).await {
            None => return Closed::Shutdown,
            Some(Ok(Ok(is_http2))) => is_http2,
            Some(Ok(Err(_))) if fate.side() == Some(Side::Peer) => return Closed::Peer,
            Some(Ok(Err(_))) => return Closed::Fault,
            Some(Err(_)) => return Closed::NoRequest,
        };
        let caller = Caller {
            lasting: is_http2,
            ..caller
        };
        if is_http2 {
            self.http2(stream, caller, &fate, opened).await
        } else {
            self.http1(stream, caller, &fate, opened).await
        }
    }

    async fn http1(&self, stream: Stream, caller: Caller, fate: &Fate, opened: Instant) -> Closed {
        let limits = &self.limits;
        let activity = Arc::new(Activity::new(opened));
        let close_asked = AtomicBool::new(false);
        let service = service_fn(|mut request: Request<Incoming>| {
            activity.call(Instant::now());
            self.mark(&mut request, &activity);
            close_asked.fetch_or(asks_to_close(&request), Ordering::Relaxed);
            async move { Ok::<_, Infallible>(self.gost.answer(caller, request).await) }
        });
        let header = limits.header_bytes as usize;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Ours also covers what comes before the first byte.
            .header_read_timeout(None)
            .max_buf_size(header.max(MIN_BUFFER))
            .max_header_size(header)
            .serve_connection(TokioIo::new(stream), service);
        let watch = Watch {
            host: self,
            activity: &activity,
            first: Some(limits.first_request),
            fate,
        };
        match watch.drive(connection, None).await {
            Err(closed) => closed,
            Ok(_) if fate.side() == Some(Side::Peer) => Closed::Peer,
            // After an answer to `Connection: close` hyper does not wait for
            // the peer's end.
            Ok(Ok(())) if close_asked.into_inner() => Closed::Peer,
            Ok(_) => Closed::Fault,
        }
    }

    /// Answers to others than gost may go on for long.
    fn mark<B>(&self, request: &mut Request<B>, activity: &Arc<Activity>) {
        if self.gost.is_beside(request.uri().path()) {
            let lasting = Lasting(Arc::clone(activity));
            request.extensions_mut().insert(lasting);
        }
    }

    async fn http2(
        self: &Arc<Self>,
        stream: Stream,
        caller: Caller,
        fate: &Fate,
        opened: Instant,
    ) -> Closed {
        let limits = &self.limits;
        let batch = Batch::new();
        let activity = Arc::new(Activity::new(opened));
        let service = {
            let (host, activity) = (Arc::clone(self), Arc::clone(&activity));
            service_fn(move |mut request: Request<Incoming>| {
                activity.call(Instant::now());
                host.mark(&mut request, &activity);
                let host = Arc::clone(&host);
                async move { Ok::<_, Infallible>(host.gost.answer(caller, request).await) }
            })
        };
        let connection = http2::Builder::new(batch.clone())
            .timer(TokioTimer::new())
            .max_header_list_size(limits.header_bytes)
            .max_concurrent_streams(limits.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout)
            .serve_connection(TokioIo::new(stream), service);
        let watch = Watch {
            host: self,
            activity: &activity,
            first: None,
            fate,
        };
        let driven = watch.drive(connection, Some(&batch)).await;
        batch.end().await;
        match driven {
            Err(closed) => closed,
            // In order and not by us: the peer has sent GOAWAY.
            Ok(Ok(())) if fate.side() != Some(Side::Here) => Closed::Peer,
            Ok(Err(_)) if fate.side() == Some(Side::Peer) => Closed::Peer,
            Ok(result) => {
                tracing::debug!(peer = %caller.peer, ?result, "HTTP/2 connection");
                Closed::Fault
            }
        }
    }
}

/// Whether a request is the last one of its connection (RFC 9112 §9.3).
fn asks_to_close<B>(request: &Request<B>) -> bool {
    let option = |wanted: &str| {
        request
            .headers()
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(wanted))
    };
    option("close") || (request.version() < Version::HTTP_11 && !option("keep-alive"))
}

/// Watches over a connection while it is driven.
struct Watch<'a> {
    host: &'a Host,
    activity: &'a Activity,
    /// The time for the first request, where it is bounded.
    first: Option<Duration>,
    fate: &'a Fate,
}

impl Watch<'_> {
    /// Drives a connection to its end and returns how it ended, or why we
    /// ended it.
    async fn drive<C>(&self, connection: C, batch: Option<&Batch>) -> Result<C::Output, Closed>
    where
        C: GracefulConnection,
    {
        let limits = &self.host.limits;
        let deadline = || self.activity.deadline(self.first, limits.idle);
        let mut connection = pin!(connection);
        // A call may bring the deadline nearer, if the idle time is the shorter.
        let soonest = self.first.unwrap_or(limits.idle).min(limits.idle);
        let mut timer = pin!(sleep_until(self.activity.opened + soonest));
        let mut ours = None;
        loop {
            let polled = poll_fn(|cx| match batch {
                Some(batch) => batch.poll(connection.as_mut(), cx),
                None => connection.as_mut().poll(cx),
            });
            tokio::select! {
                biased;
                output = polled => return ours.map_or(Ok(output), Err),
                () = self.host.cancelled.cancelled(), if ours.is_none() => {
                    ours = Some(Closed::Shutdown);
                }
                () = timer.as_mut() => {
                    if let Some(closed) = ours {
                        // The drain time is over.
                        return Err(closed);
                    }
                    let (at, closed) = deadline();
                    if Instant::now() < at {
                        timer.as_mut().reset(at);
                        continue;
                    }
                    if closed == Closed::NoRequest {
                        return Err(closed);
                    }
                    ours = Some(closed);
                }
            }
            self.fate.begin(Side::Here);
            connection.as_mut().graceful_shutdown();
            timer.as_mut().reset(Instant::now() + limits.drain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_moves_the_deadline() {
        let (first, idle) = (Duration::from_secs(10), Duration::from_secs(600));
        let opened = Instant::now();
        let activity = Activity::new(opened);
        let deadline = |first| activity.deadline(first, idle);
        assert_eq!(deadline(Some(first)), (opened + first, Closed::NoRequest));
        assert_eq!(deadline(None), (opened + idle, Closed::Idle));
        activity.call(opened);
        assert_eq!(deadline(Some(first)), (opened + idle, Closed::Idle));
        let later = opened + Duration::from_millis(1_500);
        activity.call(later);
        assert_eq!(deadline(Some(first)), (later + idle, Closed::Idle));
    }

    #[test]
    fn the_last_request_says_so() {
        let asks = |version, value: Option<&str>| {
            let mut request = Request::builder().version(version);
            if let Some(value) = value {
                request = request.header(CONNECTION, value);
            }
            asks_to_close(&request.body(()).unwrap())
        };
        assert!(!asks(Version::HTTP_11, None));
        assert!(!asks(Version::HTTP_11, Some("keep-alive")));
        assert!(asks(Version::HTTP_11, Some("Close")));
        assert!(asks(Version::HTTP_11, Some("te, close")));
        assert!(asks(Version::HTTP_10, None));
        assert!(!asks(Version::HTTP_10, Some("Keep-Alive")));
    }
}
