//! One who subscribes, and notes when it was told of each change.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::common::Result;
use super::instances::SERVICE;

/// Nothing is told for so long only if something is wrong.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
const CHANGE: &[u8] = b"\"change\":\"";

/// A stream of events, as bytes: reading it is to cost as little as it can.
#[derive(Debug)]
pub struct Subscriber {
    stream: TcpStream,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    /// Instances that it was told of before `current`.
    pub present: usize,
    /// The number of the last change.
    last: usize,
}

impl Subscriber {
    /// Subscribes, and reads what is there.
    pub async fn open(at: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(at).await?;
        let request = format!("GET /services/{SERVICE} HTTP/1.1\r\nhost: registry\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(Self::new(stream))
    }

    /// One on a stream of lines.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
            present: 0,
            last: 0,
        }
    }

    /// Reads up to `current`.
    pub async fn present(&mut self) -> Result<()> {
        let mut is_current = false;
        let mut present = 0;
        while !is_current {
            self.read(|line| {
                present += usize::from(contains(line, b"\"kind\":\"up\""));
                is_current |= contains(line, b"\"kind\":\"current\"");
                Ok(())
            })
            .await?;
        }
        self.present = present;
        Ok(())
    }

    /// Follows until the last of so many changes; tells when each came.
    ///
    /// # Errors
    /// When one is missing, or comes out of order, or the stream ends.
    pub async fn follow(mut self, changes: usize) -> Result<Vec<Instant>> {
        let mut told = Vec::with_capacity(changes);
        while self.last < changes {
            let mut last = self.last;
            self.read(|line| {
                let Some(number) = change(line) else {
                    return Ok(());
                };
                if contains(line, b"\"kind\":\"down\"") {
                    return Err("an instance went: its heartbeats came too late".into());
                }
                if number != last + 1 {
                    return Err(format!("change {number} after {last}").into());
                }
                last = number;
                told.push(Instant::now());
                Ok(())
            })
            .await?;
            self.last = last;
        }
        Ok(told)
    }

    /// Reads what there is, line by line.
    async fn read(&mut self, mut line: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut piece = [0; 16_384];
        let read = timeout(TOLD_WITHIN, self.stream.read(&mut piece)).await;
        let read = read.map_err(|_| format!("nothing was told after change {}", self.last))??;
        if read == 0 {
            return Err(format!("the stream ended after change {}", self.last).into());
        }
        let mut new = &piece[..read];
        while let Some(end) = new.iter().position(|byte| *byte == b'\n') {
            match self.rest.is_empty() {
                true => line(&new[..end])?,
                false => {
                    self.rest.extend_from_slice(&new[..end]);
                    line(&self.rest)?;
                    self.rest.clear();
                }
            }
            new = &new[end + 1..];
        }
        self.rest.extend_from_slice(new);
        Ok(())
    }
}

/// The number of the change that a line tells.
fn change(line: &[u8]) -> Option<usize> {
    let at = find(line, CHANGE)? + CHANGE.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    find(line, part).is_some()
}

fn find(line: &[u8], part: &[u8]) -> Option<usize> {
    line.windows(part.len()).position(|window| window == part)
}
