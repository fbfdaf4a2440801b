//! Backends: connections that announce themselves, line by line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::common::Result;

/// Connections from one address: fewer than the registry lets in.
const AN_ADDRESS: usize = 4_000;
/// So many connect at a time, where they need not come at once.
const AT_ONCE: usize = 64;
/// Longer than any command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the session listener.
#[derive(Debug)]
pub struct Backend(TcpStream);

impl Backend {
    /// Connects, as the n-th of many that are on several hosts.
    pub async fn connect(to: SocketAddr, n: usize) -> Result<Self> {
        let host = u8::try_from(2 + n / AN_ADDRESS)?;
        let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, host));
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = timeout(PATIENCE, socket.connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a command; returns its reply.
    pub async fn ask(&mut self, command: &str) -> Result<String> {
        let asked = async {
            self.0.write_all(format!("{command}\n").as_bytes()).await?;
            let mut reply = Vec::with_capacity(128);
            while reply.last() != Some(&b'\n') {
                if self.0.read_buf(&mut reply).await? == 0 {
                    return Err("the registry has ended the connection".into());
                }
            }
            reply.pop();
            Ok(String::from_utf8(reply)?)
        };
        timeout(PATIENCE, asked).await?
    }

    /// Sends a command, to which this must be the reply.
    pub async fn gets(&mut self, command: &str, expected: &str) -> Result<()> {
        match self.ask(command).await? {
            reply if reply == expected => Ok(()),
            reply => Err(format!("{command:.20}…: {reply}").into()),
        }
    }
}

/// A session as services usually have one: a domain of its own, two paths, a
/// header and two options. Returns its id.
pub async fn announce(backend: &mut Backend, n: usize) -> Result<String> {
    let register = format!("REGISTER|service-{n}|host-{n}.example.internal|9000|9001");
    let reply = backend.ask(&register).await?;
    let id = reply.strip_prefix("ACK|").ok_or_else(|| reply.clone())?;
    for (command, reply) in [
        (
            format!("ROUTE|{id}|service-{n}.example.com|/|http://host-{n}.example.internal:9000"),
            "ROUTE_OK",
        ),
        (
            format!("ROUTE|{id}|service-{n}.example.com|/v2|http://host-{n}.example.internal:9000"),
            "ROUTE_OK",
        ),
        (
            format!("HEADER|{id}|X-Service-Version|2.0.{n}"),
            "HEADER_OK",
        ),
        (format!("OPTIONS|{id}|timeout|60s"), "OPTIONS_OK"),
        (format!("OPTIONS|{id}|websocket|true"), "OPTIONS_OK"),
    ] {
        backend.gets(&command, reply).await?;
    }
    Ok(id.to_owned())
}

/// Opens so many sessions, each on a connection of its own.
pub async fn announce_all(to: SocketAddr, count: usize) -> Result<Vec<(Backend, String)>> {
    let opened: Vec<Result<(Backend, String)>> = stream::iter(0..count)
        .map(async |n| {
            let mut backend = Backend::connect(to, n).await?;
            let id = announce(&mut backend, n).await?;
            Ok((backend, id))
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    opened.into_iter().collect()
}
