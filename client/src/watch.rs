//! What happens to a service, told over any number of connections as over one.

mod connection;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, ready};
use tokio::time::{Sleep, sleep};

use crate::event::{Event, Sent};
use crate::pause::Pauses;
use crate::present::Resuming;
use crate::{Client, Error, Present, client};
use connection::Connection;

/// A stream of what happens to a service: first what is there, then [`Event::Current`],
/// then every change.
///
/// A connection that is lost (it ended, the registry said that it does, or was silent
/// for too long) is told as [`Event::Lost`], and replaced, at another server if need be.
/// Then only what is different from what was told is told, before the next
/// [`Event::Current`]: nobody is seen to go who did not, and nobody stays who went.
///
/// It does something only while it is polled, and has no task. It ends only before it
/// has once been [`Event::Current`], with an error that trying again does not mend. When
/// it is not polled for long the registry ends the connection, and that is a loss like
/// any other.
#[must_use = "streams do nothing unless polled"]
pub struct Watch {
    client: Client,
    service: String,
    phase: Phase,
    pauses: Pauses,
    resuming: Resuming,
    /// Whoever reads has been told so, once `ready` is empty.
    present: Present,
    ready: VecDeque<Event>,
    is_lost: bool,
    was_current: bool,
}

enum Phase {
    Connecting(BoxFuture<'static, Result<Connection, Error>>),
    Open(Connection),
    Pausing(Pin<Box<Sleep>>),
    Over,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("service", &self.service)
            .field("present", &self.present)
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(client: Client, service: &str) -> Self {
        let mut watch = Self {
            client,
            service: service.to_owned(),
            phase: Phase::Over,
            pauses: Pauses::default(),
            resuming: Resuming::default(),
            present: Present::default(),
            ready: VecDeque::new(),
            is_lost: false,
            was_current: false,
        };
        watch.phase = watch.connect();
        watch
    }

    /// What is there, as far as it was told: by exactly the events that this stream
    /// has given.
    #[must_use]
    pub fn present(&self) -> &Present {
        &self.present
    }

    /// Whether all that is known has been told, and it was once [`Event::Current`].
    pub(crate) fn is_told(&self) -> bool {
        self.was_current && self.ready.is_empty()
    }

    fn connect(&self) -> Phase {
        let transport = self.client.transport().clone();
        let path = client::path(&self.service, "");
        let connecting = async move { Connection::open(transport, &path?).await };
        Phase::Connecting(connecting.boxed())
    }

    fn lose(&mut self, error: Error) {
        self.phase = Phase::Pausing(Box::pin(sleep(self.pauses.next(fastrand::f64()))));
        if !std::mem::replace(&mut self.is_lost, true) {
            self.ready.push_back(Event::Lost(error));
        }
    }

    fn take(&mut self, sent: Sent) {
        if sent == Sent::Current {
            self.pauses = Pauses::default();
            self.is_lost = false;
        }
        self.ready.extend(self.resuming.take(&self.present, sent));
    }
}

impl Stream for Watch {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // Before anything more is read: what is read is compared with what was told.
            if let Some(event) = this.ready.pop_front() {
                this.present.apply(&event);
                this.was_current |= matches!(event, Event::Current);
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut this.phase {
                Phase::Connecting(connecting) => match ready!(connecting.poll_unpin(cx)) {
                    Ok(connection) => {
                        this.resuming.connected();
                        this.phase = Phase::Open(connection);
                    }
                    Err(error) if !this.was_current && !error.is_temporary() => {
                        this.phase = Phase::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Err(error) => this.lose(error),
                },
                Phase::Open(connection) => match ready!(connection.poll_sent(cx)) {
                    Ok(sent) => this.take(sent),
                    Err(error) => this.lose(error),
                },
                Phase::Pausing(pause) => {
                    ready!(pause.poll_unpin(cx));
                    this.phase = this.connect();
                }
                Phase::Over => return Poll::Ready(None),
            }
        }
    }
}
