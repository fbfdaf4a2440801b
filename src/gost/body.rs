//! Bodies: reading a request's within its bounds, and the kinds of answers.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::gost::denial::Denial;

/// Reads a body of at most `max` bytes, which must be there within `time`.
pub(super) async fn read<B>(body: B, max: usize, time: Duration) -> Result<Bytes, Denial>
where
    B: http_body::Body<Data = Bytes>,
{
    if body.size_hint().lower() > max as u64 {
        return Err(Denial::TooLarge);
    }
    tokio::time::timeout(time, collect(body, max))
        .await
        .unwrap_or(Err(Denial::Slow(time)))
}

/// The usual body is one frame, which is not copied.
async fn collect<B>(body: B, max: usize) -> Result<Bytes, Denial>
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers say nothing.
        let Ok(data) = frame.map_err(|_| Denial::Broken)?.into_data() else {
            continue;
        };
        if first.len().max(rest.len()) + data.len() > max {
            return Err(Denial::TooLarge);
        }
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// A gRPC answer: at most one message, then trailers if they are not in the
    /// header.
    Unary {
        /// The message with its frame.
        message: Option<Bytes>,
        /// The call's status.
        trailers: Option<HeaderMap>,
    },
    /// What the HTTP router answered.
    Http(axum::body::Body),
    /// What a gRPC service of the library answered.
    Streaming(tonic::body::Body),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Unary { message, trailers } => Poll::Ready(
                message
                    .take()
                    .map(Frame::data)
                    .or_else(|| trailers.take().map(Frame::trailers))
                    .map(Ok),
            ),
            Self::Http(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Streaming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unary { message, trailers } => message.is_none() && trailers.is_none(),
            Self::Http(body) => body.is_end_stream(),
            Self::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // The length of what is followed by trailers is not told: hyper
            // would send it as content-length.
            Self::Unary { .. } => SizeHint::default(),
            Self::Http(body) => body.size_hint(),
            Self::Streaming(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{Full, StreamBody};

    use super::*;

    const TIME: Duration = Duration::from_secs(1);

    fn chunks(chunks: &[&'static str]) -> impl http_body::Body<Data = Bytes> + use<> {
        let frames: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn bodies_come_in_pieces_and_have_a_bound() {
        assert_eq!(read(chunks(&[]), 4, TIME).await.unwrap(), "");
        assert_eq!(read(chunks(&["abcd"]), 4, TIME).await.unwrap(), "abcd");
        assert_eq!(
            read(chunks(&["a", "", "bc", "d"]), 4, TIME).await.unwrap(),
            "abcd"
        );
        assert_eq!(
            read(chunks(&["abcde"]), 4, TIME).await,
            Err(Denial::TooLarge)
        );
        assert_eq!(
            read(chunks(&["abc", "de"]), 4, TIME).await,
            Err(Denial::TooLarge)
        );
        assert_eq!(
            read(chunks(&["a", "b", "cde"]), 4, TIME).await,
            Err(Denial::TooLarge)
        );
        let told = Full::new(Bytes::from_static(b"abcde"));
        assert_eq!(read(told, 4, TIME).await, Err(Denial::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_slow() {
        let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read(never, 4, TIME).await, Err(Denial::Slow(TIME)));
    }
}
