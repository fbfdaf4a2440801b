//! Bounds.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tunnel_registry::gost::proto::GetServiceRequest;
use tunnel_registry::server::Limits;
use tunnel_registry::server::tls::{Tls, TlsFiles, Use};

use crate::testenv::{Env, Http, TUNNEL};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// As soon as can be.
pub const SOON: Duration = Duration::from_millis(20);

pub fn get() -> GetServiceRequest {
    GetServiceRequest {
        name: TUNNEL.into(),
    }
}

/// The next HTTP/2 frame: its kind and payload.
pub async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let [a, b, c, kind, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.unwrap();
    (kind, payload)
}

#[tokio::test]
async fn beyond_the_total_newcomers_are_closed_and_the_others_served() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    let (mut http, mut grpc) = (env.http().await, env.grpc().await);
    assert_eq!(http.send("GET", "/sd?name=x", &[], "").await.status, 200);
    assert_eq!(grpc.unary("Get", &get()).await.code, 0);
    for refused in 1..=20 {
        env.http().await.ended().await;
        let metric = r#"tunnel_registry_connections_refused_total{limit="total"}"#;
        env.until(metric, refused).await;
        assert_eq!(http.send("GET", "/sd?name=x", &[], "").await.status, 200);
        assert_eq!(grpc.unary("Get", &get()).await.code, 0);
    }
    // Room is made by leaving.
    drop(http);
    env.until("tunnel_registry_connections", 1).await;
    assert_eq!(env.send("GET", "/sd?name=x", "").await.status, 200);
}

#[tokio::test]
async fn one_peer_has_a_limit_of_its_own() {
    let limits = Limits {
        connections_per_peer: 1,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    let mut first = env.http().await;
    assert_eq!(first.send("GET", "/sd?name=x", &[], "").await.status, 200);
    env.http().await.ended().await;
    let metric = r#"tunnel_registry_connections_refused_total{limit="peer"}"#;
    env.until(metric, 1).await;
    assert_eq!(first.send("GET", "/sd?name=x", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_first_request_that_does_not_come_ends_the_connection() {
    let limits = Limits {
        first_request: SOON,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    for (at, sent) in [
        &b""[..],
        &PREFACE[..10],
        b"G",
        b"GET /sd HTTP/1.1\r\nhost: registry\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = env.http().await;
        client.raw(sent).await;
        client.ended().await;
        env.until(&Env::closed("no_request"), at as u64 + 1).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let limits = Limits {
        request: SOON,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    let mut client = env.http().await;
    client
        .raw(b"POST /sd HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{\"id\"")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408);
    assert!(answer.error().contains("did not arrive within 20ms"));
    env.until(&Env::calls("register", "http", "timed_out"), 1)
        .await;

    let mut client = env.grpc().await;
    let (sender, receiver) = mpsc::unbounded::<Result<Frame<Bytes>, std::convert::Infallible>>();
    sender
        .unbounded_send(Ok(Frame::data(Bytes::from_static(&[0, 0]))))
        .unwrap();
    let body = StreamBody::new(receiver).boxed_unsync();
    let reply = client.call("/proto.SD/Renew", &[], body).await;
    assert_eq!(reply.code, 4, "{}", reply.error);
    env.until(&Env::calls("renew", "grpc", "timed_out"), 1)
        .await;
    // The connection is as good as before.
    assert_eq!(client.unary("Get", &get()).await.code, 0);
}

#[tokio::test]
async fn an_idle_connection_is_ended_by_the_registry() {
    let limits = Limits {
        idle: SOON,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    let mut client = env.http().await;
    assert_eq!(client.send("GET", "/sd?name=x", &[], "").await.status, 200);
    client.ended().await;
    env.until(&Env::closed("idle"), 1).await;

    let mut client = env.connect().await;
    client
        .write_all(&[PREFACE, SETTINGS].concat())
        .await
        .unwrap();
    // GOAWAY, without an error.
    loop {
        if let (7, payload) = frame(&mut client).await {
            assert_eq!(payload[4..8], [0; 4]);
            break;
        }
    }
    // The peer's end comes after ours.
    drop(client);
    env.until(&Env::closed("idle"), 2).await;
    assert_eq!(env.count(&Env::closed("peer")), 0);
}

#[tokio::test]
async fn an_idle_peer_that_does_not_go_is_cut() {
    let limits = Limits {
        idle: SOON,
        drain: SOON,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    let mut client = env.connect().await;
    client
        .write_all(&[PREFACE, SETTINGS].concat())
        .await
        .unwrap();
    Http(client).ended().await;
    env.until(&Env::closed("idle"), 1).await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone() {
    let limits = Limits {
        ping_interval: SOON,
        ping_timeout: SOON,
        ..Limits::default()
    };
    let env = Env::limited(limits).await;
    let mut client = env.connect().await;
    client
        .write_all(&[PREFACE, SETTINGS].concat())
        .await
        .unwrap();
    Http(client).ended().await;
    env.until(&Env::closed("fault"), 1).await;
    assert_eq!(env.count(&Env::closed("peer")), 0);
}

#[tokio::test]
async fn a_header_has_a_size() {
    let env = Env::start().await;
    let pad = |length: usize| "x".repeat(length);
    let mut client = env.http().await;
    let answer = client
        .send("GET", "/sd?name=x", &[("pad", &pad(15_000))], "")
        .await;
    assert_eq!(answer.status, 200);
    let answer = client
        .send("GET", "/sd?name=x", &[("pad", &pad(17_000))], "")
        .await;
    assert_eq!(answer.status, 431);
    env.until(&Env::closed("fault"), 1).await;

    let mut client = env.grpc().await;
    let get = |length| {
        let request = Request::get("http://registry/sd?name=x").header("pad", pad(length));
        request.body(crate::testenv::whole(&[])).unwrap()
    };
    assert_eq!(client.send(get(15_000)).await.status(), 200);
    assert_eq!(client.send(get(17_000)).await.status(), 431);
}

#[tokio::test]
async fn http2_is_told_its_bounds() {
    let env = Env::start().await;
    let mut client = env.connect().await;
    client
        .write_all(&[PREFACE, SETTINGS].concat())
        .await
        .unwrap();
    let (kind, payload) = frame(&mut client).await;
    assert_eq!(kind, 4);
    let value = |wanted: u8| {
        let mut settings = payload.chunks(6);
        let setting = settings
            .find(|setting| setting[..2] == [0, wanted])
            .unwrap();
        u32::from_be_bytes(setting[2..6].try_into().unwrap())
    };
    // MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE
    assert_eq!(value(3), 1_024);
    assert_eq!(value(6), 16 * 1024);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
        client_ca: None,
    };
    std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let env = Env::start_with(|config| {
        config.limits.tls_handshake = SOON;
        config.tls = Some(Tls::open(files, Use::Calls).unwrap().into());
    })
    .await;
    env.http().await.ended().await;
    env.until(&Env::closed("tls"), 1).await;
}
