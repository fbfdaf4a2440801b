//! Backends: small HTTP servers that tell what they were asked, and echo what
//! comes over websockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use data_encoding::BASE64;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::tunnels::web;

/// A body that is worth compressing.
pub const BIG: usize = 16 * 1024;

/// A server. When it is dropped, it is gone with its connections.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    facts: Arc<Facts>,
    _serving: JoinSet<()>,
}

#[derive(Debug)]
struct Facts {
    name: String,
    is_sick: AtomicBool,
    checks: AtomicUsize,
}

impl Backend {
    pub async fn start(address: SocketAddr, name: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let facts = Arc::new(Facts {
            name: name.to_owned(),
            is_sick: AtomicBool::new(false),
            checks: AtomicUsize::new(0),
        });
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&facts);
        serving.spawn(async move {
            let mut visitors = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                visitors.spawn(serve(stream, Arc::clone(&shared)));
                while visitors.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            facts,
            _serving: serving,
        }
    }

    /// What it is told by as a backend.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether `/healthz` answers 500 from now on.
    pub fn is_sick(&self, is_sick: bool) {
        self.facts.is_sick.store(is_sick, Ordering::Relaxed);
    }

    /// How often `/healthz` was asked.
    pub fn checks(&self) -> usize {
        self.facts.checks.load(Ordering::Relaxed)
    }
}

/// Serves requests until the visitor goes away.
async fn serve(mut stream: TcpStream, facts: Arc<Facts>) {
    while let Some(head) = web::head(&mut stream).await {
        let head = String::from_utf8(head).unwrap();
        if let Some(key) = header(&head, "sec-websocket-key")
            && header(&head, "upgrade").is_some()
        {
            let _ = echo(stream, key).await;
            return;
        }
        if discard_body(&mut stream, &head).await.is_none() {
            return;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, body) = match path {
            "/slow" => return std::future::pending().await,
            "/healthz" => {
                facts.checks.fetch_add(1, Ordering::Relaxed);
                match facts.is_sick.load(Ordering::Relaxed) {
                    true => ("500 Sick", String::new()),
                    false => ("200 OK", String::new()),
                }
            }
            "/big" => ("200 OK", "x".repeat(BIG)),
            _ => ("200 OK", head.clone()),
        };
        let (name, length) = (&facts.name, body.len());
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nX-Backend: {name}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A header of a request.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

async fn discard_body(stream: &mut TcpStream, head: &str) -> Option<()> {
    let length = header(head, "content-length").map_or(Ok(0), str::parse);
    let mut body = vec![0; length.ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(())
}

/// What a server proves with that it speaks websockets (RFC 6455 §4.2.2).
pub fn accepts(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// Sends back each short frame that a client sends (RFC 6455 §5.2).
async fn echo(mut stream: TcpStream, key: &str) -> std::io::Result<()> {
    let accept = accepts(key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    loop {
        let mut head = [0; 6];
        stream.read_exact(&mut head).await?;
        let [kind, length, mask @ ..] = head;
        let mut text = vec![0; usize::from(length & 0x7f)];
        stream.read_exact(&mut text).await?;
        for (byte, mask) in text.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        let frame = [&[kind, length & 0x7f], text.as_slice()].concat();
        stream.write_all(&frame).await?;
    }
}
