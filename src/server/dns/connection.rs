//! One connection that carries questions: each has its length before it (RFC 1035
//! §4.2.2), and is answered before the next one is read.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::discoverd::dns::{Known, Transport, Zone};
use crate::metrics::Metrics;
use crate::metrics::connections::Connections;
use crate::metrics::dns::DnsClosed;
use crate::registry::ConnectionId;
use crate::server::dns::{Limits, QUERY_BYTES};
use crate::server::limits::Room;
use crate::server::listener::{Keepalive, Serve};

/// What every connection needs.
pub(super) struct Host {
    pub(super) zone: Arc<Zone>,
    pub(super) known: Arc<dyn Known>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) cancelled: CancellationToken,
}

/// Counts a connection's end, however its task ends.
struct Open<'a> {
    host: &'a Host,
    closed: DnsClosed,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.host.metrics.dns.connections.closed(self.closed);
    }
}

impl Serve for Host {
    type Closed = DnsClosed;

    // Seldom needed: a silent connection is closed soon.
    const KEEPALIVE: Keepalive = Keepalive {
        after: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        retries: 3,
        unacknowledged: None,
    };

    const FLAGS: [&'static str; 2] = ["--dns-max-connections", "--dns-max-connections-per-address"];

    fn room(&self) -> Room {
        Room {
            total: self.limits.connections,
            per_peer: self.limits.connections_per_peer,
        }
    }

    fn connections(&self) -> &Connections<DnsClosed> {
        &self.metrics.dns.connections
    }

    fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, _: SocketAddr, _: ConnectionId) {
        let mut open = Open {
            host: &self,
            closed: DnsClosed::Fault,
        };
        let drained = async {
            self.cancelled.cancelled().await;
            sleep(self.limits.drain).await;
        };
        open.closed = tokio::select! {
            closed = self.converse(stream) => closed,
            () = sleep(self.limits.life) => DnsClosed::Old,
            () = drained => DnsClosed::Shutdown,
        };
    }
}

impl Host {
    async fn converse(&self, mut stream: TcpStream) -> DnsClosed {
        let mut rng = Rng::new();
        loop {
            if let Err(closed) = self.exchange(&mut stream, &mut rng).await {
                return closed;
            }
        }
    }

    /// One question and its answer. A connection that is silent holds no buffer.
    async fn exchange(&self, stream: &mut TcpStream, rng: &mut Rng) -> Result<(), DnsClosed> {
        let waiting = timeout(self.limits.idle, stream.read_u16());
        let length = match self.cancelled.run_until_cancelled(waiting).await {
            None => return Err(DnsClosed::Shutdown),
            Some(Err(_)) => return Err(DnsClosed::Idle),
            Some(Ok(Err(error))) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(DnsClosed::Peer);
            }
            Some(Ok(Err(_))) => return Err(DnsClosed::Fault),
            Some(Ok(Ok(length))) => usize::from(length),
        };
        if length > QUERY_BYTES {
            return Err(DnsClosed::Malformed);
        }
        let mut packet = vec![0; length];
        match timeout(self.limits.read, stream.read_exact(&mut packet)).await {
            Err(_) => return Err(DnsClosed::Idle),
            Ok(Err(_)) => return Err(DnsClosed::Fault),
            Ok(Ok(_)) => {}
        }
        let (answer, outcome) = self.reply(&packet, Transport::Tcp, rng);
        self.metrics.dns.asked(Transport::Tcp, outcome);
        let Some(answer) = answer else {
            return Err(DnsClosed::Malformed);
        };
        // A message has at most 64 KiB less one byte.
        let length = u16::try_from(answer.len()).map_err(|_| DnsClosed::Fault)?;
        let mut framed = Vec::with_capacity(2 + answer.len());
        framed.extend(length.to_be_bytes());
        framed.extend(answer);
        match timeout(self.limits.write, stream.write_all(&framed)).await {
            Err(_) => Err(DnsClosed::WriteTimeout),
            Ok(Err(_)) => Err(DnsClosed::Fault),
            Ok(Ok(())) => Ok(()),
        }
    }
}
