//! Ten thousand connections at once, from a process of its own: refused beyond
//! the limits, while those who are registered are served.

use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tunnel_registry::gost::proto::Service;

use crate::process::{Net, PATIENCE, Registry, Setup, folder, until};
use crate::sd::{Kept, Protocol, Sd, uuid};

/// Connections of the flood, half of them from one address.
const FLOOD: usize = 10_000;
/// Addresses that the other half comes from.
const SPREAD: usize = 50;
/// The limits under test.
const IN_ALL: usize = 2_000;
const PER_ADDRESS: usize = 1_000;
/// Connections that are being opened at once.
const AT_ONCE: usize = 100;
/// Files of the flooding process beside its connections.
const OTHER_FILES: usize = 100;
/// Registered clients of each protocol.
const CLIENTS: usize = 10;

/// Tells the child what to do: the registry, then lines of `address count` on
/// standard input. It answers a line when they are open, and keeps them open
/// until standard input ends.
const TARGET: &str = "FLOOD_TARGET";

/// Not a test: what the child process runs.
#[tokio::test]
#[ignore = "the flooding process, which the test starts"]
async fn the_flooding_process() {
    let Ok(target) = std::env::var(TARGET) else {
        return;
    };
    let target: SocketAddr = target.parse().unwrap();
    allow_many_files();
    let mut open: Vec<TcpStream> = Vec::new();
    // Nothing else is to be done while it waits for a line.
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (source, count) = line.split_once(' ').unwrap();
        let source: IpAddr = source.parse().unwrap();
        let mut left: usize = count.parse().unwrap();
        let mut opening = JoinSet::new();
        while left > 0 || !opening.is_empty() {
            if left > 0 && opening.len() < AT_ONCE {
                left -= 1;
                opening.spawn(connect(source, target));
                continue;
            }
            open.push(opening.join_next().await.unwrap().unwrap());
        }
        println!("opened {}", open.len());
        std::io::stdout().flush().unwrap();
    }
}

/// The kernel makes the connection, whether or not it is let in then.
async fn connect(source: IpAddr, target: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let connect = timeout(PATIENCE, socket.connect(target));
    connect.await.expect("a connection in time").unwrap()
}

fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// The child.
struct Flood {
    _process: Child,
    orders: ChildStdin,
    answers: tokio::io::Lines<BufReader<ChildStdout>>,
    opened: usize,
}

impl Flood {
    fn start(target: SocketAddr) -> Self {
        let program: PathBuf = std::env::current_exe().unwrap();
        let mut process = Command::new(program)
            .args(["--exact", "flood::the_flooding_process"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(TARGET, target.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            _process: process,
            orders,
            answers,
            opened: 0,
        }
    }

    /// Opens more connections from `source`.
    async fn order(&mut self, source: IpAddr, count: usize) {
        let line = format!("{source} {count}\n");
        self.orders.write_all(line.as_bytes()).await.unwrap();
        self.opened += count;
    }

    /// Waits until all that was ordered is open.
    async fn open(&mut self) {
        let wanted = format!("opened {}", self.opened);
        let answered = async {
            loop {
                let line = self.answers.next_line().await.unwrap();
                let line = line.expect("the flooding process has ended");
                if line.ends_with(&wanted) {
                    return;
                }
            }
        };
        timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| panic!("waited {PATIENCE:?} until it has {wanted} connections"));
    }
}

/// Those who are registered and go about their business.
struct Clients {
    lasting: Vec<(Sd, Service)>,
    registry: SocketAddr,
    source: IpAddr,
}

impl Clients {
    /// Over one connection each; half of them over gRPC, half over HTTP.
    async fn register(registry: SocketAddr, source: IpAddr) -> Self {
        let mut lasting = Vec::new();
        for n in 0..2 * CLIENTS {
            let protocol = [Protocol::Grpc, Protocol::Http][n % 2];
            let sd = Sd::from(protocol, registry, Some(source));
            let service = Service {
                id: uuid(1, n),
                name: uuid(2, n),
                node: uuid(3, n),
                network: "tcp".into(),
                address: format!("{source}:80"),
            };
            assert_eq!(sd.register(&service).await.unwrap(), Kept::Stored);
            lasting.push((sd, service));
        }
        Self {
            lasting,
            registry,
            source,
        }
    }

    /// Each renews and asks, over the connection that it has.
    async fn are_served(&self) {
        for (sd, service) in &self.lasting {
            served(sd, service).await;
        }
    }

    /// The same over new connections.
    async fn newcomers_are_served(&self) {
        for (at, (_, service)) in self.lasting.iter().enumerate() {
            let protocol = [Protocol::Grpc, Protocol::Http][at % 2];
            let sd = Sd::from(protocol, self.registry, Some(self.source));
            served(&sd, service).await;
        }
    }
}

async fn served(sd: &Sd, service: &Service) {
    let calls = async {
        sd.renew(service).await.unwrap();
        let found = sd.get(&service.name).await.unwrap();
        assert_eq!(found, std::slice::from_ref(service));
    };
    timeout(PATIENCE, calls)
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for the answers to {service:?}"));
}

async fn refused(registry: &Registry, limit: &str) -> usize {
    let metric = format!(r#"tunnel_registry_connections_refused_total{{limit="{limit}"}}"#);
    registry.metric(&metric).await.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_and_the_registered_are_served() {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let room = usize::try_from(most).unwrap().saturating_sub(OTHER_FILES);
    let count = FLOOD.min(room);
    if count < FLOOD {
        eprintln!("a flood of {count} instead of {FLOOD}: no more files may be open (ulimit -Hn)");
    }
    assert!(
        count > 2 * IN_ALL,
        "too few files may be open for a flood (ulimit -Hn)"
    );
    let net = Net::take();
    let folder = folder();
    // A flood that says nothing must not be gone before it is complete.
    let setup = Setup::new(net, folder.path())
        .flags(&format!("--max-connections={IN_ALL}"))
        .flags(&format!("--max-connections-per-address={PER_ADDRESS}"))
        .flags("--first-request-timeout=10m");
    let registry = setup.start().await;
    let clients = Clients::register(setup.listen, net.host(2)).await;
    clients.are_served().await;

    let mut flood = Flood::start(setup.listen);
    let half = count / 2;
    flood.order(net.host(3), half).await;
    tokio::join!(flood.open(), async {
        clients.are_served().await;
        clients.newcomers_are_served().await;
    });
    until(
        "all beyond the limit of one address are refused",
        async || (refused(&registry, "peer").await == half - PER_ADDRESS).then_some(()),
    )
    .await;
    clients.are_served().await;
    clients.newcomers_are_served().await;
    assert_eq!(refused(&registry, "total").await, 0);

    for n in 0..SPREAD {
        let source = net.host(u8::try_from(100 + n).unwrap());
        flood.order(source, half / SPREAD).await;
    }
    tokio::join!(flood.open(), clients.are_served());
    // Those who are let in are the clients, one address's share, and what is left.
    until("all beyond the limit in all are refused", async || {
        let (_, metrics) = registry.admin("/metrics").await;
        let open = crate::process::value(&metrics, "tunnel_registry_connections");
        let refused = refused(&registry, "total").await;
        (open == IN_ALL as u64 && refused >= half - PER_ADDRESS).then_some(())
    })
    .await;
    clients.are_served().await;

    drop(flood);
    until("the flood has gone", async || {
        let open = registry.metric("tunnel_registry_connections").await;
        (open <= 2 * CLIENTS as u64).then_some(())
    })
    .await;
    clients.are_served().await;
    clients.newcomers_are_served().await;
    registry.stop().await;
}
