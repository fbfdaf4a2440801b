//! A way to a server that can be cut, or hang.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Takes connections and passes them on.
pub struct Relay {
    pub address: SocketAddr,
    hangs: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hangs, hanging) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(pass_on(near, server, hanging.clone()));
            }
        });
        Self {
            address,
            hangs,
            _tasks: tasks,
        }
    }

    /// Nothing gets through any more, and nothing is closed.
    pub fn hang(&self) {
        self.hangs.send(true).unwrap();
    }
}

async fn pass_on(mut near: TcpStream, server: SocketAddr, mut hanging: watch::Receiver<bool>) {
    let mut far = TcpStream::connect(server).await.unwrap();
    let hangs = async {
        let _ended = hanging.wait_for(|hangs| *hangs).await;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        () = hangs => {}
    }
    // Both stay open.
    std::future::pending().await
}
