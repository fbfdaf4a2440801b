//! Servers that break off, lie, or send too much.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, not in what those call"
)]

use std::time::Duration;

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tunnel_registry_client::{Client, Error, Event, Instance, LeaderType};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const DONE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";

/// Reads a request; its first line.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                return head.lines().next().unwrap().to_owned();
            }
        }
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await.unwrap();
        text.push(char::from(byte[0]));
    }
}

/// Answers one request a connection, in this order; what was asked for.
async fn answers(listener: TcpListener, answers: &[String]) -> Vec<String> {
    let mut asked = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        asked.push(request(&mut stream).await);
        // The client may have seen enough.
        let _cut = stream.write_all(answer.as_bytes()).await;
    }
    asked
}

async fn server() -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, Client::new(&url).unwrap())
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again_unless_it_would_be_another() {
    let (listener, client) = server().await;
    let ask = async {
        let made = client.create("db", LeaderType::Oldest).await;
        assert!(matches!(made, Err(Error::Lost { .. })), "{made:?}");
        client.ensure("db", LeaderType::Oldest).await.unwrap();
        let instance = Instance::new("a:1");
        client.register_once("db", &instance).await.unwrap();
        instance.id
    };
    let script = ["", "", DONE, "", "HTTP/1.1 200", DONE].map(String::from);
    let both = async { tokio::join!(answers(listener, &script), ask) };
    let (asked, id) = timeout(PATIENCE, both).await.unwrap();
    let (create, register) = (
        "PUT /services/db HTTP/1.1",
        format!("PUT /services/db/instances/{id} HTTP/1.1"),
    );
    assert_eq!(
        asked,
        [create, create, create, &register, &register, &register]
    );
}

#[tokio::test]
async fn a_stream_resumes_whatever_ends_it() {
    let (listener, client) = server().await;
    let instance = |addr: &str| {
        let mut instance = Instance::new(addr);
        instance.index = 1;
        serde_json::to_string(&instance).unwrap()
    };
    let event = |kind: &str, addr: &str| {
        let instance = instance(addr);
        format!("data: {{\"kind\":\"{kind}\",\"instance\":{instance}}}\r\n:\r\n\r\n")
    };
    let current = "data: {\"kind\":\"current\"}\n\n";
    let listed = format!(
        "{EVENTS}:\n{}{}{current}",
        event("up", "a:1"),
        event("leader", "a:1")
    );
    let script = [
        listed.clone() + "event: error\ndata: not read\n\n",
        // It breaks off before everything was listed.
        format!("{EVENTS}{}", event("up", "b:1")),
        listed.clone() + "data: no JSON\n\n",
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno".into(),
        listed.clone() + "data: " + &"x".repeat((1 << 20) + 1),
        format!("{EVENTS}{}{current}", event("up", "b:1")),
    ];
    let watch = async {
        let mut watch = client.watch("db");
        let mut told = Vec::new();
        loop {
            let event = watch.next().await.unwrap().unwrap();
            match &event {
                Event::Up(instance) => told.push(format!("up {}", instance.addr)),
                Event::Down(instance) => {
                    told.push(format!("down {}", instance.addr));
                }
                Event::Lost(error) => told.push(format!("lost {error}")),
                event => told.push(event.kind().into()),
            }
            if told.last().unwrap() == "current" && watch.present().leader().is_none() {
                return told;
            }
        }
    };
    let both = async { tokio::join!(answers(listener, &script), watch) };
    let (_, told) = timeout(PATIENCE, both).await.unwrap();
    // One loss is one, however many attempts follow.
    let expected = [
        ("up a:1", ""),
        ("leader", ""),
        ("current", ""),
        ("lost", "\"not read\""),
        ("current", ""),
        ("lost", "expected ident"),
        ("current", ""),
        ("lost", "more than 1048576 bytes"),
        ("up b:1", ""),
        ("down a:1", ""),
        ("leader", ""),
        ("current", ""),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (begin, within)) in told.iter().zip(expected) {
        assert!(told.starts_with(begin) && told.contains(within), "{told}");
    }
}
