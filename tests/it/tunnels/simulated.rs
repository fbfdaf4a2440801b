//! A gost that keeps to what the protocol page says of the real one.
//!
//! A server's connections to its clients are pipes in memory; everything else
//! goes over sockets. Dropping a server or a client cuts all its connections at
//! once, as `kill -9` does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinSet;
use tunnel_registry::gost::proto::Service;

use crate::sd::{Sd, uuid};
use crate::tunnels::world::Place;
use crate::tunnels::{Gost, Server, Tunnel, web};

/// Bytes in flight on one stream to a client.
const PIPE: usize = 8 * 1024;
/// Streams to one connector that it has not taken yet.
const STREAMS: usize = 64;
/// How a server begins when it dials another's entrypoint, instead of a
/// visitor's request; the tunnel's ID (of a fixed length) and the request follow.
const RELAY: u8 = 1;
/// How TLS begins.
const TLS: u8 = 22;
/// Longer than any first message of TLS here.
const HELLO: usize = 2 * 1024;

pub struct Simulated(Place);

impl Gost for Simulated {
    type Server = SimulatedServer;
    type Client = JoinSet<()>;

    const TTL: Duration = Duration::from_secs(1);
    const OUTAGE: Duration = Duration::from_secs(2);

    fn new(place: Place) -> Option<Self> {
        Some(Self(place))
    }

    async fn server(&self, n: u8) -> SimulatedServer {
        let place = &self.0;
        let entrypoint = place.entrypoint(n);
        let listener = TcpListener::bind(entrypoint).await.unwrap();
        let server = Arc::new(Inner {
            node: place.new_id(),
            entrypoint,
            hosts: place
                .tunnels
                .iter()
                .map(|tunnel| (tunnel.host.clone(), tunnel.id.clone()))
                .collect(),
            sd: Sd::new(place.protocol, place.registry),
            tunnels: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let tasks = Tasks::default();
        {
            let (server, visitors) = (Arc::clone(&server), tasks.clone());
            tasks.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let server = Arc::clone(&server);
                    visitors.spawn(async move { server.receive(stream).await });
                }
            });
        }
        SimulatedServer { server, tasks }
    }

    fn client(
        &self,
        server: &SimulatedServer,
        tunnels: &[Tunnel],
        service: SocketAddr,
    ) -> JoinSet<()> {
        let mut client = JoinSet::new();
        for tunnel in tunnels {
            let (opener, mut streams) = mpsc::channel(STREAMS);
            server.accept(&tunnel.id, self.0.new_id(), opener);
            client.spawn(async move {
                let mut relays = JoinSet::new();
                while let Some(stream) = streams.recv().await {
                    relays.spawn(serve(stream, service));
                    while relays.try_join_next().is_some() {}
                }
            });
        }
        client
    }
}

/// What a client does with a stream.
async fn serve(mut stream: DuplexStream, service: SocketAddr) {
    if let Ok(mut local) = TcpStream::connect(service).await {
        // Either side may go away at any time.
        let _ = copy_bidirectional(&mut stream, &mut local).await;
    }
}

/// Tasks that end with the last of their owners; they may spawn others.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

pub struct SimulatedServer {
    server: Arc<Inner>,
    tasks: Tasks,
}

impl Drop for SimulatedServer {
    fn drop(&mut self) {
        self.tasks.0.lock().abort_all();
    }
}

impl Server for SimulatedServer {
    fn entrypoint(&self) -> SocketAddr {
        self.server.entrypoint
    }

    fn open_files(&self) -> usize {
        self.server.connections.load(Ordering::SeqCst)
    }

    async fn kill(self) {
        self.tasks.0.lock().abort_all();
        // Everybody who holds a connection is gone when all tasks are.
        let mut tasks = std::mem::take(&mut *self.tasks.0.lock());
        while tasks.join_next().await.is_some() {}
    }
}

impl SimulatedServer {
    /// A client has connected with one connector.
    fn accept(&self, tunnel: &str, id: String, streams: mpsc::Sender<DuplexStream>) {
        let (held, is_new) = {
            let mut tunnels = self.server.tunnels.lock();
            let is_new = !tunnels.contains_key(tunnel);
            let held: &Arc<Held> = tunnels.entry(tunnel.to_owned()).or_default();
            (Arc::clone(held), is_new)
        };
        if is_new {
            let (server, held, tunnel) = (
                Arc::clone(&self.server),
                Arc::clone(&held),
                tunnel.to_owned(),
            );
            self.tasks
                .spawn(async move { server.renew(&held, &tunnel).await });
        }
        let (server, tunnel) = (Arc::clone(&self.server), tunnel.to_owned());
        self.tasks.spawn(async move {
            let service = server.service(&tunnel, &id);
            let connector = Connector { id, streams };
            held.0.write().await.push(connector.clone());
            // gost logs an error, and never registers again.
            let _ = server.sd.register(&service).await;
            connector.streams.closed().await;
            let _ = server.sd.deregister(&service).await;
        });
    }
}

struct Inner {
    node: String,
    entrypoint: SocketAddr,
    hosts: HashMap<String, String>,
    sd: Sd,
    tunnels: Mutex<HashMap<String, Arc<Held>>>,
    connections: AtomicUsize,
}

/// A tunnel's connectors. Visitors wait while they are being renewed.
#[derive(Default)]
struct Held(RwLock<Vec<Connector>>);

#[derive(Clone)]
struct Connector {
    id: String,
    streams: mpsc::Sender<DuplexStream>,
}

/// Counts a connection for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a visitor says first: a request's header, or the first message of TLS.
async fn beginning(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    if first != [TLS] {
        return web::head(stream).await;
    }
    // Whoever says hello here sends it at once.
    let mut hello = vec![0; HELLO];
    let length = stream.read(&mut hello).await.ok()?;
    hello.truncate(length);
    Some(hello)
}

impl Inner {
    fn service(&self, tunnel: &str, id: &str) -> Service {
        Service {
            id: id.to_owned(),
            name: tunnel.to_owned(),
            node: self.node.clone(),
            network: "tcp".into(),
            address: self.entrypoint.to_string(),
        }
    }

    /// Renews a tunnel's connectors one after the other, under its write lock,
    /// for as long as the server lives.
    async fn renew(&self, held: &Held, tunnel: &str) {
        let mut ticks = tokio::time::interval(Simulated::TTL);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let mut connectors = held.0.write().await;
            connectors.retain(|connector| !connector.streams.is_closed());
            for connector in &*connectors {
                // The answer is ignored.
                let _ = self.sd.renew(&self.service(tunnel, &connector.id)).await;
            }
        }
    }

    /// Somebody dialled the entrypoint: a visitor, or another server.
    async fn receive(&self, mut stream: TcpStream) {
        let _counted = Counted::new(&self.connections);
        let mut kind = [0];
        if stream.peek(&mut kind).await.is_err() {
            return;
        }
        let relayed = match kind {
            [RELAY] => {
                let mut preface = vec![0; 1 + uuid(0, 0).len()];
                if stream.read_exact(&mut preface).await.is_err() {
                    return;
                }
                Some(String::from_utf8(preface.split_off(1)).unwrap())
            }
            _ => None,
        };
        let Some(head) = beginning(&mut stream).await else {
            return;
        };
        let Some(tunnel) = relayed.or_else(|| self.asked_for(&head)) else {
            return;
        };
        self.route(stream, &tunnel, &head).await;
    }

    /// The tunnel of the host that is named in the clear.
    fn asked_for(&self, head: &[u8]) -> Option<String> {
        let named = |host: &str| head.windows(host.len()).any(|text| text == host.as_bytes());
        let mut hosts = self.hosts.iter();
        hosts
            .find(|(host, _)| named(host))
            .map(|(_, tunnel)| tunnel.clone())
    }

    /// To a connector here; else to the first other server that the registry
    /// names, once.
    async fn route(&self, mut visitor: TcpStream, tunnel: &str, head: &[u8]) {
        if let Some(mut stream) = self.open(tunnel).await {
            if stream.write_all(head).await.is_ok() {
                let _ = copy_bidirectional(&mut visitor, &mut stream).await;
            }
            return;
        }
        let Ok(services) = self.sd.get(tunnel).await else {
            return;
        };
        let other = services
            .iter()
            .find(|service| service.node != self.node && service.network == "tcp");
        let Some(other) = other.filter(|other| !other.address.is_empty()) else {
            return;
        };
        let Ok(mut stream) = TcpStream::connect(&other.address).await else {
            return;
        };
        let _counted = Counted::new(&self.connections);
        let preface = [&[RELAY], tunnel.as_bytes(), head].concat();
        if stream.write_all(&preface).await.is_ok() {
            let _ = copy_bidirectional(&mut visitor, &mut stream).await;
        }
    }

    /// A stream to one of the tunnel's connectors here.
    async fn open(&self, tunnel: &str) -> Option<DuplexStream> {
        let held = self.tunnels.lock().get(tunnel).cloned()?;
        let connectors = held.0.read().await;
        let open: Vec<_> = connectors
            .iter()
            .filter(|connector| !connector.streams.is_closed())
            .collect();
        let connector = open.get(fastrand::usize(..open.len().max(1)))?;
        let (ours, theirs) = tokio::io::duplex(PIPE);
        connector.streams.send(theirs).await.ok()?;
        Some(ours)
    }
}
