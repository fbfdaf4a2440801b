//! Both ends of a tunnel: a local HTTP service, and visitors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a visitor waits at most. Nothing on loopback takes this long unless
/// it hangs.
pub const VISIT: Duration = Duration::from_secs(10);

/// The longest header that a service or visitor reads.
const HEAD: usize = 8 * 1024;

/// An HTTP service that answers each request with its own name.
#[derive(Debug)]
pub struct Service {
    pub address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Service {
    pub async fn start(address: SocketAddr, name: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let length = name.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{name}"
        );
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut visitors = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                visitors.spawn(serve(stream, answer.clone()));
                while visitors.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            _serving: serving,
        }
    }
}

async fn serve(mut stream: TcpStream, answer: String) {
    // A visitor who goes away is not the service's trouble.
    if head(&mut stream).await.is_some() {
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// Reads a request's header, and nothing of what follows.
pub async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

/// Asks `host` at an entrypoint: the service's name, or what went wrong.
pub async fn visit(entrypoint: SocketAddr, host: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(entrypoint)
            .await
            .map_err(|error| error.to_string())?;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let sent = stream.write_all(request.as_bytes()).await;
        sent.map_err(|error| error.to_string())?;
        let head = head(&mut stream).await.ok_or("closed without an answer")?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200 ") {
            return Err(format!("refused: {head:?}"));
        }
        // gost does not always end the connection.
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.ok_or_else(|| format!("no length: {head:?}"))?;
        let mut body = vec![0; length.parse().map_err(|_| head.clone())?];
        let read = stream.read_exact(&mut body).await;
        read.map_err(|error| error.to_string())?;
        String::from_utf8(body).map_err(|error| error.to_string())
    };
    timeout(VISIT, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {VISIT:?}")))
}

/// Begins to speak TLS with `host` at an entrypoint, which routes by the name
/// in the first message: whether anybody answers.
///
/// gost marks HTTP requests that it passes on, and so notices its own; here
/// nothing tells it.
pub async fn knock(entrypoint: SocketAddr, host: &str) -> Result<(), String> {
    let hello = hello(host);
    let exchange = async {
        let mut stream = TcpStream::connect(entrypoint).await?;
        stream.write_all(&hello).await?;
        stream.read_u8().await
    };
    match timeout(VISIT, exchange).await {
        Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {VISIT:?}")),
    }
}

/// A TLS client's first message to `host`.
fn hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
