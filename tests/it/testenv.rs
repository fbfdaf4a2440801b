//! A server in this process on a free port, and clients that speak to it byte
//! by byte or call by call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnel_registry::backend::Backend;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::controller::plan::own::Own;
use tunnel_registry::controller::plan::{Pace, Plan};
use tunnel_registry::discoverd::Services;
use tunnel_registry::gost::Health;
use tunnel_registry::lease::Timing;
use tunnel_registry::metrics::Metrics;
use tunnel_registry::registry::core::Setup;
use tunnel_registry::registry::{self, Registry};
use tunnel_registry::server::auth::Access;
use tunnel_registry::server::{Config, Limits, Server};
use tunnel_registry::session::{Sessions, engine};
use tunnel_registry::time::Now;
use tunnel_registry::{upkeep, vouch, writeback};

/// Nothing here takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Never, as far as a test is concerned.
pub const NEVER: Duration = Duration::from_secs(1_000_000);

pub const TUNNEL: &str = "c9ef8f8c-d687-4dca-be7a-1467b6565404";
pub const CONNECTOR: &str = "c23d4f42-c892-42b3-8b74-88ab6455d33a";
pub const NODE: &str = "db670b91-61a5-4f7c-8014-3bbe994446ea";

/// A registry on a memory store of its own that has read it, with the tasks around
/// it. The tasks end with `cancelled`.
pub async fn registry(tasks: &mut JoinSet<()>, cancelled: &CancellationToken) -> Arc<Registry> {
    let store: Arc<dyn Backend> = Arc::new(Memory::new());
    let registry = registry_on(&store, setup(), None, tasks, cancelled);
    tokio::time::timeout(PATIENCE, registry.ready())
        .await
        .unwrap();
    registry
}

/// How a registry is set up that has its store for itself.
pub fn setup() -> Setup {
    Setup {
        identity: "test".into(),
        pod: None,
        sharing: None,
        timing: Timing::default(),
        limits: registry::Limits::default(),
        seed: 1,
    }
}

/// A registry on a store, with the tasks around it and around the services in the
/// same store: the one place that makes one.
pub fn registry_on(
    store: &Arc<dyn Backend>,
    setup: Setup,
    services: Option<&Arc<Services>>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Arc<Registry> {
    let is_shared = setup.sharing.is_some();
    let registry = Arc::new(Registry::new(setup, store, Duration::from_secs(2)));
    tasks.spawn({
        let (registry, store, stop) = (registry.clone(), store.clone(), stop.clone());
        async move {
            writeback::run(registry, store, stop, Duration::ZERO).await;
        }
    });
    if is_shared {
        tasks.spawn(vouch::run(registry.clone(), store.clone(), stop.clone()));
    }
    // A store that others share is collected by others.
    let plan = (!is_shared).then(|| {
        let plan = Plan::new(Pace::default(), Now::read().mono);
        Arc::new(Mutex::new(Own::Alone(Box::new(plan))))
    });
    tasks.spawn(upkeep::mirror(
        registry.clone(),
        sessions(store),
        services.cloned(),
        plan,
        store.clone(),
        stop.clone(),
    ));
    if let Some(services) = services {
        tasks.spawn(upkeep::services(
            registry.clone(),
            services.clone(),
            stop.clone(),
        ));
        tasks.spawn(upkeep::tunnels(
            registry.clone(),
            services.clone(),
            stop.clone(),
        ));
        tasks.spawn(upkeep::service_events(services.clone(), stop.clone()));
        let (services, store, stop) = (services.clone(), store.clone(), stop.clone());
        tasks.spawn(async move {
            writeback::run(services, store, stop, PATIENCE).await;
        });
    }
    registry
}

/// The proxy sessions in a store that is this process's own.
pub fn sessions(store: &Arc<dyn Backend>) -> Arc<Sessions> {
    let setup = engine::Setup {
        identity: "test".into(),
        shared: false,
        grace: engine::Setup::GRACE,
        sessions: engine::Setup::SESSIONS,
        seed: 1,
    };
    Arc::new(Sessions::new(setup, store))
}

/// A body of gost's.
pub fn service(network: &str, address: &str) -> String {
    format!(
        r#"{{"id":"{CONNECTOR}","name":"{TUNNEL}","node":"{NODE}","network":"{network}","address":"{address}"}}"#
    )
}

/// A running server.
pub struct Env {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub health: Health,
    cancelled: CancellationToken,
    tasks: JoinSet<()>,
}

impl Env {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn limited(limits: Limits) -> Self {
        Self::start_with(|config| config.limits = limits).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            pod_ips: Arc::new([]),
            limits: Limits::default(),
            access: Arc::new(Access::everybody()),
            tls: None,
        };
        change(&mut config);
        let (access, tls) = (Arc::clone(&config.access), config.tls.clone());
        let server = Server::bind(config).await.unwrap();
        let (address, health) = (server.local_addr(), server.health());
        let metrics = Arc::new(Metrics::new());
        let cancelled = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let registry = registry(&mut tasks, &cancelled).await;
        tasks.spawn(server.run(registry, Arc::clone(&metrics), cancelled.clone()));
        {
            let (metrics, cancelled) = (Arc::clone(&metrics), cancelled.clone());
            tasks.spawn(async move { access.watch(&metrics, cancelled).await });
        }
        if let Some(tls) = tls {
            let (metrics, cancelled) = (Arc::clone(&metrics), cancelled.clone());
            tasks.spawn(async move { tls.watch(&metrics, cancelled).await });
        }
        Self {
            address,
            metrics,
            health,
            cancelled,
            tasks,
        }
    }

    /// A metric's value, by its name and labels as they are printed.
    pub fn count(&self, metric: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("{metric} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    /// Waits until a metric has a value.
    pub async fn until(&self, metric: &str, value: u64) {
        let reached = async {
            while self.count(metric) != value {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{metric} stays {}, not {value}", self.count(metric));
        }
    }

    /// How many connections ended for a cause.
    pub fn closed(cause: &str) -> String {
        format!(r#"tunnel_registry_connections_closed_total{{cause="{cause}"}}"#)
    }

    /// How many calls ended so.
    pub fn calls(method: &str, protocol: &str, outcome: &str) -> String {
        format!(
            r#"tunnel_registry_requests_total{{method="{method}",protocol="{protocol}",outcome="{outcome}"}}"#
        )
    }

    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Waits for the end of everything that was started.
    pub async fn ended(&mut self) {
        let all = async { while self.tasks.join_next().await.transpose().unwrap().is_some() {} };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
    }

    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub async fn http(&self) -> Http<TcpStream> {
        Http(self.connect().await)
    }

    pub async fn grpc(&self) -> Grpc {
        Grpc::over(self.connect().await).await
    }

    /// One request on a connection of its own.
    pub async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.http().await.send(method, path, &[], body).await
    }

    /// Who holds the tunnel, over HTTP.
    pub async fn services(&self) -> serde_json::Value {
        let answer = self.send("GET", &format!("/sd?name={TUNNEL}"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

/// An HTTP/1.1 client that hides nothing.
pub struct Http<S>(pub S);

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    /// The refusal's text.
    pub fn error(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: registry\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await;
        self.answer().await
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, self.0.read_u8())
                .await
                .unwrap();
            head.push(byte.expect("the head of an answer"));
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Answer {
            status,
            headers,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// Reads until the server ends the connection, in order or not.
    pub async fn ended(&mut self) {
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        let _ = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the connection stays open");
    }
}

/// A gRPC client that lets anything be sent.
#[derive(Clone)]
pub struct Grpc(hyper::client::conn::http2::SendRequest<Sent>);

pub type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The code: 0 is success.
    pub code: u16,
    /// The status's text, decoded.
    pub error: String,
    pub headers: http::HeaderMap,
    /// The messages, with their frames.
    pub body: Bytes,
}

impl Grpc {
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        // Ends with its sender.
        hyper::rt::Executor::execute(&TokioExecutor::new(), async {
            let _ = connection.await;
        });
        Self(sender)
    }

    /// Sends a request as it is.
    pub async fn send(&mut self, request: Request<Sent>) -> Response<Incoming> {
        tokio::time::timeout(PATIENCE, self.0.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    /// Calls with a body as it is.
    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Sent) -> Reply {
        let mut request = Request::post(format!("http://registry{path}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(body).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .unwrap()
            .unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |name| parts.headers.get(name).or(trailers.get(name));
        let text = |name| find(name).map_or("", |value| value.to_str().unwrap());
        Reply {
            code: text("grpc-status").parse().unwrap(),
            error: unescaped(text("grpc-message")),
            headers: parts.headers.clone(),
            body: body.to_bytes(),
        }
    }

    /// [`Grpc::call`], for a call that goes on beside others.
    pub async fn call_owned(mut self, path: &str, body: Sent) -> Reply {
        self.call(path, &[], body).await
    }

    /// Calls with one message.
    pub async fn unary(&mut self, method: &str, message: &impl prost::Message) -> Reply {
        let body = whole(&framed(&message.encode_to_vec()));
        self.call(&format!("/proto.SD/{method}"), &[], body).await
    }
}

/// A message with its frame.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// A body in one piece.
pub fn whole(body: &[u8]) -> Sent {
    Full::new(Bytes::copy_from_slice(body)).boxed_unsync()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let code = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(code, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}
