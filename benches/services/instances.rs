//! Instances of one service that beat and change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tunnel_registry::discoverd::InstanceId;

use super::common::{Error, Result};

/// The service.
pub const SERVICE: &str = "busy";
/// Connections over which the instances speak.
const CONNECTIONS: usize = 4;
/// How often an instance tells that it lives.
const BEAT: Duration = Duration::from_secs(4);
/// How long a request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The instances. Each speaks over one connection, so that what it says keeps its
/// order.
#[derive(Debug)]
pub struct Instances {
    connections: Vec<Mutex<Speaker>>,
    count: usize,
}

/// Some of the instances.
#[derive(Debug)]
struct Speaker {
    connection: Connection,
    /// The last change of each instance.
    changes: HashMap<usize, usize>,
}

impl Speaker {
    /// An instance changes.
    async fn change(&mut self, instance: usize, change: usize) -> Result<()> {
        self.changes.insert(instance, change);
        self.connection.register(instance, change).await
    }

    /// An instance says again what it said last.
    async fn beat(&mut self, instance: usize) -> Result<()> {
        let change = self.changes.get(&instance).copied().unwrap_or_default();
        self.connection.register(instance, change).await
    }
}

impl Instances {
    /// Makes the service and registers so many.
    pub async fn register(at: SocketAddr, count: usize) -> Result<Self> {
        let mut first = Connection::open(at).await?;
        let path = format!("/services/{SERVICE}");
        first
            .put(&path, r#"{"leader_type":"oldest"}"#.into())
            .await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Mutex::new(Speaker {
                connection: Connection::open(at).await?,
                changes: HashMap::new(),
            }));
        }
        let instances = Self { connections, count };
        for instance in 0..count {
            instances
                .speaker(instance)
                .lock()
                .await
                .beat(instance)
                .await?;
        }
        Ok(instances)
    }

    fn speaker(&self, instance: usize) -> &Mutex<Speaker> {
        &self.connections[instance % CONNECTIONS]
    }

    /// All tell that they live, until that fails.
    pub async fn beat(&self) -> Error {
        let beats = (0..CONNECTIONS).map(|first| async move {
            let own = (first..self.count).step_by(CONNECTIONS);
            let mut ticks = interval(BEAT / u32::try_from(own.len())?);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for instance in own.cycle() {
                ticks.tick().await;
                self.speaker(instance).lock().await.beat(instance).await?;
            }
            Result::Ok(())
        });
        match try_join_all(beats).await {
            Ok(_) => "nobody beats any more".into(),
            Err(error) => error,
        }
    }

    /// Changes one after the other at an even pace; tells when each change was sent,
    /// and how long its answer took.
    pub async fn change(
        &self,
        changes: usize,
        pause: Duration,
    ) -> Result<(Vec<Instant>, Vec<Duration>)> {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut sent, mut took) = (Vec::new(), Vec::new());
        for change in 1..=changes {
            ticks.tick().await;
            let began = Instant::now();
            sent.push(began);
            let instance = change % self.count;
            let mut speaker = self.speaker(instance).lock().await;
            speaker.change(instance, change).await?;
            took.push(began.elapsed());
        }
        Ok((sent, took))
    }
}

/// A connection to the registry.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _task: JoinSet<()>,
}

impl Connection {
    async fn open(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut task = JoinSet::new();
        // What ends it early fails the requests on it.
        task.spawn(async move { drop(connection.await) });
        Ok(Self {
            sender,
            _task: task,
        })
    }

    /// Registers an instance, or tells that it lives, as of this change.
    async fn register(&mut self, number: usize, change: usize) -> Result<()> {
        let addr = format!("10.0.{}.{}:80", number / 250, number % 250 + 1);
        let id = InstanceId::of("tcp", &addr);
        let path = format!("/services/{SERVICE}/instances/{id}");
        let body = format!(
            r#"{{"id":"{id}","addr":"{addr}","proto":"tcp","meta":{{"change":"{change}","zone":"eu-west-1b","version":"1.4.2"}}}}"#
        );
        self.put(&path, body).await
    }

    async fn put(&mut self, path: &str, body: String) -> Result<()> {
        let request = Request::put(path)
            .header("host", "registry")
            .body(Full::from(body))?;
        let answer = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Result::Ok((status, body))
        };
        match timeout(ANSWER_WITHIN, answer)
            .await
            .map_err(|_| format!("PUT {path}: no answer"))??
        {
            (StatusCode::OK, _) => Ok(()),
            (status, body) => {
                let body = String::from_utf8_lossy(&body);
                Err(format!("PUT {path}: {status} {body}").into())
            }
        }
    }
}
