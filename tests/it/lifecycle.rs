//! Starting, stopping and being asked, as users see it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use http::StatusCode;
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpStream;
use tunnel_registry::gost::proto::RenewRequest;

use crate::process::{Net, Registry, Setup, fetch, folder, run, until};
use crate::testenv::{CONNECTOR, Grpc, Http, TUNNEL, service};

/// A log's lines; each must be JSON.
fn log(registry: &Registry) -> Vec<Value> {
    let said = registry.process.said();
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    said.lines().map(parse).collect()
}

/// The first line of a log with this message.
fn line<'a>(log: &'a [Value], message: &str) -> &'a Value {
    let found = log.iter().find(|line| {
        let text = line["message"]
            .as_str()
            .or(line["fields"]["message"].as_str());
        text.is_some_and(|text| text.contains(message))
    });
    found.unwrap_or_else(|| panic!("{message:?} is not in {log:#?}"))
}

/// A registry that cannot start: its exit code must be 1, and its log one line.
pub async fn refused(setup: &Setup) -> String {
    let mut registry = setup.spawn();
    let status = registry.process.ended().await;
    let said = registry.process.said();
    assert_eq!(status.code(), Some(1), "{said}");
    let errors: Vec<_> = log(&registry)
        .into_iter()
        .filter(|line| line["level"] == "ERROR")
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    errors[0].to_string()
}

async fn http(address: SocketAddr) -> Http<TcpStream> {
    Http(TcpStream::connect(address).await.unwrap())
}

/// Registers the usual endpoint.
async fn register(registry: &Registry) {
    let mut client = http(registry.setup.listen).await;
    let body = service("tcp", "192.0.2.1:80");
    let answer = client.send("POST", "/sd", &[], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn without_a_store_it_keeps_a_file_and_says_where() {
    let folder = folder();
    let mut setup = Setup::new(Net::take(), folder.path());
    setup.store = None;
    let registry = setup.start().await;
    let file = folder
        .path()
        .join(".local/share/tunnel-registry/registry.redb");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    registry.process.says("started").await;
    let log = log(&registry);
    let started = line(&log, "started").to_string();
    for fact in [
        format!("file:{}", file.display()),
        setup.listen.to_string(),
        setup.admin.to_string(),
    ] {
        assert!(started.contains(&fact), "{fact} is not in {started}");
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_told_in_one_line() {
    let folder = folder();
    let net = Net::take();
    let mut setup = Setup::new(net, folder.path());
    let sessions = net.at(1, 8181);
    setup.sessions = Some(sessions);
    let maintenance = setup.maintenance().unwrap();
    for (address, flag) in [
        (setup.listen, "--listen"),
        (setup.admin, "--admin-listen"),
        (sessions, "--session-listen"),
        (maintenance, "--maintenance-listen"),
    ] {
        let taken = TcpListener::bind(address).unwrap();
        let error = refused(&setup).await;
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains(flag), "{error}");
        drop(taken);
    }
    setup.start().await.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_what_was_registered() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let registry = setup.start().await;
    register(&registry).await;
    let registry = registry.stop().await.start().await;
    let rows = registry.rows().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["connector"], CONNECTOR);
    assert_eq!(rows[0]["address"], "192.0.2.1:80");
    assert_eq!(rows[0]["reason"], "unheard");
    // On its own host it is offered as soon as it has been heard again.
    let mut client = http(setup.listen).await;
    let body = service("", "");
    assert_eq!(client.send("PUT", "/sd", &[], &body).await.status, 200);
    let found = client
        .send("GET", &format!("/sd?name={TUNNEL}"), &[], "")
        .await;
    assert!(found.body.contains(CONNECTOR), "{}", found.body);
}

/// A Register whose body is not complete yet.
struct InFlight {
    client: Http<TcpStream>,
    rest: Vec<u8>,
}

impl InFlight {
    async fn begin(registry: &Registry) -> Self {
        let mut client = http(registry.setup.listen).await;
        // An answer shows that the connection is served.
        let answer = client.send("GET", "/sd?name=x", &[], "").await;
        assert_eq!(answer.status, 200);
        let body = service("tcp", "192.0.2.1:80");
        let length = body.len();
        let head = format!(
            "POST /sd HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        client.raw(head.as_bytes()).await;
        // It says that it waits for the body.
        assert_eq!(client.answer().await.status, 100);
        Self {
            client,
            rest: body.into_bytes(),
        }
    }

    async fn finish(&mut self) -> u16 {
        self.client.raw(&self.rest).await;
        self.client.answer().await.status
    }
}

/// Waits until a stop has begun.
async fn stopping(registry: &Registry) {
    let text = until("it says that it stops", async || {
        let (status, text) = fetch(registry.setup.admin, "/readyz").await.ok()?;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(text)
    })
    .await;
    assert!(text.contains("process: not ready: stopping\n"), "{text}");
    assert!(text.contains("store: ready\n"), "{text}");
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_nobody_new() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path()).flags("--drain=10m");
    for signal in [Signal::TERM, Signal::INT] {
        let mut registry = setup.start().await;
        let mut in_flight = InFlight::begin(&registry).await;
        registry.process.signal(signal);
        stopping(&registry).await;
        until("it accepts nobody any more", async || {
            TcpStream::connect(setup.listen).await.err()
        })
        .await;
        assert_eq!(in_flight.finish().await, 200);
        let status = registry.process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", registry.process.said());
        line(&log(&registry), "stopped");
        let registry = setup.start().await;
        assert_eq!(registry.rows().await.len(), 1);
        registry.stop().await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path()).flags("--drain=10m");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut registry = setup.start().await;
        let _in_flight = InFlight::begin(&registry).await;
        registry.process.signal(signal);
        stopping(&registry).await;
        registry.process.signal(signal);
        let status = registry.process.ended().await;
        assert_eq!(status.code(), Some(code), "{}", registry.process.said());
    }
}

#[tokio::test]
async fn the_health_check_tells() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let admin = setup.admin.to_string();
    let registry = setup.start().await;
    for flags in [&[][..], &["--ready"]] {
        let arguments = [&["healthcheck", "--admin", &admin], flags].concat();
        let (code, said) = run(&arguments).await;
        assert_eq!(code, Some(0), "{said}");
    }
    registry.stop().await;
    let (code, said) = run(&["healthcheck", "--admin", &admin]).await;
    assert_eq!(code, Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("cannot connect to"), "{said}");
}

#[tokio::test]
async fn a_stop_is_seen_by_the_health_check_for_readiness_only() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path()).flags("--drain=10m");
    let admin = setup.admin.to_string();
    let registry = setup.start().await;
    let mut in_flight = InFlight::begin(&registry).await;
    registry.process.signal(Signal::TERM);
    stopping(&registry).await;
    let (code, said) = run(&["healthcheck", "--admin", &admin, "--ready"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("process: not ready: stopping"), "{said}");
    let (code, said) = run(&["healthcheck", "--admin", &admin]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(in_flight.finish().await, 200);
}

#[tokio::test]
async fn no_token_is_logged_at_any_level() {
    const RIGHT: &str = "the-right-token-0123456789";
    const WRONG: &str = "the-wrong-token-0123456789";
    let folder = folder();
    let mut setup = Setup::new(Net::take(), folder.path()).flags("--log-level=trace");
    setup.environment = vec![("TUNNEL_REGISTRY_TOKEN", RIGHT.into())];
    let registry = setup.start().await;
    for (token, status, code) in [(RIGHT, 200, 0), (WRONG, 401, 16)] {
        let bearer = format!("Bearer {token}");
        let mut client = http(setup.listen).await;
        let headers = [("authorization", bearer.as_str())];
        let answer = client.send("GET", "/sd?name=x", &headers, "").await;
        assert_eq!(answer.status, status);
        let stream = TcpStream::connect(setup.listen).await.unwrap();
        let mut client = Grpc::over(stream).await;
        for headers in [headers, [("token", token)]] {
            use prost::Message as _;
            let message = RenewRequest { service: None }.encode_to_vec();
            let body = crate::testenv::whole(&crate::testenv::framed(&message));
            let reply = client.call("/proto.SD/Renew", &headers, body).await;
            // Without a service, the right one gets as far as the message.
            assert_eq!(reply.code, if code == 0 { 3 } else { code }, "{reply:?}");
        }
    }
    let mut registry = registry;
    registry.process.signal(Signal::TERM);
    registry.process.ended().await;
    let said = registry.process.said();
    assert!(said.contains(r#""level":"DEBUG""#) || said.contains(r#""level":"TRACE""#));
    assert!(!said.contains("-token-0123456789"), "{said}");
}

#[tokio::test]
async fn the_open_are_warned() {
    let folder = folder();
    let mut setup = Setup::new(Net::take(), folder.path());
    let registry = setup.start().await;
    registry.process.says("started").await;
    assert!(!registry.process.said().contains("WARN"));
    registry.stop().await;

    setup.listen = "0.0.0.0:0".parse().unwrap();
    let registry = setup.start().await;
    registry.process.says("started").await;
    let log = log(&registry);
    let warning = line(&log, "is open to other hosts");
    assert_eq!(warning["level"], "WARN");
    registry.stop().await;
}

#[tokio::test]
async fn logs_are_text_when_asked() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path()).flags("--log-format=text");
    let registry = setup.start().await;
    registry.process.says("started").await;
    let said = registry.process.said();
    assert!(!said.contains('{') && !said.contains('\x1b'), "{said}");
    registry.stop().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_does_no_harm() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path()).flags("--log-level=trace");
    let mut registry = setup.spawn_under(&["sh", "-c", r#"exec "$0" "$@" 2>/dev/full"#]);
    registry.ready().await;
    register(&registry).await;
    assert_eq!(registry.rows().await.len(), 1);
    registry.stop().await;
}

#[tokio::test]
async fn a_file_has_one_process() {
    let folder = folder();
    let (first, mut second) = (
        Setup::new(Net::take(), folder.path()),
        Setup::new(Net::take(), folder.path()),
    );
    second.store.clone_from(&first.store);
    let registry = first.start().await;
    register(&registry).await;
    let error = refused(&second).await;
    assert!(error.contains("it is in use by another process"), "{error}");
    assert!(error.contains("registry.redb"), "{error}");
    let registry = registry.kill().await.start().await;
    assert_eq!(registry.rows().await.len(), 1);
}

#[tokio::test]
async fn a_file_of_others_is_refused_and_left_as_it_is() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let file = folder.path().join("registry.redb");
    let cut = {
        let registry = setup.start().await;
        register(&registry).await;
        registry.stop().await;
        let whole = fs::read(&file).unwrap();
        whole[..whole.len() / 2].to_vec()
    };
    for contents in [
        b"SQLite format 3\0 and what follows".to_vec(),
        vec![0; 8_192],
        Vec::new(),
        cut,
    ] {
        fs::write(&file, &contents).unwrap();
        let error = refused(&setup).await;
        assert!(error.contains("cannot be opened"), "{error}");
        assert!(error.contains("move it away"), "{error}");
        assert!(fs::read(&file).unwrap() == contents, "the file was changed");
    }
}

#[tokio::test]
async fn it_tells_its_version() {
    let (code, said) = run(&["--version"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let (code, said) = run(&["serve", "--max-queue=many"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("--max-queue"), "{said}");
}
