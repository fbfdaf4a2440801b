//! The listener: accepting, bounding, and knowing connections.
//!
//! One port speaks HTTP/1.1 and gRPC: over TLS by ALPN, else by HTTP/2's
//! preface. Each connection is one task under one token; what it carries goes
//! to [`Gost`].

pub mod auth;
mod batch;
mod connection;
pub mod dns;
pub mod limits;
mod listener;
pub mod reload;
pub mod session;
mod stream;
pub(crate) mod throttle;
pub mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use connection::Lasting;
pub use limits::Limits;
pub use listener::BindError;
pub(crate) use listener::bind;

use crate::gost::{Gost, Health, IsBeside};
use crate::metrics::Metrics;
use crate::registry::Registry;
use auth::Access;
use tls::Tls;

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The addresses of the pod that this process runs in, the preferred one
    /// first; none outside a pod.
    pub pod_ips: Arc<[IpAddr]>,
    /// The bounds.
    pub limits: Limits,
    /// Who may call. Whoever made it runs [`Access::watch`].
    pub access: Arc<Access>,
    /// TLS; without it everything is in clear. Whoever made it runs
    /// [`Tls::watch`].
    pub tls: Option<Arc<Tls>>,
}

/// A listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    health: Health,
    further: Router,
    beside: Option<(Router, IsBeside)>,
}

impl Server {
    /// Binds the address. Connections queue up until [`Server::run`].
    ///
    /// # Errors
    /// When the address cannot be had; the error says what to do.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let (listener, address) = listener::bind(config.listen, "--listen")?;
        Ok(Self {
            listener,
            address,
            config,
            health: Health::new().await,
            further: Router::new(),
            beside: None,
        })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What gRPC health checks are told: not serving until somebody says so.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves further HTTP paths than gost's, for the same callers.
    #[must_use]
    pub fn also(mut self, paths: Router) -> Self {
        self.further = self.further.merge(paths);
        self
    }

    /// Serves paths beside gost's, whose routes say themselves who may call. A
    /// request for one of them has [`Lasting`] among its extensions.
    #[must_use]
    pub fn beside(mut self, paths: Router, is_theirs: IsBeside) -> Self {
        self.beside = Some((paths, is_theirs));
        self
    }

    /// Serves until cancelled. Then it stops accepting, answers what is in
    /// flight, and cuts what is left after [`Limits::drain`].
    pub async fn run(
        self,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        cancelled: CancellationToken,
    ) {
        let gost = Gost::new(
            Arc::clone(&registry),
            Arc::clone(&metrics),
            self.config.access,
            Arc::clone(&self.config.pod_ips),
            &self.health,
            self.config.limits.request,
        )
        .also(self.further)
        .beside(self.beside);
        let host = connection::Host {
            gost,
            registry,
            metrics,
            limits: self.config.limits,
            pod_ips: self.config.pod_ips,
            tls: self.config.tls,
            cancelled,
            bad_handshakes: throttle::Throttle::default(),
        };
        listener::accept(self.listener, Arc::new(host)).await;
    }
}

/// What the user should know about who can reach `listen`; none if that is as
/// it should be.
#[must_use]
pub fn exposure(listen: SocketAddr, token: bool, tls: bool, client_ca: bool) -> Option<String> {
    if listen.ip().to_canonical().is_loopback() {
        return None;
    }
    let why = match (token, tls) {
        (false, false) => {
            "without a token and without TLS: whoever reaches it can redirect every tunnel; set --token-file and --tls-cert with --tls-key, or listen on 127.0.0.1"
        }
        (true, false) => {
            "without TLS: the token crosses the network in clear; set --tls-cert and --tls-key, or listen on 127.0.0.1"
        }
        (false, true) if !client_ca => {
            "without a token: whoever reaches it can redirect every tunnel; set --token-file or --tls-client-ca"
        }
        _ => return None,
    };
    Some(format!("{listen} is open to other hosts {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_to_others_is_told() {
        let told = |listen: &str, token, tls, ca| exposure(listen.parse().unwrap(), token, tls, ca);
        for loopback in ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"] {
            assert_eq!(told(loopback, false, false, false), None);
        }
        for open in ["0.0.0.0:8000", "[::]:8000", "10.0.0.1:8000"] {
            let says = |text: Option<String>, part| text.is_some_and(|text| text.contains(part));
            assert!(says(
                told(open, false, false, false),
                "without a token and without TLS"
            ));
            assert!(says(told(open, true, false, false), "in clear"));
            assert!(says(told(open, false, true, false), "without a token:"));
            assert_eq!(told(open, false, true, true), None);
            assert_eq!(told(open, true, true, false), None);
        }
    }
}
