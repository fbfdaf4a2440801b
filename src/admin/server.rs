//! The admin port's listener: few connections, one short request each. Another
//! port of that kind may be served by it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at once; further ones wait in the system's queue.
pub const CONNECTIONS: usize = 256;
/// How long a connection may take until the head of its request is there.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a connection may take in all. It carries one request.
pub const WHOLE_TIME: Duration = Duration::from_secs(30);
/// How long to wait when a connection cannot be accepted: the usual reason is
/// that no more files may be open, and that takes others to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; free it, or choose another with --admin-listen")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Opens the admin port.
///
/// # Errors
/// When the system refuses, as for a port that is taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError { address, source })
}

/// Serves until it is asked to stop, then until requests in flight are answered.
///
/// # Errors
/// Never; a connection that fails is that connection's end only.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    serve_at_most("admin", CONNECTIONS, listener, router, stop).await
}

/// Serves like [`serve`], at most so many connections at once; `port` is what the
/// port is called in the log.
///
/// # Errors
/// Never.
pub(crate) async fn serve_at_most(
    port: &'static str,
    most: usize,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => note(port, ended),
            accepted = listener.accept(), if connections.len() < most => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(port, stream, router.clone(), stop.clone()));
                }
                Err(error) => {
                    warn!(%error, "the {port} port could not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note(port, ended);
    }
    Ok(())
}

fn note(port: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, port, "a connection failed");
    }
}

async fn connection(port: &str, stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let served = timeout(WHOLE_TIME, async {
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, port, "a connection broke"),
        Err(_) => debug!(port, "a connection took too long"),
    }
}

#[cfg(test)]
mod tests;
