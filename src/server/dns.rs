//! The listener for DNS, over UDP and TCP at one address: what comes is answered
//! by [`reply()`].
//!
//! It is our own and not `hickory-server`'s, which starts a task for each datagram
//! and accepts connections without a bound. Here one task answers the datagrams of
//! an address one after the other, so that a flood costs one core at most and no
//! memory; what it cannot keep up with the system drops, and clients ask again.

mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::discoverd::dns::{Known, Transport, Zone, reply};
use crate::metrics::Metrics;
use crate::metrics::dns::Outcome;
use crate::server::listener::{self, BACK_OFF, BindError};
use crate::server::throttle::Throttle;
use connection::Host;

/// The longest question, in bytes. With every option that there is it has a few
/// hundred.
const QUERY_BYTES: usize = 4_096;

/// How long an answer over UDP waits for room in the system's buffer.
const SEND: Duration = Duration::from_millis(100);

/// How often another port is tried when any will do and it is taken for one of
/// the two.
const TRIES: usize = 16;

const FLAG: &str = "--dns-listen";

/// The bounds of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Connections open at once from one IP address.
    pub connections_per_peer: usize,
    /// Without a question a connection is closed after this long.
    pub idle: Duration,
    /// From the length of a question to its end.
    pub read: Duration,
    /// Until the peer takes an answer.
    pub write: Duration,
    /// However much is asked, a connection is closed after this long.
    pub life: Duration,
    /// What is in flight when the listener is stopped has this long.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_peer: 64,
            idle: Duration::from_secs(10),
            read: Duration::from_secs(5),
            write: Duration::from_secs(5),
            life: Duration::from_secs(600),
            drain: Duration::from_secs(5),
        }
    }
}

/// A listener that is bound and does not answer yet.
#[derive(Debug)]
pub struct DnsServer {
    datagrams: UdpSocket,
    connections: TcpListener,
    address: SocketAddr,
    limits: Limits,
}

impl DnsServer {
    /// Binds the address for UDP and TCP. Port 0 takes one that is free for both.
    ///
    /// # Errors
    /// When the address cannot be had; the error says what to do.
    pub fn bind(listen: SocketAddr, limits: Limits) -> Result<Self, BindError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (connections, address) = listener::bind(listen, FLAG)?;
            match datagrams(address) {
                Ok(datagrams) => {
                    return Ok(Self {
                        datagrams,
                        connections,
                        address,
                        limits,
                    });
                }
                Err(BindError::InUse(..)) if listen.port() == 0 && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until cancelled; then what is in flight, within [`Limits::drain`].
    pub async fn run(
        self,
        zone: Arc<Zone>,
        known: Arc<dyn Known>,
        metrics: Arc<Metrics>,
        cancelled: CancellationToken,
    ) {
        let host = Arc::new(Host {
            zone,
            known,
            metrics,
            limits: self.limits,
            cancelled,
        });
        tokio::join!(
            answer_datagrams(&self.datagrams, &host),
            listener::accept(self.connections, Arc::clone(&host)),
        );
    }
}

fn datagrams(address: SocketAddr) -> Result<UdpSocket, BindError> {
    std::net::UdpSocket::bind(address)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        })
        .map_err(|error| BindError::new(address, FLAG, error))
}

async fn answer_datagrams(socket: &UdpSocket, host: &Host) {
    let mut buffer = vec![0; QUERY_BYTES];
    let mut rng = Rng::new();
    let failures = Throttle::default();
    let receiving = async {
        loop {
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    if let Some(unsaid) = failures.admit(Instant::now()) {
                        tracing::error!(%error, unsaid, "questions over DNS could not be read");
                    }
                    sleep(BACK_OFF).await;
                    continue;
                }
            };
            // Nobody is at port 0; who says so has forged it.
            let (answer, mut outcome) = match peer.port() {
                0 => (None, Outcome::Ignored),
                _ => host.reply(&buffer[..length], Transport::Udp, &mut rng),
            };
            if let Some(answer) = answer {
                let sent = timeout(SEND, socket.send_to(&answer, peer)).await;
                if !matches!(sent, Ok(Ok(_))) {
                    outcome = Outcome::Unsent;
                }
            }
            host.metrics.dns.asked(Transport::Udp, outcome);
        }
    };
    host.cancelled.run_until_cancelled(receiving).await;
}

impl Host {
    fn reply(
        &self,
        packet: &[u8],
        transport: Transport,
        rng: &mut Rng,
    ) -> (Option<Vec<u8>>, Outcome) {
        reply(&self.zone, &*self.known, packet, transport, rng)
    }
}
