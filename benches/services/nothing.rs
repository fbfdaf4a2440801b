//! The yardstick: a server that does nothing but write a line to every subscriber
//! for each change, at once. In this process, on a thread of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use super::common::Result;

/// A yardstick that waits for its subscribers.
#[derive(Debug)]
pub struct Nothing {
    listener: std::net::TcpListener,
}

impl Nothing {
    /// Listens on a free port.
    pub fn open() -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Where it listens.
    pub fn at(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Accepts so many subscribers, then tells them of so many changes at an even
    /// pace; tells when each was sent.
    pub fn tell(self, subscribers: usize, changes: usize, pause: Duration) -> Result<Vec<Instant>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener)?;
            let mut streams: Vec<TcpStream> = Vec::new();
            while streams.len() < subscribers {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                streams.push(stream);
            }
            let mut ticks = interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut sent = Vec::new();
            for change in 1..=changes {
                ticks.tick().await;
                sent.push(Instant::now());
                // As long as an event of the registry's.
                let line = format!(
                    "data: {{\"service\":\"busy\",\"kind\":\"update\",{:130}\"change\":\"{change}\"}}\n\n",
                    ""
                );
                let writes = streams.iter_mut().map(|stream| stream.write_all(line.as_bytes()));
                for written in join_all(writes).await {
                    written?;
                }
            }
            Ok(sent)
        })
    }
}
