//! One connection that carries events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{FutureExt as _, ready};
use hyper::body::Body as _;
use tokio::time::{Instant, Sleep, sleep};

use crate::Error;
use crate::event::Sent;
use crate::sse::{Decoder, Frame};
use crate::transport::{Opened, Transport};

/// A stream of events, until its first error.
pub(super) struct Connection {
    transport: Arc<Transport>,
    opened: Opened,
    decoder: Decoder,
    /// When it counts as lost.
    silent: Pin<Box<Sleep>>,
}

impl Connection {
    pub async fn open(transport: Arc<Transport>, path: &str) -> Result<Self, Error> {
        let opened = transport.open(path).await?;
        let silent = Box::pin(sleep(transport.silence));
        Ok(Self {
            transport,
            opened,
            decoder: Decoder::default(),
            silent,
        })
    }

    /// The next event. Nothing may be asked after an error.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sent, Error>> {
        loop {
            if let Some(frame) = self.decoder.next() {
                return Poll::Ready(self.read(&frame));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.opened.body).poll_frame(cx) else {
                ready!(self.silent.poll_unpin(cx));
                self.transport.leave(self.opened.server);
                let silence = self.transport.silence;
                return Poll::Ready(Err(self.lost(format!("it was silent for {silence:?}"))));
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let server = self.transport.url(self.opened.server);
                    return Poll::Ready(Err(Error::lost(server, &error)));
                }
                None => return Poll::Ready(Err(self.lost("it was ended".into()))),
            };
            let until = Instant::now() + self.transport.silence;
            self.silent.as_mut().reset(until);
            if let Ok(data) = frame.into_data()
                && let Err(error) = self.decoder.push(&data)
            {
                return Poll::Ready(Err(self.lost(error.to_string())));
            }
        }
    }

    fn read(&self, frame: &Frame) -> Result<Sent, Error> {
        match frame.event.as_deref() {
            None | Some("message") => Sent::parse(&frame.data).map_err(|error| self.lost(error)),
            Some("error") => Err(self.lost(format!("the registry said {:?}", frame.data))),
            Some(_) => Ok(Sent::Unknown),
        }
    }

    fn lost(&self, reason: String) -> Error {
        Error::Lost {
            server: self.transport.url(self.opened.server).to_owned(),
            reason,
        }
    }
}
