//! A backend's end of the TCP protocol.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::process::PATIENCE;
use crate::traefik::Backend;

/// A connection with a session. When it is dropped, it is lost.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    pub session: String,
}

impl Client {
    /// Connects, without a session.
    pub async fn connect(registry: SocketAddr) -> Self {
        Self {
            stream: BufReader::new(TcpStream::connect(registry).await.unwrap()),
            session: String::new(),
        }
    }

    /// Opens a session for a backend.
    pub async fn register(
        registry: SocketAddr,
        service: &str,
        backend: &Backend,
        maintenance_port: u16,
    ) -> Self {
        let mut client = Self::connect(registry).await;
        let (host, port) = (backend.address.ip(), backend.address.port());
        let line = format!("REGISTER|{service}|{host}|{port}|{maintenance_port}");
        let reply = client.line(&line).await;
        client.session = reply.strip_prefix("ACK|").expect(&reply).to_owned();
        client
    }

    /// Sends a line and returns the reply.
    pub async fn line(&mut self, line: &str) -> String {
        let exchange = async {
            let line = format!("{line}\n");
            self.stream.write_all(line.as_bytes()).await.unwrap();
            let mut reply = String::new();
            self.stream.read_line(&mut reply).await.unwrap();
            reply.trim_end().to_owned()
        };
        timeout(PATIENCE, exchange).await.expect("no reply")
    }

    /// Sends a command for the session, of which `fields` come after its id.
    pub async fn ask(&mut self, command: &str, fields: &str) -> String {
        let session = &self.session;
        let line = match fields {
            "" => format!("{command}|{session}"),
            fields => format!("{command}|{session}|{fields}"),
        };
        self.line(&line).await
    }

    /// Sends a command that is to be accepted.
    pub async fn does(&mut self, command: &str, fields: &str) {
        let reply = self.ask(command, fields).await;
        assert!(
            !reply.is_empty() && !reply.starts_with("ERROR"),
            "{command} {fields}: {reply}"
        );
    }

    /// Adds a route.
    pub async fn route(&mut self, domains: &str, path: &str, backend: &str) {
        self.does("ROUTE", &format!("{domains}|{path}|{backend}"))
            .await;
    }

    /// Sets an option.
    pub async fn option(&mut self, key: &str, value: &str) {
        self.does("OPTIONS", &format!("{key}|{value}")).await;
    }
}
