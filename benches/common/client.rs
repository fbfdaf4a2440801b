//! Connections to a server, with as little between the load and the socket as
//! hyper allows.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::wire::{Endpoint, Protocol, Request};
use super::{Error, Result};

/// How long a single call or page may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Open connections and those who call through them. Dropping it closes them.
#[derive(Debug)]
pub struct Client {
    /// Each makes one call at a time.
    pub callers: Vec<Caller>,
    /// One task a connection; they end with the set.
    _connections: JoinSet<()>,
}

impl Client {
    /// Connects `callers` callers. Over gRPC they share `connections`
    /// connections (a gost has one); over HTTP each has its own, kept alive.
    pub async fn connect(
        protocol: Protocol,
        at: SocketAddr,
        callers: usize,
        connections: usize,
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let callers = match protocol {
            Protocol::Grpc => {
                let mut shared = Vec::new();
                for _ in 0..connections.clamp(1, callers.max(1)) {
                    let (sender, connection) =
                        http2::handshake(TokioExecutor::new(), dial(at).await?).await?;
                    // What ends a connection early fails the calls on it.
                    tasks.spawn(async move { drop(connection.await) });
                    shared.push(sender);
                }
                let turns = shared.iter().cycle().take(callers);
                turns.map(|sender| Caller::Http2(sender.clone())).collect()
            }
            Protocol::Http => {
                let mut own = Vec::new();
                for _ in 0..callers {
                    let (sender, connection) = http1::handshake(dial(at).await?).await?;
                    tasks.spawn(async move { drop(connection.await) });
                    own.push(Caller::Http1(sender));
                }
                own
            }
        };
        Ok(Self {
            callers,
            _connections: tasks,
        })
    }
}

async fn dial(at: SocketAddr) -> Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// Makes one call at a time.
#[derive(Debug)]
pub enum Caller {
    /// Over a connection of its own.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// As one stream among others.
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    /// Makes a call and returns the reply's body.
    pub async fn send(&mut self, request: &Request) -> Result<Bytes> {
        let (method, uri, headers) = request.head();
        let mut outgoing = http::Request::new(Full::new(request.body()));
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = headers;
        let (response, grpc) = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                (sender.send_request(outgoing).await?, false)
            }
            Self::Http2(sender) => (sender.send_request(outgoing).await?, true),
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        if grpc {
            // An error that is found early is told in the head alone.
            let status = body.trailers().and_then(told).or(told(&head.headers));
            if status != Some("0") {
                let told = body.trailers().unwrap_or(&head.headers);
                return Err(format!("the call failed: {told:?}").into());
            }
        }
        let body = body.to_bytes();
        if head.status != StatusCode::OK {
            return Err(refused(head.status, &body));
        }
        Ok(body)
    }

    /// Makes a call and checks the reply; Get returns what it lists.
    pub async fn call(&mut self, request: &Request) -> Result<Vec<Endpoint>> {
        let body = timeout(ANSWER_WITHIN, self.send(request)).await??;
        request.check(&body)
    }

    /// Makes a call; Get returns what it lists, however much that is.
    pub async fn ask(&mut self, request: &Request) -> Result<Vec<Endpoint>> {
        let body = timeout(ANSWER_WITHIN, self.send(request)).await??;
        request.services(&body)
    }
}

fn told(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

fn refused(status: StatusCode, body: &Bytes) -> Error {
    format!("answered {status}: {}", String::from_utf8_lossy(body)).into()
}

/// Fetches a page of an admin port: its status and text.
pub async fn fetch(at: SocketAddr, path: &'static str) -> Result<(StatusCode, String)> {
    let (mut sender, connection) = http1::handshake(dial(at).await?).await?;
    let mut task = JoinSet::new();
    task.spawn(async move { drop(connection.await) });
    let request = http::Request::get(path)
        .header(http::header::HOST, at.to_string())
        .body(Full::<Bytes>::default())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(ANSWER_WITHIN, answer).await?
}
