//! gost's HTTP plugin, as gost and as people use it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower_service::Service as _;
use tunnel_registry::gost::{self, Calls};
use tunnel_registry::metrics::Metrics;
use tunnel_registry::registry::{Caller, ConnectionId};

use crate::testenv::{CONNECTOR, Env, NODE, TUNNEL, registry, service, whole};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn listed(address: &str) -> serde_json::Value {
    json!({"services": [{
        "id": CONNECTOR, "name": TUNNEL, "node": NODE, "network": "tcp", "address": address,
    }]})
}

#[tokio::test]
async fn the_four_documented_calls() {
    for path in ["/sd", "/"] {
        for content_type in [JSON, FORM] {
            let env = Env::start().await;
            let mut client = env.http().await;
            assert_eq!(env.services().await, json!({"services": []}));

            let body = service("tcp", "10.42.0.100:80");
            let short = format!(r#"{{"id":"{CONNECTOR}","name":"{TUNNEL}","node":"{NODE}"}}"#);
            for (method, body) in [("POST", &body), ("PUT", &short)] {
                let answer = client.send(method, path, &[content_type], body).await;
                assert_eq!((answer.status, &*answer.body), (200, ""), "{method}");
                assert_eq!(answer.headers["content-length"], "0");
                assert!(!answer.headers.contains_key("connection"));
            }
            let get = format!("{path}?name={TUNNEL}");
            let answer = client.send("GET", &get, &[], "").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers["content-type"], "application/json");
            let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(found, listed("10.42.0.100:80"));

            let answer = client.send("DELETE", path, &[content_type], &short).await;
            assert_eq!((answer.status, &*answer.body), (200, ""));
            assert_eq!(env.services().await, json!({"services": []}));
        }
    }
}

#[tokio::test]
async fn all_calls_use_one_connection_and_are_counted() {
    let env = Env::start().await;
    let mut client = env.http().await;
    for _ in 0..3 {
        client
            .send("POST", "/sd", &[], &service("tcp", ":80"))
            .await;
        client.send("GET", "/sd?name=x", &[], "").await;
        client.send("PUT", "/sd", &[], "").await;
    }
    assert_eq!(env.count("tunnel_registry_connections_accepted_total"), 1);
    assert_eq!(env.count("tunnel_registry_connections"), 1);
    assert_eq!(env.count(&Env::calls("register", "http", "ok")), 3);
    assert_eq!(env.count(&Env::calls("get", "http", "ok")), 3);
    assert_eq!(env.count(&Env::calls("renew", "http", "invalid")), 3);
}

#[tokio::test]
async fn the_documentation_works_as_printed() {
    let env = Env::start().await;
    for newline in ["\n", "\r\n"] {
        let pasted = service("tcp", "10.42.0.100:80").replace(',', &format!(", \\{newline}"));
        let answer = env.send("POST", "/sd", &pasted).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(env.services().await, listed("10.42.0.100:80"));
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_a_name_escaped() {
    let env = Env::start().await;
    let mut client = env.http().await;
    let body = service("tcp", "10.42.0.100:80");
    let (one, two) = body.split_at(30);
    let chunked = format!(
        "POST /sd HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len(),
    );
    client.raw(chunked.as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    for name in ["a+b", "a%20b", "%61+b"] {
        let answer = client.send("GET", &format!("/?name={name}"), &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_missing_host_is_the_callers() {
    let env = Env::start().await;
    env.send("POST", "/sd", &service("tcp", ":80")).await;
    assert_eq!(env.services().await, listed("127.0.0.1:80"));
    let pod: Ipv4Addr = [10, 42, 0, 9].into();
    let env = Env::start_with(|config| config.pod_ips = Arc::new([pod.into()])).await;
    env.send("POST", "/sd", &service("tcp", ":80")).await;
    assert_eq!(env.services().await, listed("10.42.0.9:80"));
}

#[tokio::test]
async fn it_is_spoken_over_http2_too() {
    let env = Env::start().await;
    let mut client = env.grpc().await;
    let request = Request::post("http://registry/sd")
        .body(whole(b"{}"))
        .unwrap();
    let answer = client.send(request).await;
    assert_eq!(answer.status(), 400);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(
        body.starts_with(br#"{"error":"`id` is missing"#),
        "{body:?}"
    );
    let request = Request::get("http://registry/sd?name=x")
        .body(whole(b""))
        .unwrap();
    assert_eq!(client.send(request).await.status(), 200);
}

#[tokio::test]
async fn the_routes_need_no_socket() {
    let calls = Calls::new(
        registry(),
        Arc::new(Metrics::new()),
        Arc::new([]),
        Duration::from_secs(1),
    );
    let mut router = gost::http::router(Arc::new(calls));
    let caller = Caller::new(ConnectionId(1), Ipv4Addr::LOCALHOST.into(), &[]);
    for (method, uri, status) in [
        ("GET", "/sd?name=x", 200),
        ("HEAD", "/sd?name=x", 200),
        ("PATCH", "/sd", 405),
        ("GET", "/elsewhere", 404),
    ] {
        let request = Request::builder().method(method).uri(uri).extension(caller);
        let answer = router
            .call(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{method} {uri}");
    }
}
