//! The session listener: connections on which backends announce themselves, line
//! by line, to [`Sessions`].
//!
//! Each connection is one task. While it is silent it holds no buffer: there are
//! as many as there are backends, and they are silent for hours.

mod connection;
pub mod policy;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::server::listener::{self, BindError};
use crate::server::throttle::Throttle;
use crate::server::tls::Tls;
use crate::session::Sessions;
use policy::PolicyFile;

/// The bounds of the session listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. One that is silent needs about 4 KiB; much more
    /// over TLS.
    pub connections: usize,
    /// Connections open at once from one IP address. A load balancer may stand
    /// before all of them.
    pub connections_per_peer: usize,
    /// From a line's first byte to its line feed.
    pub line: Duration,
    /// Without a session and without a command a connection is closed after this
    /// long, at the latest twice this after it has lost its session.
    pub idle: Duration,
    /// Until the peer takes an answer.
    pub write: Duration,
    /// The TLS handshake.
    pub tls_handshake: Duration,
    /// What is in flight when the listener is stopped has this long. More than
    /// the 4 s that a command may take.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: 4_096,
            line: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            write: Duration::from_secs(10),
            tls_handshake: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// What the session listener needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The bounds.
    pub limits: Limits,
    /// Who may register what; without it everybody anything. Whoever made it
    /// runs [`PolicyFile::watch`].
    pub policy: Option<Arc<PolicyFile>>,
    /// TLS; without it everything is in clear. Whoever made it runs
    /// [`Tls::watch`].
    pub tls: Option<Arc<Tls>>,
}

/// A session listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct SessionServer {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

impl SessionServer {
    /// Binds the address. Connections queue up until [`SessionServer::run`].
    ///
    /// # Errors
    /// When the address cannot be had; the error says what to do.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let (listener, address) = listener::bind(config.listen, "--session-listen")?;
        Ok(Self {
            listener,
            address,
            config,
        })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until cancelled. Then it stops accepting, answers what is in
    /// flight, and cuts what is left after [`Limits::drain`]. Sessions whose
    /// connections end by that go on: their clients come back, here or at another
    /// replica.
    pub async fn run(
        self,
        sessions: Arc<Sessions>,
        metrics: Arc<Metrics>,
        cancelled: CancellationToken,
    ) {
        let host = connection::Host {
            sessions,
            metrics,
            limits: self.config.limits,
            policy: self.config.policy,
            tls: self.config.tls,
            cancelled,
            bad_handshakes: Throttle::default(),
            refusals: Throttle::default(),
        };
        listener::accept(self.listener, Arc::new(host)).await;
    }
}

/// What the user should know about who can reach `listen`; none if that is as
/// it should be.
#[must_use]
pub fn exposure(listen: SocketAddr, policy: bool, tls: bool, client_ca: bool) -> Option<String> {
    if listen.ip().to_canonical().is_loopback() {
        return None;
    }
    let why = match (policy || client_ca, tls) {
        (false, _) => {
            "without a policy: whoever reaches it can take any domain; set --session-policy-file or --session-tls-client-ca, or listen on 127.0.0.1"
        }
        (true, false) => {
            "without TLS: the ids of sessions cross the network in clear, and who has one can change its routes; set --session-tls-cert and --session-tls-key, or listen on 127.0.0.1"
        }
        (true, true) => return None,
    };
    Some(format!(
        "--session-listen {listen} is open to other hosts {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_to_others_is_told() {
        let told =
            |listen: &str, policy, tls, ca| exposure(listen.parse().unwrap(), policy, tls, ca);
        for loopback in ["127.0.0.1:8181", "[::1]:8181", "[::ffff:127.0.0.1]:8181"] {
            assert_eq!(told(loopback, false, false, false), None);
        }
        for open in ["0.0.0.0:81", "[::]:81", "10.0.0.1:81"] {
            let says = |text: Option<String>, part| text.is_some_and(|text| text.contains(part));
            assert!(says(told(open, false, false, false), "without a policy"));
            assert!(says(told(open, false, true, false), "without a policy"));
            assert!(says(told(open, true, false, false), "in clear"));
            assert_eq!(told(open, true, true, false), None);
            assert_eq!(told(open, false, true, true), None);
        }
    }

    #[test]
    fn what_is_in_flight_can_be_answered_while_it_drains() {
        assert!(Limits::default().drain > crate::session::engine::ANSWER_WITHIN);
    }
}
