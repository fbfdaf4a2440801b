//! Visitors of a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::{PATIENCE, until};
use crate::traefik::backend::{accepts, header};
use crate::tunnels::web;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// Which backend answered; none if it was the proxy itself, or the responder.
    pub fn from(&self) -> Option<&str> {
        let name = self.headers.get("x-backend")?;
        name.to_str().ok()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Asks with any method, body and further headers, over a connection of its own.
pub async fn ask(
    proxy: SocketAddr,
    method: Method,
    (host, path): (&str, &str),
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body))?;
    let exchange = async {
        let stream = TcpStream::connect(proxy).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let answer = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer {
                status: head.status,
                headers: head.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        let (answer, _) = futures::join!(answer, connection);
        Ok(answer?)
    };
    timeout(PATIENCE, exchange).await?
}

/// Says something over a websocket and returns what comes back; the whole answer
/// as an error if there is no websocket.
pub async fn websocket(proxy: SocketAddr, host: &str, text: &str) -> Result<String, String> {
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    let wrong = |error: std::io::Error| error.to_string();
    let exchange = async {
        let mut stream = TcpStream::connect(proxy).await.map_err(wrong)?;
        let request = format!(
            "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        let sent = stream.write_all(request.as_bytes()).await;
        sent.map_err(wrong)?;
        let head = web::head(&mut stream).await.ok_or("no answer")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(head);
        }
        let proof = accepts(KEY);
        assert_eq!(header(&head, "sec-websocket-accept"), Some(proof.as_str()));
        // A text frame, masked as a client's must be, here with zeros (RFC 6455 §5.3).
        let length = u8::try_from(text.len()).unwrap();
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        stream.write_all(&frame).await.map_err(wrong)?;
        let mut answer = vec![0; 2 + text.len()];
        stream.read_exact(&mut answer).await.map_err(wrong)?;
        assert_eq!(answer[..2], [0x81, length]);
        Ok(String::from_utf8(answer[2..].to_vec()).unwrap())
    };
    match timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err("no answer in time".into()),
    }
}

/// One who asks for the same again and again, and counts what fails.
#[derive(Debug)]
pub struct Regular {
    counts: Arc<Counts>,
    asking: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    enough: AtomicBool,
    asked: AtomicUsize,
    failed: parking_lot::Mutex<Vec<String>>,
}

impl Regular {
    /// Begins to ask.
    pub fn start(proxy: SocketAddr, host: &'static str) -> Self {
        let counts = Arc::new(Counts::default());
        let mut asking = JoinSet::new();
        let shared = Arc::clone(&counts);
        asking.spawn(async move {
            while !shared.enough.load(Ordering::Relaxed) {
                let answer = ask(proxy, Method::GET, (host, "/"), &[], Bytes::new()).await;
                match answer {
                    Ok(answer) if answer.from().is_some() => {}
                    other => shared.failed.lock().push(format!("{other:?}")),
                }
                shared.asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { counts, asking }
    }

    /// Waits until it has asked some more.
    pub async fn asks(&self, more: usize) {
        let asked = || self.counts.asked.load(Ordering::Relaxed);
        let enough = asked() + more;
        let look = async || (asked() >= enough).then_some(());
        until("the regular visitor has asked", look).await;
    }

    /// Ends, and tells what has failed.
    pub async fn failures(mut self) -> Vec<String> {
        self.counts.enough.store(true, Ordering::Relaxed);
        while let Some(ended) = self.asking.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.counts.failed.lock())
    }
}
