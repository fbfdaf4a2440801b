use std::future::pending;
use std::io::Write as _;
use std::net;

use axum::routing::get;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A server, and where it is. Connections may be made before it is begun.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Server {
    async fn new() -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            stop: CancellationToken::new(),
        }
    }

    /// A connection that has sent these bytes.
    fn connect(&self, sent: &[u8]) -> TcpStream {
        let mut stream = net::TcpStream::connect(self.address).unwrap();
        stream.write_all(sent).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }

    fn start(self, router: Router) -> JoinSet<Result<(), Infallible>> {
        let mut set = JoinSet::new();
        set.spawn(serve(self.listener, router, self.stop));
        set
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn hello() -> Router {
    Router::new().route("/", get("hello"))
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let server = Server::new().await;
    let error = bind(server.address).await.unwrap_err().to_string();
    let address = server.address;
    assert!(
        error.starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
    assert!(
        error.ends_with("choose another with --admin-listen"),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let server = Server::new().await;
    let stream = server.connect(&[REQUEST, REQUEST].concat());
    let _tasks = server.start(hello());
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(answer.matches("hello").count(), 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost"] {
        let server = Server::new().await;
        let stream = server.connect(sent);
        let _tasks = server.start(hello());
        let begun = Instant::now();
        let answer = rest(stream).await;
        assert!(!answer.contains("hello"));
        assert_eq!(begun.elapsed().as_secs(), HEAD_TIME.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_ends_with_its_connection() {
    let server = Server::new().await;
    let stream = server.connect(REQUEST);
    let _tasks = server.start(Router::new().route("/", get(pending::<()>)));
    let begun = Instant::now();
    assert_eq!(rest(stream).await, "");
    assert_eq!(begun.elapsed().as_secs(), WHOLE_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_most_connections_one_waits_for_its_turn() {
    let server = Server::new().await;
    let idle: Vec<_> = (0..3).map(|_| server.connect(b"")).collect();
    let last = server.connect(REQUEST);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_at_most(
        "test",
        3,
        server.listener,
        hello(),
        server.stop,
    ));
    assert!(rest(last).await.ends_with("hello"));
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIME.as_secs());
    drop(idle);
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight() {
    let server = Server::new().await;
    let (stop, address) = (server.stop.clone(), server.address);
    let answering = stop.clone();
    let slow = move || async move {
        answering.cancel();
        tokio::task::yield_now().await;
        "hello"
    };
    let stream = server.connect(REQUEST);
    let idle = server.connect(b"");
    let mut tasks = server.start(Router::new().route("/", get(slow)));
    assert!(rest(stream).await.ends_with("hello"));
    assert_eq!(rest(idle).await, "");
    assert!(matches!(tasks.join_next().await, Some(Ok(Ok(())))));
    let refused = TcpStream::connect(address).await;
    assert!(refused.is_err(), "nobody listens any more");
    assert!(stop.is_cancelled());
}

async fn boom() -> &'static str {
    panic!("boom")
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_only() {
    let server = Server::new().await;
    let router = hello().route("/panic", get(boom));
    let mut bad = server.connect(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n");
    let good = server.connect(REQUEST);
    let _tasks = server.start(router);
    let mut nothing = Vec::new();
    // Closed, or reset: nothing was answered either way.
    let _ = bad.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    assert!(rest(good).await.ends_with("hello"));
}
