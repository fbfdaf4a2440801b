//! Events as a stream (server-sent events).
//!
//! A comment is one line with no empty one behind it: the field's clients take a
//! block without data for an event, and end the stream because it is no JSON.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::discoverd::hub::Subscription;
use crate::server::Lasting;

/// Says that the stream lives.
const COMMENT: Bytes = Bytes::from_static(b":\n");
/// Says why the stream ends.
const TOO_SLOW: Bytes = Bytes::from_static(
    b"event: error\ndata: the events were not read in time; subscribe again\n\n",
);

struct Stream {
    subscription: Subscription,
    comments: Interval,
    /// To be told that the connection is in use.
    lasting: Option<Lasting>,
    stop: CancellationToken,
}

/// The answer that tells a subscriber of events. It ends with `stop`, or with an
/// error when the subscriber does not read.
pub(super) fn response(
    subscription: Subscription,
    lasting: Option<Lasting>,
    comment: Duration,
    stop: CancellationToken,
) -> Response<Body> {
    let mut comments = interval_at(tokio::time::Instant::now() + comment, comment);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = Stream {
        subscription,
        comments,
        lasting,
        stop,
    };
    let frames = unfold(Some(stream), async |stream| {
        let mut stream = stream?;
        let frame = tokio::select! {
            biased;
            () = stream.stop.cancelled() => return None,
            frame = stream.subscription.next() => frame,
            _ = stream.comments.tick() => Some(COMMENT),
        };
        if let Some(lasting) = &stream.lasting {
            lasting.goes_on();
        }
        Some(match frame {
            Some(frame) => (Ok::<_, Infallible>(frame), Some(stream)),
            None => (Ok(TOO_SLOW), None),
        })
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
