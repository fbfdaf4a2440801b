//! gost's protocol as a client speaks it: requests made ahead, replies checked.
//!
//! The messages are written out here rather than taken from the registry, so
//! that the programs measure the wire and not the code that they measure with.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// One connector of a tunnel at one server: `Service` on the wire.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct Endpoint {
    /// The connector.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The tunnel.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The tunnel handler of the server that holds the connector.
    #[prost(string, tag = "3")]
    pub node: String,
    /// `tcp` or `udp`.
    #[prost(string, tag = "4")]
    pub network: String,
    /// `host:port`.
    #[prost(string, tag = "5")]
    pub address: String,
}

/// The request of every write.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WriteRequest {
    /// What is registered, renewed or deregistered.
    #[prost(message, optional, tag = "1")]
    pub service: Option<Endpoint>,
}

/// The reply to every write.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WriteReply {
    /// Whether it was done.
    #[prost(bool, tag = "1")]
    pub ok: bool,
}

/// Asks who holds a tunnel.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetRequest {
    /// The tunnel.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Who holds a tunnel.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct GetReply {
    /// In the order of routing.
    #[prost(message, repeated, tag = "1")]
    pub services: Vec<Endpoint>,
}

/// Which of gost's two plugin types is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Protocol {
    /// `type: grpc`, over HTTP/2.
    Grpc,
    /// `type: http`, over HTTP/1.1.
    Http,
}

impl Protocol {
    /// As it is written in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// A call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Who holds the endpoint's tunnel?
    Get,
    /// All five fields.
    Register,
    /// Only connector, tunnel and node.
    Renew,
    /// Only connector, tunnel and node.
    Deregister,
}

/// A request that can be sent any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    protocol: Protocol,
    call: Call,
    uri: Uri,
    body: Bytes,
}

/// Every tunnel that the programs ask for has this many connectors.
pub const CONNECTORS: usize = 2;

impl Request {
    /// The request that makes `call` about `endpoint`.
    pub fn new(protocol: Protocol, call: Call, endpoint: &Endpoint) -> Result<Self> {
        let (uri, body) = match protocol {
            Protocol::Grpc => grpc(call, endpoint),
            Protocol::Http => http(call, endpoint)?,
        };
        Ok(Self {
            protocol,
            call,
            uri,
            body,
        })
    }

    /// The request line and headers that hyper sends.
    pub fn head(&self) -> (Method, Uri, HeaderMap) {
        let mut headers = HeaderMap::with_capacity(4);
        let method = match self.protocol {
            Protocol::Grpc => {
                let content = HeaderValue::from_static("application/grpc");
                headers.insert(header::CONTENT_TYPE, content);
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                Method::POST
            }
            Protocol::Http => {
                let content = HeaderValue::from_static("application/json");
                headers.insert(header::HOST, HeaderValue::from_static(AUTHORITY));
                headers.insert(header::CONTENT_TYPE, content);
                match self.call {
                    Call::Get => Method::GET,
                    Call::Register => Method::POST,
                    Call::Renew => Method::PUT,
                    Call::Deregister => Method::DELETE,
                }
            }
        };
        (method, self.uri.clone(), headers)
    }

    /// The body.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Reads the reply's body; a wrong answer is an error.
    pub fn check(&self, body: &Bytes) -> Result<Vec<Endpoint>> {
        let services = self.services(body)?;
        if self.call != Call::Get || services.len() == CONNECTORS {
            Ok(services)
        } else {
            Err(format!("Get listed {} services, not {CONNECTORS}", services.len()).into())
        }
    }

    /// Reads the reply's body, however many services it lists. A write that was
    /// not done is an error.
    pub fn services(&self, body: &Bytes) -> Result<Vec<Endpoint>> {
        match (self.call, self.protocol) {
            (Call::Get, Protocol::Http) => Ok(serde_json::from_slice::<GetReply>(body)?.services),
            (Call::Get, Protocol::Grpc) => Ok(GetReply::decode(unframed(body)?)?.services),
            (_, Protocol::Http) => Ok(Vec::new()),
            (_, Protocol::Grpc) => {
                if WriteReply::decode(unframed(body)?)?.ok {
                    Ok(Vec::new())
                } else {
                    Err(format!("{:?} was answered with ok=false", self.call).into())
                }
            }
        }
    }
}

/// Whom the client believes to be talking to; nobody looks at it.
const AUTHORITY: &str = "registry.test";

fn grpc(call: Call, endpoint: &Endpoint) -> (Uri, Bytes) {
    let path = match call {
        Call::Get => "http://registry.test/proto.SD/Get",
        Call::Register => "http://registry.test/proto.SD/Register",
        Call::Renew => "http://registry.test/proto.SD/Renew",
        Call::Deregister => "http://registry.test/proto.SD/Deregister",
    };
    let body = match call {
        Call::Get => framed(&GetRequest {
            name: endpoint.name.clone(),
        }),
        _ => framed(&WriteRequest {
            service: Some(written(call, endpoint)),
        }),
    };
    (Uri::from_static(path), body)
}

fn http(call: Call, endpoint: &Endpoint) -> Result<(Uri, Bytes)> {
    Ok(match call {
        Call::Get => (format!("/sd?name={}", endpoint.name).parse()?, Bytes::new()),
        _ => (
            Uri::from_static("/sd"),
            serde_json::to_vec(&written(call, endpoint))?.into(),
        ),
    })
}

/// What gost fills in: network and address only when it registers.
fn written(call: Call, endpoint: &Endpoint) -> Endpoint {
    let mut endpoint = endpoint.clone();
    if call != Call::Register {
        endpoint.network.clear();
        endpoint.address.clear();
    }
    endpoint
}

/// gRPC's frame: not compressed, four bytes of length, the message.
const FRAME: usize = 5;

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(FRAME + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put(message.encode_to_vec().as_slice());
    bytes.freeze()
}

fn unframed(body: &Bytes) -> Result<Bytes> {
    let malformed = || Error::from("the reply is no uncompressed gRPC message");
    let (head, message) = body.split_at_checked(FRAME).ok_or_else(malformed)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(malformed());
    }
    Ok(body.slice(FRAME..))
}
