//! Services by DNS, over real sockets.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnel_registry::backend::Backend;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::discoverd::dns::Zone;
use tunnel_registry::discoverd::engine::{Limits as Most, Setup};
use tunnel_registry::discoverd::{InstanceId, Services};
use tunnel_registry::metrics::Metrics;
use tunnel_registry::server::dns::{DnsServer, Limits};

use super::env::{Env, Plan, instance};
use crate::process::{self, Net, Registry, folder};
use crate::testenv::{Http, PATIENCE};

/// Long enough for whatever is not tested.
fn patient() -> Limits {
    Limits {
        idle: PATIENCE,
        read: PATIENCE,
        write: PATIENCE,
        life: PATIENCE * 100,
        drain: PATIENCE,
        ..Limits::default()
    }
}

/// A listener for the services of an [`Env`].
struct Dns {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Dns {
    fn of(env: &Env, limits: Limits) -> Self {
        Self::start(&env.services, limits)
    }

    fn start(services: &Arc<Services>, limits: Limits) -> Self {
        let server = DnsServer::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let zone = Zone {
            domain: "discoverd.".parse().unwrap(),
            ttl: Duration::ZERO,
        };
        let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let address = server.local_addr();
        tasks.spawn(server.run(
            Arc::new(zone),
            Arc::clone(services) as _,
            Arc::clone(&metrics),
            stop.clone(),
        ));
        Self {
            address,
            metrics,
            stop,
            tasks,
        }
    }

    async fn ended(&mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.join_next()).await.unwrap();
    }

    /// A metric's value, by the rest of its name and its labels.
    fn count(&self, metric: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let name = format!("tunnel_registry_dns_{metric} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    async fn until(&self, metric: &str, value: u64) {
        let reached = async {
            while self.count(metric) != value {
                tokio::task::yield_now().await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("{metric} stays {}, not {value}", self.count(metric));
        }
    }

    /// One question over each transport.
    async fn both(&self, name: &str, kind: RecordType) -> [Message; 2] {
        let question = question(name, kind);
        [
            over_udp(self.address, &question).await,
            over_tcp(self.address, &question).await,
        ]
    }

    /// The only address that a name has.
    async fn ip(&self, name: &str) -> String {
        let [udp, tcp] = self.both(name, RecordType::A).await;
        assert_eq!(udp.answers, tcp.answers);
        let [record] = &udp.answers[..] else {
            panic!("{name}: {udp:?}");
        };
        record.data.to_string()
    }

    /// Both say that there is nothing, and for how long that may be kept.
    async fn nothing(&self, name: &str, kind: RecordType, code: ResponseCode) {
        for answer in self.both(name, kind).await {
            assert_eq!(answer.response_code, code, "{name} {kind}");
            assert!(answer.answers.is_empty() && answer.authoritative);
            let [soa] = &answer.authorities[..] else {
                panic!("{name}: {answer:?}");
            };
            assert_eq!(soa.record_type(), RecordType::SOA);
            assert_eq!((soa.name.to_string().as_str(), soa.ttl), ("discoverd.", 0));
        }
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1_232);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// Sends a packet, again if it or its answer was lost.
async fn over_udp(address: SocketAddr, packet: &[u8]) -> Message {
    let socket = UdpSocket::bind((address.ip(), 0)).await.unwrap();
    socket.connect(address).await.unwrap();
    let mut buffer = vec![0; 65_536];
    let asked = async {
        loop {
            socket.send(packet).await.unwrap();
            let received = timeout(PATIENCE / 10, socket.recv(&mut buffer)).await;
            if let Ok(received) = received {
                return received.unwrap();
            }
        }
    };
    let length = timeout(PATIENCE, asked).await.expect("no answer");
    assert!(length <= 1_232);
    read(packet, &buffer[..length])
}

async fn over_tcp(address: SocketAddr, packet: &[u8]) -> Message {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, packet).await
}

async fn ask(stream: &mut TcpStream, packet: &[u8]) -> Message {
    stream.write_all(&framed(packet)).await.unwrap();
    receive(stream, packet).await
}

async fn receive(stream: &mut TcpStream, packet: &[u8]) -> Message {
    let reading = async {
        let length = stream.read_u16().await.unwrap();
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    };
    read(packet, &timeout(PATIENCE, reading).await.unwrap())
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap();
    [&length.to_be_bytes(), packet].concat()
}

fn read(packet: &[u8], answer: &[u8]) -> Message {
    assert_eq!(answer[..2], packet[..2], "the answer of another question");
    Message::from_vec(answer).unwrap()
}

/// Waits until the other side has closed.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("it stays open");
    assert!(rest.is_empty(), "{rest:?}");
}

fn data(records: &[Record]) -> BTreeSet<String> {
    records
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

fn queries(transport: &str, outcome: &str) -> String {
    format!(r#"queries_total{{transport="{transport}",outcome="{outcome}"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_answered_over_both_transports() {
    for env in Env::each(Plan::usual).await {
        let dns = Dns::of(&env, patient());
        env.done("PUT", "/services/db", "{}").await;
        dns.nothing("db.discoverd.", RecordType::A, ResponseCode::NoError)
            .await;
        env.register("db", "10.0.0.1:80", "").await;
        env.register("db", "[2001:db8::1]:81", "").await;
        let [v4, v6] = ["10.0.0.1:80", "[2001:db8::1]:81"].map(|addr| InstanceId::of("tcp", addr));
        let a = BTreeSet::from(["10.0.0.1".to_owned()]);
        let aaaa = BTreeSet::from(["2001:db8::1".to_owned()]);
        let srv = BTreeSet::from([
            format!("1 1 80 {v4}.db._i.discoverd."),
            format!("1 1 81 {v6}.db._i.discoverd."),
        ]);
        for name in [
            "db.discoverd.",
            "DB.DISCOVERD.",
            "_db._tcp.discoverd.",
            "_DB._tcp.Discoverd.",
        ] {
            let any = &(&a | &aaaa) | &srv;
            for (kind, expected) in [
                (RecordType::A, &a),
                (RecordType::AAAA, &aaaa),
                (RecordType::SRV, &srv),
                (RecordType::ANY, &any),
            ] {
                for answer in dns.both(name, kind).await {
                    assert_eq!(answer.response_code, ResponseCode::NoError);
                    assert!(answer.authoritative && !answer.truncation);
                    assert_eq!(&data(&answer.answers), expected, "{name} {kind}");
                    for record in &answer.answers {
                        assert_eq!(record.name.to_string(), name);
                        assert_eq!(record.ttl, 0);
                    }
                    if kind == RecordType::SRV {
                        assert_eq!(data(&answer.additionals), &a | &aaaa);
                    }
                }
            }
            dns.nothing(name, RecordType::TXT, ResponseCode::NoError)
                .await;
        }
        // What an SRV record names has an address.
        assert_eq!(dns.ip(&format!("{v4}.db._i.discoverd.")).await, "10.0.0.1");
        dns.nothing(
            &format!("{v4}.db._i.discoverd."),
            RecordType::AAAA,
            ResponseCode::NoError,
        )
        .await;
        dns.nothing(
            "_db._udp.discoverd.",
            RecordType::SRV,
            ResponseCode::NoError,
        )
        .await;
        dns.nothing("x.discoverd.", RecordType::A, ResponseCode::NXDomain)
            .await;
        for answer in dns.both("example.com.", RecordType::A).await {
            assert_eq!(answer.response_code, ResponseCode::Refused);
            assert!(answer.authorities.is_empty());
        }
        for (outcome, at_least) in [
            ("answered", 16),
            ("no_data", 7),
            ("no_name", 1),
            ("refused", 1),
        ] {
            assert!(dns.count(&queries("tcp", outcome)) >= at_least, "{outcome}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_are_cut_over_udp_and_whole_over_tcp() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    env.done("PUT", "/services/web", "{}").await;
    for n in 1..=40 {
        env.register("web", &format!("10.0.0.{n}:{}", 8_000 + n), "")
            .await;
    }
    let mut seen = BTreeSet::new();
    let all = async {
        while seen.len() < 40 {
            let answer = over_udp(dns.address, &question("web.discoverd.", RecordType::A)).await;
            assert_eq!(answer.answers.len(), 3);
            assert!(!answer.truncation);
            seen.extend(data(&answer.answers));
        }
    };
    timeout(PATIENCE, all).await.expect("some are never drawn");
    let whole = over_tcp(dns.address, &question("web.discoverd.", RecordType::A)).await;
    assert_eq!(data(&whole.answers), seen);
    let whole = over_tcp(dns.address, &question("web.discoverd.", RecordType::SRV)).await;
    assert_eq!((whole.answers.len(), whole.additionals.len()), (40, 40));
    let some = over_udp(dns.address, &question("web.discoverd.", RecordType::SRV)).await;
    assert_eq!((some.answers.len(), some.additionals.len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_follow_who_leads_and_who_is_there() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    let leader = "leader.db.discoverd.";
    dns.nothing(leader, RecordType::A, ResponseCode::NXDomain)
        .await;
    env.done("PUT", "/services/db", "{}").await;
    dns.nothing(leader, RecordType::A, ResponseCode::NXDomain)
        .await;
    env.register("db", "10.0.0.1:80", "").await;
    env.register("db", "10.0.0.2:80", "").await;
    assert_eq!(dns.ip(leader).await, "10.0.0.1");
    env.unregister("db", "10.0.0.1:80").await;
    assert_eq!(dns.ip(leader).await, "10.0.0.2");
    assert_eq!(dns.ip("db.discoverd.").await, "10.0.0.2");
    let gone = format!("{}.db._i.discoverd.", InstanceId::of("tcp", "10.0.0.1:80"));
    dns.nothing(&gone, RecordType::A, ResponseCode::NXDomain)
        .await;
    env.unregister("db", "10.0.0.2:80").await;
    dns.nothing(leader, RecordType::A, ResponseCode::NXDomain)
        .await;
    dns.nothing("db.discoverd.", RecordType::A, ResponseCode::NoError)
        .await;
    env.done("DELETE", "/services/db", "").await;
    dns.nothing("db.discoverd.", RecordType::A, ResponseCode::NXDomain)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_store_was_read_nobody_is_told_that_there_is_nothing() {
    let store: Arc<dyn Backend> = Arc::new(Memory::new());
    let setup = Setup {
        identity: "test".into(),
        shared: false,
        ttl: PATIENCE,
        limits: Most::default(),
        seed: 1,
    };
    let services = Arc::new(Services::new(setup, 1, &store));
    let dns = Dns::start(&services, patient());
    for answer in dns.both("db.discoverd.", RecordType::A).await {
        assert_eq!(answer.response_code, ResponseCode::ServFail);
        assert!(!answer.authoritative && answer.authorities.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_are_told_or_ignored_and_do_no_harm() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    env.done("PUT", "/services/db", "{}").await;
    env.register("db", "10.0.0.1:80", "").await;
    let good = question("db.discoverd.", RecordType::A);

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut response = good.clone();
    response[2] |= 0x80;
    for packet in [&b""[..], &b"x"[..], &good[..11], &response] {
        socket.send_to(packet, dns.address).await.unwrap();
    }
    dns.until(&queries("udp", "ignored"), 4).await;
    // Beyond the longest question the rest is cut off.
    let cut = [good.clone(), vec![0; 6_000]].concat();
    socket.send_to(&cut, dns.address).await.unwrap();
    for packet in [&good[..12], &good[..20]] {
        let answer = over_udp(dns.address, packet).await;
        assert_eq!(answer.response_code, ResponseCode::FormErr);
    }
    assert_eq!(dns.ip("db.discoverd.").await, "10.0.0.1");

    // Several questions at once, in pieces, are answered in their order.
    let mut stream = TcpStream::connect(dns.address).await.unwrap();
    let second = question("x.discoverd.", RecordType::A);
    let both = [framed(&good), framed(&second)].concat();
    let (head, tail) = both.split_at(good.len() / 2);
    stream.write_all(head).await.unwrap();
    stream.flush().await.unwrap();
    stream.write_all(tail).await.unwrap();
    let answer = receive(&mut stream, &good).await;
    assert_eq!(answer.response_code, ResponseCode::NoError);
    let answer = receive(&mut stream, &second).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    let answer = ask(&mut stream, &good[..20]).await;
    assert_eq!(answer.response_code, ResponseCode::FormErr);

    // What cannot be a question ends its connection.
    let long = vec![0; 4_097];
    for (ended, packet) in [&long, &response, &Vec::new()].into_iter().enumerate() {
        let mut stream = TcpStream::connect(dns.address).await.unwrap();
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        stream.write_all(&length).await.unwrap();
        if packet.len() < 4_097 {
            stream.write_all(packet).await.unwrap();
        }
        closed(stream).await;
        let malformed = r#"connections_closed_total{cause="malformed"}"#;
        dns.until(malformed, ended as u64 + 1).await;
    }
    assert_eq!(dns.ip("db.discoverd.").await, "10.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_in_number_and_time() {
    let env = Env::one(Plan::usual()).await;
    let few = Limits {
        connections: 4,
        connections_per_peer: 3,
        ..patient()
    };
    let dns = Dns::of(&env, few);
    let mut held = Vec::new();
    for n in 1..=3 {
        held.push(TcpStream::connect(dns.address).await.unwrap());
        dns.until("connections", n).await;
    }
    for refused in 1..=20 {
        closed(TcpStream::connect(dns.address).await.unwrap()).await;
        dns.until(r#"connections_refused_total{limit="peer"}"#, refused)
            .await;
    }
    // Datagrams have room all the same.
    let packet = question("x.discoverd.", RecordType::A);
    let answer = over_udp(dns.address, &packet).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    drop(held);
    dns.until("connections", 0).await;
    dns.until(r#"connections_closed_total{cause="peer"}"#, 3)
        .await;

    let moment = Duration::from_millis(1);
    for (cause, limits, sent) in [
        (
            "idle",
            Limits {
                idle: moment,
                ..patient()
            },
            &[][..],
        ),
        (
            "idle",
            Limits {
                read: moment,
                ..patient()
            },
            &[0, 40][..],
        ),
        (
            "old",
            Limits {
                life: moment,
                ..patient()
            },
            &[][..],
        ),
    ] {
        let dns = Dns::of(&env, limits);
        let mut stream = TcpStream::connect(dns.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        closed(stream).await;
        dns.until(
            &format!(r#"connections_closed_total{{cause="{cause}"}}"#),
            1,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_datagrams_is_survived() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packet = question("x.discoverd.", RecordType::ANY);
    for _ in 0..20_000 {
        // The system may have no room for it: so much the better.
        let _ = socket.try_send_to(&packet, dns.address);
    }
    let answer = over_udp(dns.address, &packet).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    let asked = dns.count(&queries("udp", "no_name"));
    assert!((1..=20_100).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_it_is_asked_to_and_gives_its_port_back() {
    let env = Env::one(Plan::usual()).await;
    let mut dns = Dns::of(&env, patient());
    let mut waiting = TcpStream::connect(dns.address).await.unwrap();
    ask(&mut waiting, &question("x.discoverd.", RecordType::A)).await;
    let taken = DnsServer::bind(dns.address, patient())
        .unwrap_err()
        .to_string();
    assert!(
        taken.contains("already in use") && taken.contains("--dns-listen"),
        "{taken}"
    );
    dns.ended().await;
    // Nothing was in flight, so nobody waited.
    closed(waiting).await;
    dns.until(r#"connections_closed_total{cause="shutdown"}"#, 1)
        .await;
    drop(DnsServer::bind(dns.address, patient()).unwrap());
    // For datagrams alone somebody may have it, too.
    let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let taken = DnsServer::bind(theirs.local_addr().unwrap(), patient());
    assert!(taken.unwrap_err().to_string().contains("already in use"));
}

/// The program with a service, answering at two addresses.
async fn program(net: Net, folder: &std::path::Path) -> (Registry, [SocketAddr; 2]) {
    let listen = [net.at(1, 5353), net.at(2, 5353)];
    let [one, two] = listen;
    let flags = format!("--dns-listen {one},{two} --dns-domain services.test --dns-ttl 5s");
    let registry = process::Setup::new(net, folder).flags(&flags).start().await;
    for (path, body) in [
        ("/services/db".to_owned(), "{}".to_owned()),
        instance("db", "10.0.0.1:5432", ""),
    ] {
        let stream = TcpStream::connect(registry.setup.listen).await.unwrap();
        let answer = Http(stream).send("PUT", &path, &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    (registry, listen)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_answers_at_each_address_until_it_stops() {
    let folder = folder();
    let (registry, listen) = program(Net::take(), folder.path()).await;
    let [one, two] = listen;
    registry.process.says(&format!("{one},{two}")).await;
    for address in listen {
        let packet = question("db.services.test.", RecordType::A);
        for answer in [
            over_udp(address, &packet).await,
            over_tcp(address, &packet).await,
        ] {
            assert_eq!(data(&answer.answers), BTreeSet::from(["10.0.0.1".into()]));
            assert_eq!(answer.answers[0].ttl, 5);
        }
    }
    let asked = r#"tunnel_registry_dns_queries_total{transport="tcp",outcome="answered"}"#;
    assert_eq!(registry.metric(asked).await, 2);
    registry.stop().await;
    for address in listen {
        drop(DnsServer::bind(address, patient()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_understands_the_answers() {
    let version = Command::new("dig").arg("-v").output().await;
    if version.is_err() {
        let line = "SKIPPED: dig_understands_the_answers: no dig on the PATH (dnsutils has it)\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let folder = folder();
    let (registry, [address, _]) = program(Net::take(), folder.path()).await;
    let id = InstanceId::of("tcp", "10.0.0.1:5432");
    let (server, port) = (format!("@{}", address.ip()), address.port().to_string());
    for transport in ["+notcp", "+tcp"] {
        for (name, kind, expected) in [
            ("db.services.test", "A", vec!["10.0.0.1".to_owned()]),
            (
                "_db._tcp.services.test",
                "SRV",
                vec![format!("1 1 5432 {id}.db._i.services.test.")],
            ),
            ("leader.db.services.test", "A", vec!["10.0.0.1".to_owned()]),
            ("x.services.test", "A", vec![]),
        ] {
            let mut dig = Command::new("dig");
            dig.args([&server, "-p", &port, "+short", transport, name, kind]);
            let output = timeout(PATIENCE, dig.output()).await.unwrap().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{text}");
            assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{name}");
        }
    }
    registry.stop().await;
}
