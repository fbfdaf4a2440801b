//! A server with services in this process, and clients of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnel_registry::discoverd::engine::{Limits, Setup};
use tunnel_registry::discoverd::http::{Config, is_its_path, router};
use tunnel_registry::discoverd::{InstanceId, Services};
use tunnel_registry::metrics::Metrics;
use tunnel_registry::metrics::services::ServiceFigures;
use tunnel_registry::registry::core;
use tunnel_registry::server::auth::Access;
use tunnel_registry::server::{self, Server};

use super::places::Place;
use crate::testenv::{self, Answer, Http, NEVER, PATIENCE};

/// How the server is set up.
pub struct Plan {
    pub limits: server::Limits,
    pub access: Access,
    pub ttl: Duration,
    pub comment: Duration,
    pub subscribers: usize,
}

impl Plan {
    pub fn usual() -> Self {
        Self {
            limits: server::Limits::default(),
            access: Access::everybody(),
            ttl: NEVER,
            comment: NEVER,
            subscribers: 100,
        }
    }
}

/// A running server.
pub struct Env {
    pub address: SocketAddr,
    pub services: Arc<Services>,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
    tasks: JoinSet<()>,
    place: Place,
}

impl Env {
    /// One on the memory store.
    pub async fn one(plan: Plan) -> Self {
        Self::on(Place::memory().await, plan).await
    }

    /// One at a place.
    pub async fn on(place: Place, plan: Plan) -> Self {
        let backend = place.open().await;
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let access = Arc::new(plan.access);
        let server = Server::bind(server::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            pod_ips: Arc::new([]),
            limits: plan.limits,
            access: Arc::clone(&access),
            tls: None,
        })
        .await
        .unwrap();
        let setup = core::Setup {
            sharing: place.sharing(),
            ..testenv::setup()
        };
        let of_services = Setup {
            identity: Arc::clone(&setup.identity),
            shared: setup.sharing.is_some(),
            ttl: plan.ttl,
            limits: Limits::default(),
            seed: 1,
        };
        let services = Arc::new(Services::new(of_services, plan.subscribers, &backend));
        let registry = testenv::registry_on(&backend, setup, Some(&services), &mut tasks, &stop);
        let metrics = Arc::new(Metrics::new());
        let paths = router(Config {
            services: Arc::clone(&services),
            tunnels: Arc::clone(&registry) as _,
            metrics: Arc::clone(&metrics),
            access,
            request: PATIENCE,
            comment: plan.comment,
            stop: stop.clone(),
        });
        let server = server.beside(paths, is_its_path);
        let address = server.local_addr();
        metrics.register(Box::new(ServiceFigures::new(Arc::clone(&services))));
        let read = async {
            registry.ready().await;
            while !services.is_ready() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, read).await.unwrap();
        tasks.spawn(server.run(registry, Arc::clone(&metrics), stop.clone()));
        Self {
            address,
            services,
            metrics,
            stop,
            tasks,
            place,
        }
    }

    /// Ends it, and starts another one at its place.
    pub async fn again(mut self, plan: Plan) -> Self {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        timeout(PATIENCE, all).await.unwrap();
        drop(self.services);
        Self::on(self.place, plan).await
    }

    pub async fn http(&self) -> Http<TcpStream> {
        Http(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.http().await.send(method, path, &[], body).await
    }

    /// A request that succeeds; its body, if it has one.
    pub async fn done(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.send(method, path, body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        match answer.body.as_str() {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap(),
        }
    }

    /// A request that fails, with its code and status.
    pub async fn fails(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        failure(&self.send(method, path, body).await)
    }

    /// Registers an instance at this address, or tells that it lives.
    pub async fn register(&self, service: &str, addr: &str, meta: &str) {
        let (path, body) = instance(service, addr, meta);
        assert_eq!(self.done("PUT", &path, &body).await, Value::Null);
    }

    pub async fn unregister(&self, service: &str, addr: &str) {
        let (path, _) = instance(service, addr, "");
        self.done("DELETE", &path, "").await;
    }

    /// The addresses of a service's instances, as they are listed.
    pub async fn addrs(&self, service: &str) -> Vec<String> {
        let all = self
            .done("GET", &format!("/services/{service}/instances"), "")
            .await;
        let all = all.as_array().unwrap().iter();
        all.map(|instance| instance["addr"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Subscribes at a path.
    pub async fn subscribe(&self, path: &str, accept: Option<&str>) -> Events {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        // Ends with its body.
        hyper::rt::Executor::execute(&TokioExecutor::new(), async {
            let _ = connection.await;
        });
        let mut request = Request::get(path).header("host", "registry");
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = timeout(PATIENCE, sender.send_request(request)).await;
        let response = response.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events {
            body: response.into_body(),
            buffer: BytesMut::new(),
        }
    }
}

/// The path and the body with which an instance is registered.
pub fn instance(service: &str, addr: &str, meta: &str) -> (String, String) {
    let id = InstanceId::of("tcp", addr);
    let mut body = json!({ "id": id, "addr": addr, "proto": "tcp" });
    if !meta.is_empty() {
        body["meta"] = json!({ "k": meta });
    }
    (
        format!("/services/{service}/instances/{id}"),
        body.to_string(),
    )
}

/// The status and the code of a failure.
pub fn failure(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(body["message"].as_str().unwrap().len() > 5, "{body}");
    assert!(body["retry"].is_boolean(), "{body}");
    (answer.status, body["code"].as_str().unwrap().to_owned())
}

/// A stream of events.
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    /// Reads more; false at the end.
    async fn read(&mut self) -> bool {
        // Some wait for silence to be over, and for a replica that nobody hears.
        let frame = timeout(3 * PATIENCE, self.body.frame()).await;
        match frame.expect("nothing was told") {
            Some(frame) => {
                let data = frame.unwrap().into_data().unwrap();
                self.buffer.extend_from_slice(&data);
                true
            }
            None => false,
        }
    }

    /// The next line, without its end; none at the end of the stream.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Some(String::from_utf8(line.to_vec()).unwrap());
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Value {
        let line = self.line().await.expect("the stream has ended");
        let data = line.strip_prefix("data: ").expect(&line);
        assert_eq!(self.line().await.as_deref(), Some(""));
        serde_json::from_str(data).unwrap()
    }

    /// The next event in short: its kind, and what it is about.
    pub async fn short(&mut self) -> String {
        let event = self.event().await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let addr = text(&event["instance"]["addr"]);
        let meta = text(&event["instance"]["meta"]["k"]);
        let data = match &event["service_meta"] {
            Value::Null => String::new(),
            meta => meta["data"].to_string(),
        };
        let kind = text(&event["kind"]);
        format!("{kind} {addr} {meta}{data}").trim_end().to_owned()
    }

    /// The next events are these.
    pub async fn are(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.short().await, *expected);
        }
    }
}
