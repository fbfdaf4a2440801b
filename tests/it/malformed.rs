//! What is malformed is refused in words, and changes nothing.

use bytes::Bytes;
use prost::Message as _;
use tunnel_registry::gost::proto::{GetServiceRequest, RegisterRequest, Service};

use crate::testenv::{CONNECTOR, Env, NODE, TUNNEL, framed, service, whole};

const LONG: usize = 254;

/// The names are quoted as they are, so that they can be anything.
fn json(id: &str, name: &str, node: &str, network: &str, address: &str) -> String {
    serde_json::json!({"id": id, "name": name, "node": node, "network": network, "address": address})
        .to_string()
}

fn addressed(address: &str) -> String {
    json(CONNECTOR, TUNNEL, NODE, "tcp", address)
}

/// Method, target, body, status, what the error says.
fn http_requests() -> Vec<(&'static str, String, String, u16, &'static str)> {
    let mut cases = Vec::new();
    let long = "x".repeat(LONG);
    // Bodies that are no service.
    for (body, says) in [
        ("", "not a JSON object"),
        (" ", "not a JSON object"),
        ("null", "not a JSON object"),
        ("true", "not a JSON object"),
        ("[]", "not a JSON object"),
        (r#"["a","b","c"]"#, "not a JSON object"),
        ("{", "not a JSON object"),
        (r#"{"id"}"#, "not a JSON object"),
        (r#"{"id":7}"#, "not a JSON object"),
        (r#"{"id":null}"#, "not a JSON object"),
        (r#"{"id":["a"]}"#, "not a JSON object"),
        (r#"{"id":"a","id":"b"}"#, "not a JSON object"),
        (r#"{"id":"a"}{"id":"b"}"#, "not a JSON object"),
        (r#"{"id":"a",}"#, "not a JSON object"),
        ("{'id':'a'}", "not a JSON object"),
        (r#"{"id":"\x"}"#, "not a JSON object"),
        (r#"{"id":"a"} \"#, "not a JSON object"),
        ("id=a&name=b&node=c", "not a JSON object"),
        ("{}", "`id` is missing"),
    ] {
        for method in ["POST", "PUT", "DELETE"] {
            cases.push((method, "/sd".into(), body.into(), 400, says));
        }
    }
    // Fields.
    for (body, says) in [
        (json("", TUNNEL, NODE, "tcp", ":80"), "`id` is missing"),
        (json(CONNECTOR, "", NODE, "tcp", ":80"), "`name` is missing"),
        (
            json(CONNECTOR, TUNNEL, "", "tcp", ":80"),
            "`node` is missing",
        ),
        (json(&long, TUNNEL, NODE, "tcp", ":80"), "`id` is 254 bytes"),
        (
            json(CONNECTOR, &long, NODE, "tcp", ":80"),
            "`name` is 254 bytes",
        ),
        (
            json(CONNECTOR, TUNNEL, &long, "tcp", ":80"),
            "`node` is 254 bytes",
        ),
        (
            json("a\nb", TUNNEL, NODE, "tcp", ":80"),
            "`id` has a character at byte 1",
        ),
        (
            json(CONNECTOR, "é", NODE, "tcp", ":80"),
            "`name` has a character at byte 0",
        ),
        (
            json(CONNECTOR, TUNNEL, " x", "tcp", ":80"),
            "`node` begins or ends with a space",
        ),
        (
            json(CONNECTOR, TUNNEL, "\0", "tcp", ":80"),
            "`node` has a character",
        ),
        (
            json(CONNECTOR, TUNNEL, NODE, "", ":80"),
            "`network` must be",
        ),
        (
            json(CONNECTOR, TUNNEL, NODE, "TCP", ":80"),
            "`network` must be",
        ),
        (
            json(CONNECTOR, TUNNEL, NODE, "sctp", ":80"),
            "`network` must be",
        ),
        (addressed(""), "`address` is empty; set `entrypoint`"),
        (addressed("80"), "`address` is not host:port"),
        (
            addressed("http://10.0.0.1:80"),
            "`address` is not host:port",
        ),
        (addressed("fd00::1:80"), "without brackets"),
        (
            addressed("[fd00::1:80"),
            "neither the IP address of one host nor",
        ),
        (
            addressed("10.0.0.256:80"),
            "neither the IP address of one host nor",
        ),
        (
            addressed("a b:80"),
            "neither the IP address of one host nor",
        ),
        (addressed("h:"), "not a number from 1"),
        (addressed("h:0"), "not a number from 1"),
        (addressed("h:65536"), "not a number from 1"),
        (addressed("h:http"), "not a number from 1"),
    ] {
        cases.push(("POST", "/sd".into(), body, 400, says));
    }
    for method in ["PUT", "DELETE"] {
        let body = json(CONNECTOR, TUNNEL, "", "", "");
        cases.push((method, "/".into(), body, 400, "`node` is missing"));
    }
    // Queries.
    for (target, says) in [
        ("/sd", "`name` is missing"),
        ("/sd?", "`name` is missing"),
        ("/sd?name", "`name` is missing"),
        ("/sd?name=", "`name` is missing"),
        ("/sd?Name=x", "`name` is missing"),
        ("/sd?name=a&name=b", "twice"),
        ("/sd?name=%", "hexadecimal"),
        ("/sd?name=%zz", "hexadecimal"),
        ("/sd?name=%ff", "hexadecimal"),
        ("/sd?name=%00", "`name` has a character"),
        ("/sd?name=+", "`name` begins or ends"),
        ("/?name=a%0Ab", "`name` has a character"),
    ] {
        cases.push(("GET", target.into(), String::new(), 400, says));
    }
    cases.push((
        "GET",
        format!("/sd?name={long}"),
        String::new(),
        400,
        "254 bytes",
    ));
    // Elsewhere.
    for (method, target, status, says) in [
        ("GET", "/other", 404, "at /sd"),
        ("POST", "/sd/", 404, "at /sd"),
        ("POST", "/proto.SD/Get", 404, "at /sd"),
        ("PATCH", "/sd", 405, "PATCH is not understood"),
        ("OPTIONS", "/", 405, "OPTIONS is not understood"),
    ] {
        cases.push((method, target.into(), String::new(), status, says));
    }
    let huge = format!(r#"{{"id":"{}"}}"#, "x".repeat(64 * 1024));
    cases.push(("POST", "/sd".into(), huge, 413, "larger than 65536 bytes"));
    cases
}

#[tokio::test]
async fn over_http() {
    let env = Env::start().await;
    let kept = env
        .send("POST", "/sd", &service("tcp", "10.42.0.100:80"))
        .await;
    assert_eq!(kept.status, 200);
    let before = env.services().await;
    let cases = http_requests();
    assert!(cases.len() >= 60);
    for (method, target, body, status, says) in cases {
        let answer = env.send(method, &target, &body).await;
        let told = format!("{method} {target} {body:.100}: {}", answer.body);
        assert_eq!(answer.status, status, "{told}");
        assert!(answer.error().contains(says), "{told}");
        let allow = answer.headers.get("allow").map(String::as_str);
        let expected = (status == 405).then_some("GET, HEAD, POST, PUT, DELETE");
        assert_eq!(allow, expected, "{told}");
        assert_eq!(env.services().await, before, "{told}");
    }
    assert_eq!(before["services"].as_array().unwrap().len(), 1);
}

fn register(service: Service) -> Vec<u8> {
    framed(
        &RegisterRequest {
            service: Some(service),
        }
        .encode_to_vec(),
    )
}

fn get(name: &str) -> Vec<u8> {
    framed(&GetServiceRequest { name: name.into() }.encode_to_vec())
}

/// Method, body, code, what the status says.
fn grpc_calls() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let good = || Service {
        id: CONNECTOR.into(),
        name: TUNNEL.into(),
        node: NODE.into(),
        network: "tcp".into(),
        address: "10.42.0.101:80".into(),
    };
    let long = "x".repeat(LONG);
    let mut cases = Vec::new();
    // Frames and messages.
    for (body, code, says) in [
        (vec![], 3, "no message"),
        (vec![0, 0, 0, 0], 3, "no message"),
        (vec![0, 0, 0, 0, 9], 3, "9 bytes, but 0 follow"),
        (vec![7, 0, 0, 0, 0], 3, "begins with 7"),
        (vec![1, 0, 0, 0, 0], 12, "compressed"),
        (
            [register(good()), register(good())].concat(),
            3,
            "exactly one message",
        ),
        (framed(&[0xff]), 3, "not as sd.proto defines"),
        (framed(&[0x0a, 5, 1]), 3, "not as sd.proto defines"),
        (
            framed(&[0x0a, 3, 0x0a, 1, 0xff]),
            3,
            "not as sd.proto defines",
        ),
        (framed(&[0x08, 1]), 3, "not as sd.proto defines"),
        (framed(&vec![0; 65_537]), 8, "larger than 65536 bytes"),
        (vec![0, 0, 1, 0, 1], 8, "larger than 65536 bytes"),
        (vec![0, 255, 255, 255, 255], 8, "larger than 65536 bytes"),
    ] {
        for method in ["Register", "Renew", "Deregister", "Get"] {
            cases.push((method, body.clone(), code, says));
        }
    }
    for method in ["Register", "Renew", "Deregister"] {
        cases.push((method, framed(&[]), 3, "`service` is missing"));
        let no_node = Service {
            node: String::new(),
            ..good()
        };
        cases.push((method, register(no_node), 3, "`node` is missing"));
        let long_id = Service {
            id: long.clone(),
            ..good()
        };
        cases.push((method, register(long_id), 3, "`id` is 254 bytes"));
        let odd_name = Service {
            name: "a\tb".into(),
            ..good()
        };
        cases.push((
            method,
            register(odd_name),
            3,
            "`name` has a character at byte 1",
        ));
    }
    for (address, says) in [
        ("", "`address` is empty"),
        ("80", "not host:port"),
        ("fd00::1:80", "without brackets"),
        ("h:0", "not a number from 1"),
    ] {
        let service = Service {
            address: address.into(),
            ..good()
        };
        cases.push(("Register", register(service), 3, says));
    }
    let network = Service {
        network: "quic".into(),
        ..good()
    };
    cases.push(("Register", register(network), 3, "`network` must be"));
    cases.push(("Get", get(""), 3, "`name` is missing"));
    cases.push(("Get", get(&long), 3, "`name` is 254 bytes"));
    cases.push(("Get", get("é"), 3, "`name` has a character"));
    cases.push((
        "Unregister",
        register(good()),
        12,
        "no method /proto.SD/Unregister",
    ));
    cases.push(("", vec![], 12, "no method /proto.SD/"));
    cases
}

#[tokio::test]
async fn over_grpc() {
    let env = Env::start().await;
    let kept = env
        .send("POST", "/sd", &service("tcp", "10.42.0.100:80"))
        .await;
    assert_eq!(kept.status, 200);
    let before = env.services().await;
    let mut client = env.grpc().await;
    let cases = grpc_calls();
    assert!(cases.len() >= 60);
    for (method, body, code, says) in cases {
        let told = format!("{method} {:?}", &body[..body.len().min(40)]);
        let reply = client
            .call(&format!("/proto.SD/{method}"), &[], whole(&body))
            .await;
        assert_eq!(reply.code, code, "{told}: {}", reply.error);
        assert!(reply.error.contains(says), "{told}: {}", reply.error);
        assert_eq!(reply.body, Bytes::new(), "{told}");
        assert_eq!(env.services().await, before, "{told}");
    }
    assert_eq!(before["services"].as_array().unwrap().len(), 1);
    assert_eq!(env.count(&Env::calls("other", "grpc", "invalid")), 2);
    assert_eq!(env.count(&Env::closed("fault")), 0);
}
