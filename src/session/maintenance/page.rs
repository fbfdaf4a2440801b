//! Fetching the page of a maintenance port.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE,
    HOST, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::session::maintenance::PAGE_BYTES;
use crate::session::maintenance::index::At;

/// Marks what this responder asks for: a page that is asked for by itself is not
/// fetched again, and again.
pub(super) const MARK: HeaderName = HeaderName::from_static("tunnel-registry-maintenance");

/// What of a request is passed on; neither cookies nor credentials.
const ASKED: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE];
/// What of a page's headers is passed on: what its body is, and when to come back.
/// Nothing that is about a connection (RFC 9110 §7.6.1).
const TOLD: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    RETRY_AFTER,
    VARY,
];

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a visitor asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub host: &'a str,
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
}

/// A page, and what is to be told about it.
#[derive(Debug)]
pub(super) struct Page {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Asks for a page. Whoever calls bounds the time.
///
/// # Errors
/// When it cannot be had, and when the answer is neither success nor 503: then
/// it is no page but an error of the one who serves it.
pub(super) async fn fetch(at: &At, wanted: &Wanted<'_>) -> Result<Page, Error> {
    let path = wanted
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let method = if wanted.method == Method::HEAD {
        Method::HEAD
    } else {
        Method::GET
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, wanted.host)
        .header(MARK, HeaderValue::from_static("true"))
        .body(Empty::<Bytes>::new())?;
    copy(&ASKED, wanted.headers, request.headers_mut());
    let stream = TcpStream::connect((at.host.as_str(), at.port.get())).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        if !head.status.is_success() && head.status != StatusCode::SERVICE_UNAVAILABLE {
            return Err(format!("it was answered {}", head.status).into());
        }
        let mut headers = HeaderMap::new();
        copy(&TOLD, &head.headers, &mut headers);
        let body = Limited::new(body, PAGE_BYTES).collect().await?.to_bytes();
        Ok(Page { headers, body })
    };
    // The answer fails when the connection does; a connection that its peer keeps
    // open is no reason to wait.
    tokio::select! {
        biased;
        page = answer => page,
        Err(error) = connection => Err(error.into()),
    }
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}
