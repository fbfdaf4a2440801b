//! The listening socket: binding it, and accepting for as long as it lives.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::metrics::Crowded;
use crate::server::connection::Host;
use crate::server::limits::Admission;
use crate::server::throttle::Throttle;

/// Connections that may wait to be accepted; the kernel may allow fewer
/// (`net.core.somaxconn`). gost's HTTP plugin opens them in bursts.
const BACKLOG: u32 = 4_096;

/// How long nothing is accepted after the process has run out of files or
/// memory: trying at once would only burn CPU.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A vanished host is noticed after 60 s + 3 × 15 s; HTTP/2's own ping is
/// quicker.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error(
        "{0} is already in use; end the process that listens there (`ss -ltnp` shows it), or choose another address with --listen"
    )]
    InUse(SocketAddr),
    /// The port needs a privilege.
    #[error("{0} may not be used; choose a port above 1023 with --listen")]
    Forbidden(SocketAddr),
    /// No interface has the address.
    #[error("{0} is not an address of this host; choose one with --listen, or 0.0.0.0 for all")]
    NotHere(SocketAddr),
    /// Anything else.
    #[error("{0} cannot be listened on: {1}")]
    Other(SocketAddr, io::Error),
}

impl BindError {
    pub(super) fn new(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AddrInUse => Self::InUse(address),
            ErrorKind::PermissionDenied => Self::Forbidden(address),
            ErrorKind::AddrNotAvailable => Self::NotHere(address),
            _ => Self::Other(address, error),
        }
    }
}

/// Listens on `address`.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
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
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| BindError::new(address, error))
}

/// Accepts until the host is cancelled, then waits for the connections, which
/// end within the drain time.
pub(super) async fn accept(listener: TcpListener, host: Arc<Host>) {
    let admission = Admission::new(&host.limits);
    let mut connections = JoinSet::new();
    let (crowds, failures) = (Throttle::default(), Throttle::default());
    loop {
        let accepted = tokio::select! {
            () = host.cancelled.cancelled() => break,
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
                    host.cancelled
                        .run_until_cancelled(tokio::time::sleep(BACK_OFF))
                        .await;
                }
                continue;
            }
        };
        match admission.admit(peer.ip().to_canonical()) {
            Ok(permit) => {
                host.metrics.connection_opened();
                let host = Arc::clone(&host);
                connections.spawn(async move {
                    prepare(&stream);
                    host.serve(stream, peer).await;
                    drop(permit);
                });
            }
            Err(limit) => {
                drop(stream);
                host.metrics.connection_refused(limit);
                if let Some(unsaid) = crowds.admit(Instant::now()) {
                    let limits = &host.limits;
                    let mend = match limit {
                        Crowded::Total => {
                            format!("{} are open; raise --max-connections", limits.connections)
                        }
                        Crowded::Peer => format!(
                            "its host has {}; raise --max-connections-per-address",
                            limits.connections_per_peer
                        ),
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
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
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
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert!(matches!(error, BindError::InUse(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&address.to_string()) && text.contains("--listen"),
            "{text}"
        );
        let error = bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::NotHere(_)), "{error:?}");
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
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}
