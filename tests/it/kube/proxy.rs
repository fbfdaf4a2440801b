//! A network between a client and an API server that can be cut, and can hang.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What one direction of a connection holds back, beyond what the kernel does.
const HELD: usize = 16 * 1_024;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    Hanging,
    Cut,
}

/// A port that forwards to another. Ends with its runtime or when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    delay: watch::Sender<Duration>,
    /// One task, which owns those of the connections.
    _task: JoinSet<()>,
}

impl Proxy {
    /// A network that flows to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, delay) = (
            watch::Sender::new(State::Flowing),
            watch::Sender::new(Duration::ZERO),
        );
        let network = Network {
            target,
            state: state.subscribe(),
            delay: delay.subscribe(),
        };
        let mut task = JoinSet::new();
        task.spawn(network.accept(listener));
        Self {
            address,
            state,
            delay,
            _task: task,
        }
    }

    /// Resets all connections, and new ones until it heals.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Forwards nothing: connections stay, and new ones are accepted and hang.
    pub fn hang(&self) {
        self.state.send_replace(State::Hanging);
    }

    /// Lets everything flow again; first what was held back.
    pub fn heal(&self) {
        self.state.send_replace(State::Flowing);
    }

    /// Delays everything by this in either direction.
    pub fn delay(&self, by: Duration) {
        self.delay.send_replace(by);
    }
}

#[derive(Clone)]
struct Network {
    target: SocketAddr,
    state: watch::Receiver<State>,
    delay: watch::Receiver<Duration>,
}

/// The end of a socket that lingers for no time is a reset.
fn reset(stream: &TcpStream) {
    // What cannot be set has been reset by the other end.
    let _ = stream.set_zero_linger();
}

/// The network was cut, or is no more.
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Network {
    async fn accept(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // Without a socket to spare there is nothing to do but go on.
                    if let Ok((client, _)) = accepted {
                        connections.spawn(self.clone().connection(client));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connection(mut self, mut client: TcpStream) {
        let Ok(mut server) = self.connect().await else {
            reset(&client);
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let mut state = self.state.clone();
        let whole = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let there = self.clone().forward(from_client, to_server);
            let back = self.clone().forward(from_server, to_client);
            tokio::select! {
                ended = async { tokio::try_join!(there, back) } => ended.is_ok(),
                _ = state.wait_for(|state| *state == State::Cut) => false,
            }
        };
        if !whole {
            reset(&client);
            reset(&server);
        }
    }

    async fn connect(&mut self) -> Result<TcpStream, Gone> {
        self.flows().await?;
        Ok(TcpStream::connect(self.target).await?)
    }

    /// Forwards one direction to its end.
    async fn forward(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Gone> {
        let mut buffer = vec![0; HELD];
        loop {
            let length = from.read(&mut buffer).await?;
            let delay = *self.delay.borrow();
            if !delay.is_zero() {
                sleep(delay).await;
            }
            self.flows().await?;
            if length == 0 {
                return Ok(to.shutdown().await?);
            }
            to.write_all(&buffer[..length]).await?;
        }
    }

    /// Waits until something can be forwarded.
    async fn flows(&mut self) -> Result<(), Gone> {
        let state = self.state.wait_for(|state| *state != State::Hanging).await;
        match state.as_deref() {
            Ok(State::Flowing) => Ok(()),
            Ok(State::Hanging | State::Cut) | Err(_) => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::time::timeout;

    use super::*;
    use crate::testenv::PATIENCE;

    /// A network between a client and a server that sends back what it reads.
    struct Pair {
        proxy: Proxy,
        _server: JoinSet<()>,
    }

    impl Pair {
        async fn new() -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let proxy = Proxy::start(listener.local_addr().unwrap()).await;
            let mut server = JoinSet::new();
            server.spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    connections.spawn(async move {
                        let (mut from, mut to) = stream.split();
                        let copied = tokio::io::copy(&mut from, &mut to).await;
                        if copied.is_ok() {
                            to.write_all(b"bye").await.unwrap();
                        }
                    });
                }
            });
            Self {
                proxy,
                _server: server,
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.proxy.address).await.unwrap()
        }
    }

    /// Sends a word and reads it back.
    async fn echo(stream: &mut TcpStream, word: &[u8]) -> io::Result<()> {
        stream.write_all(word).await?;
        let mut back = vec![0; word.len()];
        let read = timeout(PATIENCE, stream.read_exact(&mut back)).await;
        read.expect("the connection hangs")?;
        assert_eq!(back, word);
        Ok(())
    }

    /// Reads to the end.
    async fn rest(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        read.expect("the connection hangs").map(|_| rest)
    }

    #[tokio::test]
    async fn it_flows_and_ends_in_order() {
        let pair = Pair::new().await;
        let mut client = pair.connect().await;
        let long = vec![7; 10 * HELD + 1];
        let (mut from, mut to) = client.split();
        let send = async {
            to.write_all(&long).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let both = async { tokio::join!(send, from.read_to_end(&mut back)).1 };
        timeout(PATIENCE, both).await.unwrap().unwrap();
        assert_eq!(back, [&long[..], b"bye"].concat());
    }

    #[tokio::test]
    async fn a_cut_resets_the_old_and_the_new_until_it_heals() {
        let pair = Pair::new().await;
        let mut client = pair.connect().await;
        echo(&mut client, b"before").await.unwrap();
        pair.proxy.cut();
        for mut client in [client, pair.connect().await] {
            let end = rest(&mut client).await.unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        }
        pair.proxy.heal();
        echo(&mut pair.connect().await, b"after").await.unwrap();
    }

    #[tokio::test]
    async fn what_hung_flows_after_a_thaw() {
        let pair = Pair::new().await;
        let mut old = pair.connect().await;
        echo(&mut old, b"before").await.unwrap();
        pair.proxy.hang();
        // This one gives up, and what it sent is delivered all the same.
        let mut new = pair.connect().await;
        for client in [&mut old, &mut new] {
            client.write_all(b"queued").await.unwrap();
            client.shutdown().await.unwrap();
        }
        // As many turns as the tasks of the network could want.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
            for client in [&mut old, &mut new] {
                let error = client.try_read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
        }
        pair.proxy.heal();
        for mut client in [old, new] {
            assert_eq!(rest(&mut client).await.unwrap(), b"queuedbye");
        }
    }

    #[tokio::test]
    async fn what_hangs_can_be_cut() {
        let pair = Pair::new().await;
        pair.proxy.hang();
        let mut client = pair.connect().await;
        client.write_all(b"queued").await.unwrap();
        pair.proxy.cut();
        let end = rest(&mut client).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_delay_holds_either_direction() {
        const DELAY: Duration = Duration::from_millis(30);
        let pair = Pair::new().await;
        let mut client = pair.connect().await;
        echo(&mut client, b"before").await.unwrap();
        pair.proxy.delay(DELAY);
        let begun = tokio::time::Instant::now();
        echo(&mut client, b"after").await.unwrap();
        assert!(begun.elapsed() >= 2 * DELAY);
    }
}
