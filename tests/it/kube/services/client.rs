//! A client of a replica's API for services.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::discoverd::env::instance;
use crate::process::{PATIENCE, Registry, until};
use crate::testenv::{Answer, Http};

/// How often an instance tells that it lives; several times in the time that it has.
pub const BEAT: Duration = Duration::from_millis(500);

/// A client of one replica.
#[derive(Clone, Copy, Debug)]
pub struct Client(SocketAddr);

impl Client {
    pub fn of(replica: &Registry) -> Self {
        Self(replica.setup.listen)
    }

    /// One request, on a connection of its own.
    pub async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let stream = TcpStream::connect(self.0).await.unwrap();
        Http(stream).send(method, path, &[], body).await
    }

    /// What is read at a path; what else is answered when it fails.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.send("GET", path, "").await;
        match answer.status {
            200 => Ok(serde_json::from_str(&answer.body).unwrap()),
            status => Err(format!("{status}: {}", answer.body)),
        }
    }

    /// Puts something; the store may be slow for as long as patience lasts.
    pub async fn put(&self, path: &str, body: &str) -> String {
        self.does("PUT", path, body).await
    }

    pub async fn delete(&self, path: &str) {
        self.does("DELETE", path, "").await;
    }

    async fn does(&self, method: &str, path: &str, body: &str) -> String {
        let what = format!("{method} {path} is answered");
        until(&what, async || {
            let answer = self.send(method, path, body).await;
            match StatusCode::from_u16(answer.status).unwrap() {
                StatusCode::OK => Ok(answer.body),
                StatusCode::SERVICE_UNAVAILABLE => Err(answer.body),
                status => panic!("{what}: {status}: {}", answer.body),
            }
        })
        .await
    }

    /// Registers an instance at this address, or tells that it lives.
    pub async fn register(&self, service: &str, addr: &str, meta: &str) {
        let (path, body) = instance(service, addr, meta);
        self.put(&path, &body).await;
    }

    pub async fn unregister(&self, service: &str, addr: &str) {
        let (path, _) = instance(service, addr, "");
        self.delete(&path).await;
    }

    /// The addresses and indexes of a service's instances, as they are listed.
    pub async fn listed(&self, service: &str) -> Result<Vec<(String, u64)>, String> {
        let all = self.get(&format!("/services/{service}/instances")).await?;
        let all = all.as_array().unwrap().iter();
        let one = |one: &Value| {
            let addr = one["addr"].as_str().unwrap().to_owned();
            (addr, one["index"].as_u64().unwrap())
        };
        Ok(all.map(one).collect())
    }

    /// Who leads a service.
    pub async fn leader(&self, service: &str) -> Result<String, String> {
        let leader = self.get(&format!("/services/{service}/leader")).await?;
        Ok(leader["addr"].as_str().unwrap().to_owned())
    }

    /// Heartbeats of an instance, without end.
    pub async fn keeps(&self, service: &str, addr: &str) -> ! {
        let mut beats = interval(BEAT);
        loop {
            beats.tick().await;
            self.register(service, addr, "").await;
        }
    }

    /// Subscribes to all events of a service.
    pub async fn subscribe(&self, service: &str) -> Events {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let request = format!("GET /services/{service} HTTP/1.1\r\nhost: registry\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Events(BufReader::new(stream).lines())
    }
}

/// A stream of events.
pub struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    /// The next event in short: its kind, and what it is about.
    pub async fn next(&mut self) -> String {
        self.next_within(PATIENCE).await
    }

    async fn next_within(&mut self, patience: Duration) -> String {
        let event = loop {
            // The head of the answer, and sizes of chunks, are passed over.
            let line = timeout(patience, self.0.next_line()).await;
            let line = line.expect("nothing was told").unwrap();
            let line = line.expect("the stream has ended");
            if let Some(data) = line.strip_prefix("data: ") {
                break serde_json::from_str::<Value>(data).unwrap();
            }
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let instance = &event["instance"];
        let data = match &event["service_meta"] {
            Value::Null => String::new(),
            meta => meta["data"].to_string(),
        };
        let about = [text(&instance["addr"]), text(&instance["meta"]["k"]), data];
        let about = about.into_iter().filter(|text| !text.is_empty());
        let words: Vec<_> = std::iter::once(text(&event["kind"])).chain(about).collect();
        words.join(" ")
    }

    /// The next events are these.
    pub async fn are(&mut self, expected: &[&str]) {
        self.are_within(PATIENCE, expected).await;
    }

    /// The same, with another wait for each.
    pub async fn are_within(&mut self, patience: Duration, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.next_within(patience).await, *expected);
        }
    }
}
