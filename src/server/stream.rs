//! The bytes of a connection: plain or TLS, and who ended them.

use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::server::throttle::Throttle;
use crate::server::tls::Tls;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who began to end a connection: whoever came first.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

/// An end, from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The peer ended it.
    Peer = 1,
    /// We did.
    Here = 2,
}

impl Fate {
    /// Notes that a side begins to end the connection.
    pub(super) fn begin(&self, side: Side) {
        // Only the first one counts.
        let _ = self
            .0
            .compare_exchange(0, side as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Who began; none while nobody has.
    pub(super) fn side(&self) -> Option<Side> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Side::Peer),
            2 => Some(Side::Here),
            _ => None,
        }
    }
}

/// Why there is no transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTransport {
    /// No handshake, or not in time.
    Tls,
    /// The listener ends.
    Cancelled,
}

/// How a handshake is made.
#[derive(Debug)]
pub(super) struct Handshake<'a> {
    /// None leaves the connection in clear.
    pub tls: Option<&'a Tls>,
    /// How long it may take.
    pub limit: Duration,
    /// Bounds what is logged of those that fail.
    pub failures: &'a Throttle,
    pub cancelled: &'a CancellationToken,
}

impl Handshake<'_> {
    /// Makes it, if one is to be made.
    pub(super) async fn make(
        &self,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Result<Transport, NoTransport> {
        let Some(tls) = self.tls else {
            return Ok(Transport::Plain(stream));
        };
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let handshake = timeout(self.limit, handshake);
        match self.cancelled.run_until_cancelled(handshake).await {
            None => Err(NoTransport::Cancelled),
            Some(Ok(Ok(stream))) => Ok(Transport::Tls(Box::new(stream))),
            Some(Ok(Err(error))) => {
                if let Some(unsaid) = self.failures.admit(Instant::now()) {
                    tracing::warn!(%peer, %error, unsaid, "a TLS handshake failed");
                }
                Err(NoTransport::Tls)
            }
            Some(Err(_)) => Err(NoTransport::Tls),
        }
    }
}

/// The transport.
#[derive(Debug)]
pub(super) enum Transport {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// The certificate that the peer has shown, and that was verified.
    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }
}

/// A transport that notes who ends it. It says that it cannot write several
/// buffers at once: then h2 puts answers of up to 1 KiB together into one
/// write, instead of one for each answer from 256 bytes.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    /// What was read to find out the protocol, to be read again.
    looked_at: BytesMut,
    fate: Arc<Fate>,
}

impl Stream {
    pub(super) fn new(transport: Transport, fate: Arc<Fate>) -> Self {
        Self {
            transport,
            looked_at: BytesMut::new(),
            fate,
        }
    }

    /// Whether the peer speaks HTTP/2: waits for its preface, or for the first
    /// byte that differs. A peer that ends before that speaks HTTP/1.
    pub(super) async fn is_http2(&mut self) -> io::Result<bool> {
        let mut seen = BytesMut::with_capacity(1024);
        while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
            if self.read_buf(&mut seen).await? == 0 {
                break;
            }
        }
        let is_http2 = seen.starts_with(PREFACE);
        self.looked_at = seen;
        Ok(is_http2)
    }

    fn note(&self, error: &io::Error) {
        // TLS tells an end without its farewell as UnexpectedEof. A time-out
        // of TCP's keep-alive is our verdict, not the peer's.
        if matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        ) {
            self.fate.begin(Side::Peer);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.looked_at.is_empty() {
            let length = self.looked_at.len().min(buf.remaining());
            buf.put_slice(&self.looked_at[..length]);
            self.looked_at.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        });
        match &read {
            Ok(()) if buf.filled().len() == before && buf.remaining() > 0 => {
                self.fate.begin(Side::Peer);
            }
            Ok(()) => {}
            Err(error) => self.note(error),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        });
        Poll::Ready(written.inspect_err(|error| self.note(error)))
    }

    // What is sent to many, such as events, is then not copied for each.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        });
        Poll::Ready(written.inspect_err(|error| self.note(error)))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        });
        Poll::Ready(flushed.inspect_err(|error| self.note(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Stream, Arc<Fate>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let fate = Arc::new(Fate::default());
        let stream = Stream::new(Transport::Plain(accepted.unwrap().0), Arc::clone(&fate));
        (client.unwrap(), stream, fate)
    }

    #[tokio::test]
    async fn the_protocol_is_found_and_nothing_is_lost() {
        for (sent, http2) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"[..], true),
            (b"PRI * HTTP/1.1\r\n\r\n", false),
            (b"POST /sd HTTP/1.1\r\n", false),
            (b"PRI * HT", false),
            (b"", false),
        ] {
            let (mut client, mut stream, _) = pair().await;
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(stream.is_http2().await.unwrap(), http2);
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, sent);
        }
    }

    #[tokio::test]
    async fn who_ends_first_has_ended_it() {
        let (client, mut stream, fate) = pair().await;
        assert_eq!(fate.side(), None);
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(fate.side(), Some(Side::Peer));
        fate.begin(Side::Here);
        assert_eq!(fate.side(), Some(Side::Peer));

        let (client, mut stream, fate) = pair().await;
        fate.begin(Side::Here);
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(fate.side(), Some(Side::Here));
    }

    #[tokio::test]
    async fn a_reset_is_the_peers() {
        let (client, mut stream, fate) = pair().await;
        client.set_zero_linger().unwrap();
        drop(client);
        assert!(stream.read(&mut [0; 8]).await.is_err());
        assert_eq!(fate.side(), Some(Side::Peer));
    }
}
