//! gost's client of a registry, as it really behaves: over gRPC one connection,
//! over HTTP two idle ones kept, and no deadline for any call.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tunnel_registry::gost::PENDING;
use tunnel_registry::gost::proto::sd_client::SdClient;
use tunnel_registry::gost::proto::{
    DeregisterRequest, GetServiceRequest, RegisterRequest, RenewRequest, Service,
};

/// Idle connections that gost's HTTP client keeps.
const IDLE: usize = 2;

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    /// As in gost's configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failure(error: impl fmt::Debug) -> Failure {
    Failure(format!("{error:?}"))
}

/// Whether a write was marked as pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Stored,
    Pending,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Sd(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Grpc(SdClient<Channel>),
    Http(Arc<Http>),
}

impl Sd {
    pub fn new(protocol: Protocol, registry: SocketAddr) -> Self {
        Self::from(protocol, registry, None)
    }

    /// A client whose connections come from `source`.
    pub fn from(protocol: Protocol, registry: SocketAddr, source: Option<IpAddr>) -> Self {
        Self(match protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from_shared(format!("http://{registry}")).unwrap();
                let channel = endpoint.local_address(source).connect_lazy();
                Kind::Grpc(SdClient::new(channel))
            }
            Protocol::Http => Kind::Http(Arc::new(Http {
                registry,
                source,
                idle: Mutex::default(),
                connections: Mutex::default(),
            })),
        })
    }

    pub async fn register(&self, service: &Service) -> Result<Kept, Failure> {
        match &self.0 {
            Kind::Grpc(client) => {
                let service = Some(service.clone());
                let call = client.clone().register(RegisterRequest { service }).await;
                let reply = call.map_err(failure)?;
                Ok(match reply.metadata().get(PENDING) {
                    None => Kept::Stored,
                    Some(_) => Kept::Pending,
                })
            }
            Kind::Http(http) => http.write(Method::POST, service).await,
        }
    }

    pub async fn renew(&self, service: &Service) -> Result<(), Failure> {
        let named = named(service);
        match &self.0 {
            Kind::Grpc(client) => {
                let service = Some(named);
                let call = client.clone().renew(RenewRequest { service }).await;
                call.map(drop).map_err(failure)
            }
            Kind::Http(http) => http.write(Method::PUT, &named).await.map(drop),
        }
    }

    pub async fn deregister(&self, service: &Service) -> Result<Kept, Failure> {
        let named = named(service);
        match &self.0 {
            Kind::Grpc(client) => {
                let service = Some(named);
                let call = client
                    .clone()
                    .deregister(DeregisterRequest { service })
                    .await;
                let reply = call.map_err(failure)?;
                Ok(match reply.metadata().get(PENDING) {
                    None => Kept::Stored,
                    Some(_) => Kept::Pending,
                })
            }
            Kind::Http(http) => http.write(Method::DELETE, &named).await,
        }
    }

    pub async fn get(&self, tunnel: &str) -> Result<Vec<Service>, Failure> {
        match &self.0 {
            Kind::Grpc(client) => {
                let name = tunnel.to_owned();
                let call = client.clone().get(GetServiceRequest { name }).await;
                Ok(call.map_err(failure)?.into_inner().services)
            }
            Kind::Http(http) => http.get(tunnel).await,
        }
    }
}

/// What Renew and Deregister carry.
fn named(service: &Service) -> Service {
    Service {
        network: String::new(),
        address: String::new(),
        ..service.clone()
    }
}

#[derive(Debug)]
struct Http {
    registry: SocketAddr,
    source: Option<IpAddr>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    connections: Mutex<JoinSet<()>>,
}

impl Http {
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let socket = TcpSocket::new_v4().map_err(failure)?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into()).map_err(failure)?;
        }
        let stream = socket.connect(self.registry).await.map_err(failure)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failure)?;
        let mut connections = self.connections.lock();
        while connections.try_join_next().is_some() {}
        connections.spawn(async {
            // Its end is told to whoever sends.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// An idle connection that is still open, or a new one.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        loop {
            let Some(mut sender) = self.idle.lock().pop() else {
                return self.connect().await;
            };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<http::Response<Bytes>, Failure> {
        let mut sender = self.connection().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.registry.to_string())
            .header("content-type", "application/json")
            .body(Full::from(body))
            .map_err(failure)?;
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(failure)?
            .into_parts();
        let body = body.collect().await.map_err(failure)?.to_bytes();
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(sender);
        }
        if head.status != StatusCode::OK {
            return Err(failure((head.status, body)));
        }
        Ok(http::Response::from_parts(head, body))
    }

    async fn write(&self, method: Method, service: &Service) -> Result<Kept, Failure> {
        let body = json!({
            "id": service.id,
            "name": service.name,
            "node": service.node,
            "network": service.network,
            "address": service.address,
        });
        let answer = self.call(method, "/sd", body.to_string()).await?;
        Ok(match answer.headers().get(PENDING) {
            None => Kept::Stored,
            Some(_) => Kept::Pending,
        })
    }

    async fn get(&self, tunnel: &str) -> Result<Vec<Service>, Failure> {
        let path = format!("/sd?name={tunnel}");
        let answer = self.call(Method::GET, &path, String::new()).await?;
        let body: Value = serde_json::from_slice(answer.body()).map_err(failure)?;
        let services = body["services"].as_array().ok_or_else(|| failure(&body))?;
        let text = |service: &Value, field: &str| {
            let text = service[field].as_str().map(ToOwned::to_owned);
            text.ok_or_else(|| failure(service))
        };
        services
            .iter()
            .map(|service| {
                Ok(Service {
                    id: text(service, "id")?,
                    name: text(service, "name")?,
                    node: text(service, "node")?,
                    network: text(service, "network")?,
                    address: text(service, "address")?,
                })
            })
            .collect()
    }
}

/// The n-th id of a kind, in the form of gost's.
pub fn uuid(kind: u32, n: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{n:012x}")
}
