use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::session::serving::testing::{Fixed, session_with_page};

const ROUTE: &str = "ROUTE|s|a.com|/|http://h";

/// A responder, and whoever serves pages for it.
struct World {
    address: SocketAddr,
    fixed: Arc<Fixed>,
    pages: Arc<Pages>,
    metrics: Arc<Metrics>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl World {
    /// One session in maintenance, whose page is at `port`; 0 is none.
    fn new(port: u16) -> Self {
        let fixed = Arc::new(Fixed::default());
        fixed.set(vec![session_with_page(
            "api",
            1,
            port,
            &[ROUTE, "MAINT_ENTER|s"],
        )]);
        let responder = Responder::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = responder.local_addr();
        assert_eq!(responder.url(), format!("http://{address}"));
        let metrics = Arc::new(Metrics::new());
        let pages = Pages::of(Arc::clone(&fixed) as _, Arc::clone(&metrics));
        let pages = Arc::new(pages);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(responder.listener, Arc::clone(&pages), stop.clone()));
        Self {
            address,
            fixed,
            pages,
            metrics,
            tasks,
            stop,
        }
    }

    /// Sends what a proxy would, and returns the whole answer.
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, host: &str) -> String {
        self.send(&format!("GET /x?y=1 HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await
    }

    /// Whether so many requests were answered with this.
    fn has_shown(&self, kind: &str, count: usize) -> bool {
        let name = "tunnel_registry_maintenance_answers_total";
        let line = format!("\n{name}{{kind=\"{kind}\"}} {count}\n");
        self.metrics.encode().unwrap().contains(&line)
    }
}

fn is_ours(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(OUR_PAGE)
}

/// Serves one page, with these bytes, and tells what it was asked.
async fn page(answer: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let heads = Arc::clone(&asked);
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            heads.lock().unwrap().push(String::from_utf8(head).unwrap());
            // The responder may have heard enough.
            let _ = stream.write_all(&answer).await;
        }
    });
    (port, asked, tasks)
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn the_page_is_passed_on_with_503() {
    let headers = "Content-Type: text/x-page\r\nRetry-After: 7\r\nKeep-Alive: timeout=5\r\n\
        Connection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nCache-Control: max-age=60\r\n";
    let (port, asked, _tasks) = page(answer("200 OK", headers, "back soon")).await;
    let world = World::new(port);
    let request = "GET /x/y?z=%20 HTTP/1.1\r\nHost: A.com:80\r\nAccept: text/html\r\n\
        Cookie: secret\r\nConnection: keep-alive\r\n\r\n";
    let got = world.send(request).await.to_ascii_lowercase();
    assert!(got.starts_with("http/1.1 503 "), "{got}");
    assert!(got.ends_with("\r\n\r\nback soon"), "{got}");
    for told in [
        "content-type: text/x-page\r\n",
        "retry-after: 7\r\n",
        "cache-control: no-store\r\n",
    ] {
        assert!(got.contains(told), "{told} in {got}");
    }
    for untold in ["x-hop", "keep-alive", "set-cookie", "max-age"] {
        assert!(!got.contains(untold), "{untold} in {got}");
    }
    let asked = asked.lock().unwrap().concat().to_ascii_lowercase();
    assert!(asked.starts_with("get /x/y?z=%20 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: a.com:80\r\n"), "{asked}");
    assert!(asked.contains("accept: text/html\r\n"), "{asked}");
    assert!(!asked.contains("cookie"), "{asked}");
}

#[tokio::test]
async fn a_body_is_read_and_not_passed_on() {
    let (port, asked, _tasks) = page(answer("503 Unavailable", "", "away")).await;
    let world = World::new(port);
    let body = "x".repeat(300_000);
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: {length}\r\n\r\n");
    let got = world.send(&(head + &body)).await;
    assert!(got.ends_with("\r\n\r\naway"), "{got}");
    let asked = asked.lock().unwrap().concat();
    assert!(asked.starts_with("GET / "), "{asked}");
    assert!(!asked.contains("xxx"));
}

#[tokio::test]
async fn a_head_has_no_body() {
    let (port, asked, _tasks) = page(answer("200 OK", "", "")).await;
    let world = World::new(port);
    let got = world.send("HEAD / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    assert!(
        got.starts_with("HTTP/1.1 503 ") && got.ends_with("\r\n\r\n"),
        "{got}"
    );
    assert!(asked.lock().unwrap().concat().starts_with("HEAD / "));
}

#[tokio::test]
async fn without_a_page_there_is_ours() {
    // Nobody listens there any more.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = dead.local_addr().unwrap().port();
    drop(dead);
    for port in [0, port] {
        let world = World::new(port);
        let got = world.get("a.com").await;
        assert!(is_ours(&got), "{got}");
        assert!(got.contains("retry-after: 30\r\n"), "{got}");
        assert!(world.has_shown("plain", 1));
    }
    let (port, asked, _tasks) = page(answer("200 OK", "", "back soon")).await;
    let world = World::new(port);
    assert!(is_ours(&world.get("b.com").await), "nobody serves that");
    assert!(world.has_shown("unknown_place", 1));
    assert!(
        is_ours(&world.send("GET / HTTP/1.1\r\n\r\n").await),
        "no host"
    );
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_is_not_in_maintenance_has_no_page() {
    let (port, asked, _tasks) = page(answer("200 OK", "", "back soon")).await;
    let world = World::new(0);
    world
        .fixed
        .set(vec![session_with_page("api", 1, port, &[ROUTE])]);
    assert!(is_ours(&world.get("a.com").await));
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_page_is_not_passed_on() {
    for wrong in [
        answer("404 Not Found", "", "no such file"),
        answer("302 Found", "Location: /\r\n", ""),
        b"SSH-2.0-x\r\n".to_vec(),
        // Not whole.
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nback".to_vec(),
    ] {
        let (port, asked, _tasks) = page(wrong.clone()).await;
        let got = World::new(port).get("a.com").await;
        assert!(
            is_ours(&got),
            "{got} for {}",
            String::from_utf8_lossy(&wrong)
        );
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_page_has_a_bound() {
    for (bytes, passes) in [(PAGE_BYTES, true), (PAGE_BYTES + 1, false)] {
        let (port, _, _tasks) = page(answer("200 OK", "", &"x".repeat(bytes))).await;
        let got = World::new(port).get("a.com").await;
        assert_eq!(!is_ours(&got), passes, "{bytes}");
        assert!(got.starts_with("HTTP/1.1 503 "));
    }
}

#[tokio::test]
async fn a_page_that_is_behind_the_responder_is_not_asked_for_again() {
    let world = World::new(0);
    let own = world.address.port();
    let away = [ROUTE, "MAINT_ENTER|s"];
    world
        .fixed
        .set(vec![session_with_page("api", 1, own, &away)]);
    let index = world.pages.index.get(Instant::now() + FRESH).unwrap();
    assert!(index.find("a.com", "/").is_some());
    // Of itself it got our page, once.
    assert!(is_ours(&world.get("a.com").await));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_come_is_not_waited_for() {
    // It takes the connection and is silent.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new(silent.local_addr().unwrap().port());
    let began = Instant::now();
    assert!(is_ours(&world.get("a.com").await));
    let took = began.elapsed();
    assert!((FETCH_TIME..2 * FETCH_TIME).contains(&took), "{took:?}");
}

#[tokio::test]
async fn only_so_many_pages_are_fetched_at_once() {
    let (port, asked, _tasks) = page(answer("200 OK", "", "back soon")).await;
    let world = World::new(port);
    let all = u32::try_from(FETCHES).unwrap();
    let busy = world.pages.room.try_acquire_many(all).unwrap();
    assert!(is_ours(&world.get("a.com").await));
    assert!(asked.lock().unwrap().is_empty());
    drop(busy);
    assert!(world.get("a.com").await.ends_with("back soon"));
    assert!(world.has_shown("page", 1) && world.has_shown("plain", 1));
}

#[tokio::test]
async fn it_ends_when_it_is_asked_to() {
    let mut world = World::new(0);
    world.stop.cancel();
    world.tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_proxy_beside_it_reaches_it_wherever_it_listens() {
    for (listen, host) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
        let responder = Responder::bind(listen.parse().unwrap()).unwrap();
        let port = responder.local_addr().port();
        assert_eq!(responder.url(), format!("http://{host}:{port}"));
    }
}
