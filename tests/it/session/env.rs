//! A session listener in this process, and clients that speak to it line by line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnel_registry::backend::file::File;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::backend::{Backend, Change, Revision, WatchError, Write, WriteError};
use tunnel_registry::metrics::Metrics;
use tunnel_registry::metrics::sessions::SessionFigures;
use tunnel_registry::server::session::{Config, Limits, SessionServer};
use tunnel_registry::session::engine::Setup;
use tunnel_registry::session::engine::view::{Session, State};
use tunnel_registry::session::{SessionKey, Sessions};
use tunnel_registry::{upkeep, writeback};

use crate::process::{PATIENCE, folder, until, value};
use crate::testenv;

/// As soon as can be.
pub const SOON: Duration = Duration::from_millis(20);

pub const REGISTER: &str = "REGISTER|api-service|api-v2|9000|9001";

/// How an environment is set up.
pub struct Plan {
    pub config: Config,
    pub setup: Setup,
}

impl Plan {
    pub fn usual() -> Self {
        Self {
            config: Config {
                listen: "127.0.0.1:0".parse().unwrap(),
                // Only what a test asks for has an end that it could meet.
                limits: Limits {
                    line: testenv::NEVER,
                    idle: testenv::NEVER,
                    write: testenv::NEVER,
                    tls_handshake: testenv::NEVER,
                    ..Limits::default()
                },
                policy: None,
                tls: None,
            },
            setup: Setup {
                identity: "test".into(),
                shared: false,
                grace: testenv::NEVER,
                sessions: 1_000,
                seed: 1,
            },
        }
    }
}

/// A running session listener.
pub struct Env {
    pub address: SocketAddr,
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
    /// Whether its store hangs.
    pub hangs: watch::Sender<bool>,
    /// What ends the listener, and only that.
    pub cancelled: CancellationToken,
    listening: JoinSet<()>,
    _tasks: JoinSet<()>,
    pub folder: TempDir,
}

impl Env {
    /// One on each store that a process may have for itself.
    pub async fn each(change: impl Fn(&mut Plan)) -> [Self; 2] {
        let folder = folder();
        let file = File::open(folder.path().join("registry.redb")).unwrap();
        let mut plan = Plan::usual();
        change(&mut plan);
        let on_file = Self::start(plan, Arc::new(file), folder).await;
        [Self::one(change).await, on_file]
    }

    /// One on the memory store.
    pub async fn one(change: impl Fn(&mut Plan)) -> Self {
        let mut plan = Plan::usual();
        change(&mut plan);
        Self::start(plan, Arc::new(Memory::new()), folder()).await
    }

    /// One on a store that hangs while it is told so.
    pub async fn hanging(change: impl Fn(&mut Plan)) -> Self {
        let mut plan = Plan::usual();
        change(&mut plan);
        let hangs = watch::Sender::new(false);
        let store = Hanging {
            inner: Arc::new(Memory::new()),
            hangs: hangs.clone(),
        };
        let mut env = Self::start(plan, Arc::new(store), folder()).await;
        env.hangs = hangs;
        env
    }

    async fn start(plan: Plan, backend: Arc<dyn Backend>, folder: TempDir) -> Self {
        let server = SessionServer::bind(plan.config.clone()).unwrap();
        let address = server.local_addr();
        let sessions = Arc::new(Sessions::new(plan.setup, &backend));
        let metrics = Arc::new(Metrics::new());
        metrics.register(Box::new(SessionFigures::new(Arc::clone(&sessions))));
        let (cancelled, never) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let registry = testenv::registry(&mut tasks, &never).await;
        tasks.spawn(upkeep::mirror(
            Arc::clone(&registry),
            Arc::clone(&sessions),
            None,
            None,
            Arc::clone(&backend),
            never.clone(),
        ));
        tasks.spawn(upkeep::sessions(
            registry,
            Arc::clone(&sessions),
            never.clone(),
        ));
        tasks.spawn({
            let (sessions, never) = (Arc::clone(&sessions), never.clone());
            async move {
                writeback::run(sessions, backend, never, Duration::ZERO).await;
            }
        });
        if let Some(policy) = plan.config.policy {
            let (metrics, never) = (Arc::clone(&metrics), never.clone());
            tasks.spawn(async move { policy.watch(&metrics, never).await });
        }
        let mut listening = JoinSet::new();
        listening.spawn(server.run(
            Arc::clone(&sessions),
            Arc::clone(&metrics),
            cancelled.clone(),
        ));
        until("the sessions are read", async || {
            sessions.is_ready().then_some(())
        })
        .await;
        Self {
            address,
            sessions,
            metrics,
            hangs: watch::Sender::new(false),
            cancelled,
            listening,
            _tasks: tasks,
            folder,
        }
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::at(self.address).await
    }

    /// A client that has registered, and its session's id.
    pub async fn registered(&self) -> (Client<TcpStream>, String) {
        let mut client = self.client().await;
        let sid = client.register(REGISTER).await;
        (client, sid)
    }

    /// A metric's value, by its name and labels as they are printed.
    pub fn metric(&self, metric: &str) -> u64 {
        value(&self.metrics.encode().unwrap(), metric)
    }

    /// Waits until so many connections have ended for a cause.
    pub async fn closed(&self, cause: &str, count: u64) {
        let name = "tunnel_registry_session_connections_closed_total";
        let metric = format!(r#"{name}{{cause="{cause}"}}"#);
        until(&metric, async || {
            (self.metric(&metric) == count).then_some(())
        })
        .await;
    }

    /// The session with an id, if there is one.
    pub fn session(&self, sid: &str) -> Option<Session> {
        let key = SessionKey::of(sid);
        let all = self.sessions.sessions();
        all.into_iter().find(|session| session.record.key == key)
    }

    /// How the session with an id lives.
    pub fn state(&self, sid: &str) -> Option<State> {
        self.session(sid).map(|session| session.state)
    }

    /// Waits until a session lives so; none for not at all.
    pub async fn until(&self, sid: &str, state: Option<State>) {
        let what = format!("the session is {state:?}");
        until(&what, async || {
            let now = self.state(sid);
            match now == state {
                true => Ok(()),
                false => Err(format!("{now:?}")),
            }
        })
        .await;
    }

    /// What is served, as text: `domain/path -> backend, backend`.
    pub fn served(&self) -> Vec<String> {
        let (_, served) = self.sessions.served();
        let line = |(place, offers): (_, Vec<_>)| {
            let backends =
                offers
                    .iter()
                    .map(|offer: &tunnel_registry::session::engine::view::Offer| {
                        offer.backend.to_string()
                    });
            let backends = backends.collect::<Vec<_>>().join(", ");
            let place: tunnel_registry::session::place::Place = place;
            format!("{place} -> {backends}")
        };
        served.into_iter().map(line).collect()
    }

    /// Asks the listener to stop.
    pub fn stop(&self) {
        self.cancelled.cancel();
    }

    /// Waits for the listener's end.
    pub async fn stopped(&mut self) {
        let all = async {
            while self
                .listening
                .join_next()
                .await
                .transpose()
                .unwrap()
                .is_some()
            {}
        };
        timeout(PATIENCE, all).await.unwrap();
    }
}

/// Answers nothing while it hangs.
#[derive(Debug)]
struct Hanging {
    inner: Arc<Memory>,
    hangs: watch::Sender<bool>,
}

impl Backend for Hanging {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        let (inner, mut hangs) = (Arc::clone(&self.inner), self.hangs.subscribe());
        Box::pin(async move {
            // Fails when the store is dropped, at the end of the test.
            let _ = hangs.wait_for(|hangs| !hangs).await;
            inner.write(write).await
        })
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        self.inner.watch()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        self.inner.ping()
    }
}

/// A client that speaks line by line.
pub struct Client<S>(pub S);

impl Client<TcpStream> {
    pub async fn at(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next line, without its end; none at the end of the stream.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = async {
            loop {
                match self.0.read_u8().await {
                    Ok(b'\n') => return Some(()),
                    Ok(byte) => line.push(byte),
                    Err(_) if line.is_empty() => return None,
                    Err(error) => panic!("{error} within a line: {line:?}"),
                }
            }
        };
        timeout(PATIENCE, read).await.unwrap()?;
        Some(String::from_utf8(line).unwrap())
    }

    /// Sends a command and reads its reply.
    pub async fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\n")).await;
        self.line().await.expect("the connection has ended")
    }

    /// Sends a command, to which this must be the reply.
    pub async fn gets(&mut self, command: &str, reply: &str) {
        assert_eq!(self.ask(command).await, reply, "{command}");
    }

    /// Registers; returns the session's id.
    pub async fn register(&mut self, command: &str) -> String {
        let reply = self.ask(command).await;
        let sid = reply.strip_prefix("ACK|");
        sid.unwrap_or_else(|| panic!("{command}: {reply}"))
            .to_owned()
    }

    /// Waits for the end of the stream; nothing may come before it.
    pub async fn ended(&mut self) {
        assert_eq!(self.line().await, None);
    }
}
