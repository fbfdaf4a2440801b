//! A listener in this process, and questions over both transports.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnel_registry::discoverd::Services;
use tunnel_registry::discoverd::dns::Zone;
use tunnel_registry::metrics::Metrics;
use tunnel_registry::server::dns::{DnsServer, Limits};

use crate::discoverd::env::Env;
use crate::testenv::PATIENCE;

/// Long enough for whatever is not tested.
pub(super) fn patient() -> Limits {
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
pub(super) struct Dns {
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

impl Dns {
    pub(super) fn of(env: &Env, limits: Limits) -> Self {
        Self::start(&env.services, limits)
    }

    pub(super) fn start(services: &Arc<Services>, limits: Limits) -> Self {
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

    pub(super) async fn ended(&mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.join_next()).await.unwrap();
    }

    /// A metric's value, by the rest of its name and its labels.
    pub(super) fn count(&self, metric: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let name = format!("tunnel_registry_dns_{metric} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    pub(super) async fn until(&self, metric: &str, value: u64) {
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
    pub(super) async fn both(&self, name: &str, kind: RecordType) -> [Message; 2] {
        let question = question(name, kind);
        [
            over_udp(self.address, &question).await,
            over_tcp(self.address, &question).await,
        ]
    }

    /// The only address that a name has.
    pub(super) async fn ip(&self, name: &str) -> String {
        let [udp, tcp] = self.both(name, RecordType::A).await;
        assert_eq!(udp.answers, tcp.answers);
        let [record] = &udp.answers[..] else {
            panic!("{name}: {udp:?}");
        };
        record.data.to_string()
    }

    /// Both say that there is nothing, and for how long that may be kept.
    pub(super) async fn nothing(&self, name: &str, kind: RecordType, code: ResponseCode) {
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

pub(super) fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1_232);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// Sends a packet, again if it or its answer was lost.
pub(super) async fn over_udp(address: SocketAddr, packet: &[u8]) -> Message {
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

pub(super) async fn over_tcp(address: SocketAddr, packet: &[u8]) -> Message {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, packet).await
}

pub(super) async fn ask(stream: &mut TcpStream, packet: &[u8]) -> Message {
    stream.write_all(&framed(packet)).await.unwrap();
    receive(stream, packet).await
}

pub(super) async fn receive(stream: &mut TcpStream, packet: &[u8]) -> Message {
    let reading = async {
        let length = stream.read_u16().await.unwrap();
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    };
    read(packet, &timeout(PATIENCE, reading).await.unwrap())
}

pub(super) fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap();
    [&length.to_be_bytes(), packet].concat()
}

pub(super) fn read(packet: &[u8], answer: &[u8]) -> Message {
    assert_eq!(answer[..2], packet[..2], "the answer of another question");
    Message::from_vec(answer).unwrap()
}

/// Waits until the other side has closed.
pub(super) async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("it stays open");
    assert!(rest.is_empty(), "{rest:?}");
}

pub(super) fn data(records: &[Record]) -> BTreeSet<String> {
    records
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

pub(super) fn queries(transport: &str, outcome: &str) -> String {
    format!(r#"queries_total{{transport="{transport}",outcome="{outcome}"}}"#)
}
