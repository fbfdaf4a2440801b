//! The listening socket: binding it, and accepting for as long as it lives.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::connections::Connections;
use crate::metrics::{Crowded, Label};
use crate::registry::ConnectionId;
use crate::server::limits::{Admission, Room};
use crate::server::throttle::Throttle;

/// Connections that may wait to be accepted; the kernel may allow fewer
/// (`net.core.somaxconn`). gost's HTTP plugin opens them in bursts.
const BACKLOG: u32 = 4_096;

/// How long nothing is accepted after the process has run out of files or
/// memory: trying at once would only burn CPU.
pub(super) const BACK_OFF: Duration = Duration::from_millis(100);

/// When a host that vanished is noticed: after `after` + `retries` × `interval`
/// of silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    pub after: Duration,
    pub interval: Duration,
    pub retries: u32,
    /// How long what was sent may stay unacknowledged; none leaves that to the
    /// system, which tries for many minutes.
    pub unacknowledged: Option<Duration>,
}

/// What accepted connections are for.
pub(super) trait Serve: Send + Sync + 'static {
    /// How connections are ended, as metrics tell it.
    type Closed: Label;

    /// When a host that vanished is noticed.
    const KEEPALIVE: Keepalive;

    /// The flags that make room: in all, and for one address.
    const FLAGS: [&'static str; 2];

    /// How many are let in.
    fn room(&self) -> Room;

    /// Where they are counted. Whoever is let in counts its own end.
    fn connections(&self) -> &Connections<Self::Closed>;

    /// Cancelled when no more are to be accepted, and those that are open end.
    fn cancelled(&self) -> &CancellationToken;

    /// Serves a connection to its end.
    fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        id: ConnectionId,
    ) -> impl Future<Output = ()> + Send;
}

/// Gives each connection of the process its number.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Why an address cannot be listened on, and the flag that says where.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error(
        "{0} is already in use; end the process that listens there (`ss -ltunp` shows it), or choose another address with {1}"
    )]
    InUse(SocketAddr, &'static str),
    /// The port needs a privilege.
    #[error("{0} may not be used; choose a port above 1023 with {1}")]
    Forbidden(SocketAddr, &'static str),
    /// No interface has the address.
    #[error("{0} is not an address of this host; choose one with {1}, or 0.0.0.0 for all")]
    NotHere(SocketAddr, &'static str),
    /// Anything else.
    #[error("{0} cannot be listened on: {1}")]
    Other(SocketAddr, io::Error),
}

impl BindError {
    pub(super) fn new(address: SocketAddr, flag: &'static str, error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AddrInUse => Self::InUse(address, flag),
            ErrorKind::PermissionDenied => Self::Forbidden(address, flag),
            ErrorKind::AddrNotAvailable => Self::NotHere(address, flag),
            _ => Self::Other(address, error),
        }
    }
}

/// Listens on `address`, which `flag` has named. Returns it with the port that
/// was bound.
pub(crate) fn bind(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // Else a restart would have to wait for the old connections' TIME_WAIT.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|error| BindError::new(address, flag, error))
}

/// Accepts until the host is cancelled, then waits for the connections, which
/// end within the drain time.
pub(super) async fn accept<S: Serve>(listener: TcpListener, host: Arc<S>) {
    let room = host.room();
    let admission = Admission::new(room);
    let mut connections = JoinSet::new();
    let (crowds, failures) = (Throttle::default(), Throttle::default());
    loop {
        let accepted = tokio::select! {
            () = host.cancelled().cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed; please report this");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(unsaid) = failures.admit(Instant::now()) {
                    tracing::error!(%error, unsaid, "a connection could not be accepted");
                }
                if is_exhaustion(&error) {
                    host.cancelled()
                        .run_until_cancelled(tokio::time::sleep(BACK_OFF))
                        .await;
                }
                continue;
            }
        };
        match admission.admit(peer.ip().to_canonical()) {
            Ok(permit) => {
                host.connections().opened();
                let host = Arc::clone(&host);
                let id = ConnectionId(NUMBER.fetch_add(1, Ordering::Relaxed));
                connections.spawn(async move {
                    prepare(&stream, S::KEEPALIVE);
                    host.serve(stream, peer, id).await;
                    drop(permit);
                });
            }
            Err(limit) => {
                drop(stream);
                host.connections().refused(limit);
                if let Some(unsaid) = crowds.admit(Instant::now()) {
                    let [total, per_peer] = S::FLAGS;
                    let mend = match limit {
                        Crowded::Total => format!("{} are open; raise {total}", room.total),
                        Crowded::Peer => {
                            format!("its host has {}; raise {per_peer}", room.per_peer)
                        }
                    };
                    tracing::warn!(%peer, unsaid, "a connection was refused: {mend}");
                }
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a connection's task failed; please report this");
        }
    }
}

/// Whether accepting again at once would fail again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    // What accept(2) says of a connection that broke before it was accepted.
    !matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::WouldBlock
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::TimedOut
    )
}

/// Answers are small and wanted at once; a dead peer must not stay for ever.
fn prepare(stream: &TcpStream, keepalive: Keepalive) {
    let times = TcpKeepalive::new()
        .with_time(keepalive.after)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.retries);
    let socket = SockRef::from(stream);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&times));
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| match keepalive.unacknowledged {
        None => Ok(()),
        time => socket.set_tcp_user_timeout(time),
    });
    if let Err(error) = set {
        // The connection works without them, or is gone already.
        tracing::debug!(%error, "socket options");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let (_first, address) = bind("127.0.0.1:0".parse().unwrap(), "--here").unwrap();
        let error = bind(address, "--here").unwrap_err();
        assert!(matches!(error, BindError::InUse(..)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&address.to_string()) && text.contains("--here"),
            "{text}"
        );
        let error = bind("192.0.2.1:0".parse().unwrap(), "--here").unwrap_err();
        assert!(matches!(error, BindError::NotHere(..)), "{error:?}");
    }

    #[test]
    fn only_what_would_fail_again_is_waited_out() {
        // EMFILE, ENFILE, ENOMEM, ENOBUFS
        for errno in [24, 23, 12, 105] {
            assert!(
                is_exhaustion(&io::Error::from_raw_os_error(errno)),
                "{errno}"
            );
        }
        // ECONNABORTED, EINTR, EHOSTUNREACH
        for errno in [103, 4, 113] {
            assert!(
                !is_exhaustion(&io::Error::from_raw_os_error(errno)),
                "{errno}"
            );
        }
    }

    #[tokio::test]
    async fn sockets_are_prepared() {
        let (listener, address) = bind("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let keepalive = Keepalive {
            after: Duration::from_secs(7),
            interval: Duration::from_secs(8),
            retries: 9,
            unacknowledged: Some(Duration::from_secs(10)),
        };
        prepare(&stream, keepalive);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.after);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), keepalive.retries);
        assert_eq!(socket.tcp_user_timeout().unwrap(), keepalive.unacknowledged);
    }
}
