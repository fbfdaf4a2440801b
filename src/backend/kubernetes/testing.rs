//! An API server that answers what a test says.

use std::convert::Infallible;

use bytes::Bytes;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::{BoxError, service_fn};

use super::object::Object;
use crate::record::Record;
use crate::resources::TunnelEndpoint;

type Answer = Result<Response<UnsyncBoxBody<Bytes, Infallible>>, BoxError>;

/// The server's side: what it is asked, one request after the other.
pub(crate) struct Server(UnboundedReceiver<Asked>);

/// A request that waits for its answer. Dropped, the connection breaks.
pub(crate) struct Asked {
    request: Request<Body>,
    answer: oneshot::Sender<Answer>,
}

/// The lines of an answer that goes on.
pub(crate) struct Lines(UnboundedSender<Bytes>);

/// A client, and the server that it talks to.
pub(crate) fn pair() -> (Client, Server) {
    let (asks, asked) = mpsc::unbounded();
    let service = service_fn(move |request| {
        let mut asks = asks.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            asks.send(Asked { request, answer }).await?;
            answered.await?
        }
    });
    (Client::new(service, "default"), Server(asked))
}

impl Server {
    /// The next request.
    pub async fn asked(&mut self) -> Asked {
        self.0.next().await.unwrap()
    }
}

impl Asked {
    /// `GET /path`, without the query.
    pub fn what(&self) -> String {
        format!("{} {}", self.request.method(), self.request.uri().path())
    }

    /// The method alone.
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.request.uri().query()?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name)?;
        Some(found.1.to_owned())
    }

    /// What it carries.
    pub async fn body(self) -> (Value, Self) {
        let (parts, body) = self.request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap();
        let request = Request::from_parts(parts, Body::from(bytes.to_vec()));
        let answer = self.answer;
        (value, Self { request, answer })
    }

    /// Whether it is a watch, from the version `from` on.
    pub fn is_watch_from(&self, from: u64) -> bool {
        self.query("watch").is_some() && self.query("resourceVersion") == Some(from.to_string())
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.method() == Method::GET && self.query("watch").is_none()
    }

    /// Answers with a value.
    pub fn answer(self, code: u16, body: &Value) {
        let body = Full::from(body.to_string()).boxed_unsync();
        self.respond(code, body);
    }

    /// Answers with a failure.
    pub fn fail(self, code: u16) {
        self.answer(code, &status(code));
    }

    /// Answers with a list of all there is.
    pub fn list(self, revision: u64, items: &[Value]) {
        self.answer(
            200,
            &json!({ "metadata": { "resourceVersion": revision.to_string() }, "items": items }),
        );
    }

    /// Begins to answer.
    pub fn stream(self) -> Lines {
        let (lines, stream) = mpsc::unbounded();
        let frames = stream.map(|line| Ok(Frame::data(line)));
        self.respond(200, StreamBody::new(frames).boxed_unsync());
        Lines(lines)
    }

    fn respond(self, code: u16, body: UnsyncBoxBody<Bytes, Infallible>) {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        // The client may have given up.
        let _gone = self.answer.send(Ok(response));
    }
}

impl Lines {
    /// Tells an event.
    pub fn tell(&self, what: &str, object: &Value) {
        let line = json!({ "type": what, "object": object });
        self.raw(&format!("{line}\n"));
    }

    /// Sends this text.
    pub fn raw(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.0.unbounded_send(bytes).unwrap();
    }
}

/// A failure as the API server words it.
pub(crate) fn status(code: u16) -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": code, "message": "so the test says" })
}

/// An object as the API server has it.
pub(crate) fn object(record: &Record, revision: u64) -> Value {
    let object = <TunnelEndpoint as Object>::from_record(record).unwrap();
    let mut object = serde_json::to_value(object).unwrap();
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}
