//! How connections end, and who is told to have ended them.

use bytes::Bytes;
use futures::channel::mpsc;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tunnel_registry::gost::proto::RenewRequest;
use tunnel_registry::server::Limits;

use crate::limits::{PREFACE, SETTINGS, SOON, frame, get};
use crate::testenv::{Env, Http, framed, service};

#[tokio::test]
async fn what_the_peer_ends_is_told_so() {
    let env = Env::start().await;
    let closed = Env::closed("peer");
    let mut ended = 0;

    // An end between calls, in order and by reset; before any call; within one.
    let mut client = env.http().await;
    client.send("GET", "/sd?name=x", &[], "").await;
    drop(client);
    ended += 1;
    env.until(&closed, ended).await;

    let mut client = env.http().await;
    client.send("GET", "/sd?name=x", &[], "").await;
    client.0.set_zero_linger().unwrap();
    drop(client);
    ended += 1;
    env.until(&closed, ended).await;

    for sent in [
        &b""[..],
        &PREFACE[..10],
        b"GET /sd HT",
        b"POST /sd HTTP/1.1\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let mut client = env.http().await;
        client.raw(sent).await;
        drop(client);
        ended += 1;
        env.until(&closed, ended).await;
    }

    // It asked for the end, and waits for it.
    for (version, header) in [("1.1", "connection: close\r\n"), ("1.0", "")] {
        let mut client = env.http().await;
        let head = format!("GET /sd?name=x HTTP/{version}\r\nhost: x\r\n{header}\r\n");
        client.raw(head.as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        client.ended().await;
        ended += 1;
        env.until(&closed, ended).await;
    }

    // HTTP/2: in order; by a bare end; by GOAWAY without an end.
    let mut client = env.grpc().await;
    assert_eq!(client.unary("Get", &get()).await.code, 0);
    drop(client);
    ended += 1;
    env.until(&closed, ended).await;

    let mut client = env.connect().await;
    client
        .write_all(&[PREFACE, SETTINGS].concat())
        .await
        .unwrap();
    frame(&mut client).await;
    drop(client);
    ended += 1;
    env.until(&closed, ended).await;

    let mut client = env.connect().await;
    let goaway = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
    client
        .write_all(&[PREFACE, SETTINGS, &goaway].concat())
        .await
        .unwrap();
    let mut client = Http(client);
    client.ended().await;
    ended += 1;
    env.until(&closed, ended).await;

    assert_eq!(env.count("tunnel_registry_connections"), 0);
}

#[tokio::test]
async fn a_broken_protocol_is_no_end_by_the_peer() {
    let env = Env::start().await;
    let mut client = env.http().await;
    client.raw(b"nonsense\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    client.ended().await;
    env.until(&Env::closed("fault"), 1).await;

    let mut client = env.connect().await;
    client.write_all(PREFACE).await.unwrap();
    client.write_all(b"not a settings frame").await.unwrap();
    let mut client = Http(client);
    client.ended().await;
    env.until(&Env::closed("fault"), 2).await;
}

#[tokio::test]
async fn shutting_down_answers_what_is_in_flight() {
    let mut env = Env::start().await;
    let mut idle_http = env.http().await;
    assert_eq!(
        idle_http.send("GET", "/sd?name=x", &[], "").await.status,
        200
    );
    let mut idle_grpc = env.grpc().await;
    assert_eq!(idle_grpc.unary("Get", &get()).await.code, 0);
    let mut silent = env.http().await;

    let mut http = env.http().await;
    let body = service("tcp", ":80");
    let head = format!(
        "PUT /sd HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    http.raw(head.as_bytes()).await;
    let mut grpc = env.grpc().await;
    let (sender, receiver) = mpsc::unbounded::<Result<Frame<Bytes>, std::convert::Infallible>>();
    let late = grpc
        .clone()
        .call_owned("/proto.SD/Renew", StreamBody::new(receiver).boxed_unsync());
    let rest = async {
        // An answer on the same connection: the call before it has begun.
        assert_eq!(grpc.unary("Get", &get()).await.code, 0);
        env.until("tunnel_registry_connections", 5).await;
        env.cancel();
        // These two are in nobody's way.
        idle_http.ended().await;
        silent.ended().await;
        env.until("tunnel_registry_connections", 2).await;
        assert!(TcpStream::connect(env.address).await.is_err());
        http.raw(body.as_bytes()).await;
        assert_eq!(http.answer().await.status, 200);
        let message = prost::Message::encode_to_vec(&RenewRequest { service: None });
        let body = Bytes::from(framed(&message));
        sender.unbounded_send(Ok(Frame::data(body))).unwrap();
        drop(sender);
    };
    let (reply, ()) = tokio::join!(late, rest);
    assert!(
        reply.error.contains("`service` is missing"),
        "{}",
        reply.error
    );
    drop((idle_grpc, grpc));
    env.until(&Env::closed("shutdown"), 5).await;
    assert_eq!(env.count(&Env::closed("peer")), 0);
    env.ended().await;
}

#[tokio::test]
async fn what_does_not_end_is_cut_after_the_drain_time() {
    let limits = Limits {
        drain: SOON,
        ..Limits::default()
    };
    let mut env = Env::limited(limits).await;
    let mut client = env.http().await;
    client
        .raw(b"PUT /sd HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        .await;
    let mut half = env.http().await;
    half.raw(b"GET /sd HTTP/1.1\r\n").await;
    env.until("tunnel_registry_connections", 2).await;
    env.cancel();
    client.ended().await;
    half.ended().await;
    env.ended().await;
    assert_eq!(env.count(&Env::closed("shutdown")), 2);
}
