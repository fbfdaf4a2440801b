//! One connection of the session listener, from the first byte to its end.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::connections::Connections;
use crate::metrics::sessions::{Answered, Asked};
use crate::metrics::{Metrics, SessionClosed};
use crate::registry::ConnectionId;
use crate::server::limits::Room;
use crate::server::listener::{Keepalive, Serve};
use crate::server::session::Limits;
use crate::server::session::policy::PolicyFile;
use crate::server::stream::{Fate, Handshake, NoTransport, Side, Stream};
use crate::server::throttle::Throttle;
use crate::server::tls::Tls;
use crate::session::policy::Client;
use crate::session::registration::ServiceName;
use crate::session::{Command, Decoder, Problem, Reply, Sessions};

/// How much is read at once, in bytes.
const READ: usize = 4_096;

/// How long a connection that is closed waits for the peer's end, so that what it
/// still sends does not reset the connection and take the last answer with it.
const LINGER: Duration = Duration::from_secs(1);

/// At most so often what is left is read then.
const LEFT_READ: usize = 64;

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) sessions: Arc<Sessions>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) policy: Option<Arc<PolicyFile>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) cancelled: CancellationToken,
    pub(super) bad_handshakes: Throttle,
    pub(super) refusals: Throttle,
}

/// Tells of a connection's end, however its task ends.
struct Open<'a> {
    host: &'a Host,
    id: ConnectionId,
    closed: SessionClosed,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.host.metrics.sessions.connections.closed(self.closed);
        // While the registry stops it is not the client that has gone.
        if !self.host.cancelled.is_cancelled() {
            self.host.sessions.closed(self.id);
        }
    }
}

impl Serve for Host {
    type Closed = SessionClosed;

    // 30 s of silence, then a minute in all: no heartbeats are sent, so this is
    // how a host that vanished is noticed.
    const KEEPALIVE: Keepalive = Keepalive {
        after: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        retries: 3,
        unacknowledged: Some(Duration::from_secs(60)),
    };

    const FLAGS: [&'static str; 2] = [
        "--session-max-connections",
        "--session-max-connections-per-address",
    ];

    fn room(&self) -> Room {
        Room {
            total: self.limits.connections,
            per_peer: self.limits.connections_per_peer,
        }
    }

    fn connections(&self) -> &Connections<SessionClosed> {
        &self.metrics.sessions.connections
    }

    fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, id: ConnectionId) {
        let mut open = Open {
            host: &self,
            id,
            closed: SessionClosed::Fault,
        };
        let drained = async {
            self.cancelled.cancelled().await;
            sleep(self.limits.drain).await;
        };
        open.closed = tokio::select! {
            closed = self.converse(stream, peer, id) => closed,
            () = drained => SessionClosed::Shutdown,
        };
        tracing::debug!(%peer, connection = id.0, cause = open.closed.as_str(), "session connection ended");
    }
}

impl Host {
    /// Handshake, commands, farewell.
    async fn converse(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        id: ConnectionId,
    ) -> SessionClosed {
        let peer = peer.ip().to_canonical();
        let handshake = Handshake {
            tls: self.tls.as_deref(),
            limit: self.limits.tls_handshake,
            failures: &self.bad_handshakes,
            cancelled: &self.cancelled,
        };
        let transport = match handshake.make(stream, peer).await {
            Ok(transport) => transport,
            Err(NoTransport::Tls) => return SessionClosed::Tls,
            Err(NoTransport::Cancelled) => return SessionClosed::Shutdown,
        };
        let client = match &self.policy {
            None => Client::at(peer),
            Some(_) => Client::with(peer, transport.peer_certificate()),
        };
        let fate = Arc::new(Fate::default());
        let conversation = Conversation {
            host: self,
            id,
            client,
            stream: Stream::new(transport, Arc::clone(&fate)),
            decoder: Decoder::default(),
            fate,
        };
        self.sessions.opened(id);
        conversation.run().await
    }

    /// Whether the policy allows a command to the client of a connection. What a
    /// connection keeps it may end, though the policy has become narrower: that
    /// only takes away.
    fn permit(&self, id: ConnectionId, client: &Client, command: &Command) -> Result<(), Problem> {
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        let service = |key| self.sessions.service(key);
        let permitted = policy.current().permit(client, command, service);
        let Err(problem) = &permitted else {
            return Ok(());
        };
        if let Command::Shutdown(key) = command
            && self.sessions.keeps(id, *key)
        {
            return Ok(());
        }
        if let Some(unsaid) = self.refusals.admit(Instant::now()) {
            let service = match command {
                Command::Register(registration) => Some(registration.instance.service.clone()),
                _ => command.session().and_then(service),
            };
            tracing::warn!(
                peer = %client.address,
                certificate = client.names.first().map(String::as_str),
                service = service.as_ref().map(ServiceName::as_str),
                unsaid,
                "the policy refused a command: {problem}"
            );
        }
        permitted
    }
}

/// A connection that carries commands.
struct Conversation<'a> {
    host: &'a Host,
    id: ConnectionId,
    client: Client,
    stream: Stream,
    decoder: Decoder,
    fate: Arc<Fate>,
}

/// Why a connection is waited on no longer.
enum Waited {
    Received(io::Result<Vec<u8>>),
    TooLong,
    Cancelled,
}

impl Conversation<'_> {
    async fn run(mut self) -> SessionClosed {
        let closed = match self.commands().await {
            Ok(closed) | Err(closed) => closed,
        };
        self.farewell(closed).await;
        closed
    }

    /// Answers commands until there is a reason to close, which it returns.
    async fn commands(&mut self) -> Result<SessionClosed, SessionClosed> {
        let limits = &self.host.limits;
        let mut last = Instant::now();
        let mut line_began = None;
        let mut held = false;
        loop {
            let until = match line_began {
                Some(began) => began + limits.line,
                None => last + limits.idle,
            };
            let waited = tokio::select! {
                biased;
                received = receive(&mut self.stream) => Waited::Received(received),
                () = self.host.cancelled.cancelled() => Waited::Cancelled,
                () = sleep_until(until) => Waited::TooLong,
            };
            match waited {
                Waited::Cancelled => return Ok(SessionClosed::Shutdown),
                Waited::Received(Err(error)) => return Ok(self.broke(&error)),
                Waited::Received(Ok(bytes)) if bytes.is_empty() => return Ok(SessionClosed::Peer),
                Waited::Received(Ok(bytes)) => {
                    let was_within = self.decoder.is_within_a_line();
                    if bytes.contains(&b'\n') || !was_within {
                        line_began = None;
                    }
                    if self.answer_all(&bytes).await? {
                        last = Instant::now();
                    }
                    if self.host.cancelled.is_cancelled() {
                        return Ok(SessionClosed::Shutdown);
                    }
                    if !self.decoder.is_within_a_line() {
                        line_began = None;
                    } else if line_began.is_none() {
                        // What came meanwhile was not looked at.
                        line_began = Some(Instant::now());
                    }
                }
                Waited::TooLong if line_began.is_some() => {
                    self.tell(Asked::Other, &Problem::ReadTimeout.into(), Instant::now())
                        .await?;
                    return Ok(SessionClosed::ReadTimeout);
                }
                Waited::TooLong => {
                    let holds = self.host.sessions.holds_a_session(self.id);
                    // It may have lost its session only now.
                    if !holds && !std::mem::replace(&mut held, holds) {
                        return Ok(SessionClosed::Idle);
                    }
                    held = holds;
                    last = Instant::now();
                }
            }
        }
    }

    /// Answers the commands that are complete, in order. Returns whether there
    /// was one.
    async fn answer_all(&mut self, mut received: &[u8]) -> Result<bool, SessionClosed> {
        let mut any = false;
        while let Some(command) = self.decoder.next(&mut received) {
            any = true;
            let began = Instant::now();
            let (asked, reply) = match command {
                Err(problem) => (Asked::refused(self.decoder.word()), problem.into()),
                Ok(command) => {
                    let asked = Asked::of(&command);
                    let reply = match self.host.permit(self.id, &self.client, &command) {
                        Ok(()) => self.host.sessions.ask(self.id, command).await,
                        Err(problem) => problem.into(),
                    };
                    (asked, reply)
                }
            };
            self.tell(asked, &reply, began).await?;
            if reply == Reply::Goodbye {
                return Err(SessionClosed::Goodbye);
            }
        }
        Ok(any)
    }

    /// Counts and sends a reply.
    async fn tell(
        &mut self,
        asked: Asked,
        reply: &Reply,
        began: Instant,
    ) -> Result<(), SessionClosed> {
        let metrics = &self.host.metrics.sessions;
        metrics.answered(asked, Answered::of(reply), began.elapsed());
        let line = reply.line();
        let written = async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await
        };
        match timeout(self.host.limits.write, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broke(&error)),
            Err(_) => Err(SessionClosed::WriteTimeout),
        }
    }

    fn broke(&self, error: &io::Error) -> SessionClosed {
        tracing::debug!(peer = %self.client.address, %error, "session connection");
        match self.fate.side() {
            Some(Side::Peer) => SessionClosed::Peer,
            _ => SessionClosed::Fault,
        }
    }

    /// Ends the connection in order, where anybody is there to see that.
    async fn farewell(&mut self, closed: SessionClosed) {
        let lingers = match closed {
            SessionClosed::Goodbye | SessionClosed::Idle | SessionClosed::ReadTimeout => true,
            SessionClosed::Peer | SessionClosed::Shutdown => false,
            _ => return,
        };
        let goodbye = async {
            self.stream.shutdown().await?;
            while lingers && !receive(&mut self.stream).await?.is_empty() {}
            Ok::<_, io::Error>(())
        };
        // A peer that is gone, or does not end its side, has had its chance.
        let _late = timeout(LINGER, goodbye).await;
        // What was received and not read would reset the connection.
        for _ in 0..LEFT_READ {
            match receive(&mut self.stream).now_or_never() {
                Some(Ok(bytes)) if !bytes.is_empty() => {}
                _ => return,
            }
        }
    }
}

/// What the peer sends next; empty at its end. Holds no memory while it waits.
async fn receive(stream: &mut Stream) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut bytes = [0; READ];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().to_vec()))
    })
    .await
}
