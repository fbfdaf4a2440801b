//! Who leads a service.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _, ready};

use crate::{Error, Instance, Watch};

/// A stream of who leads a service: first who does, or that nobody does, then every
/// change; also the same one's with other attributes.
///
/// It stands on a [`Watch`] of the whole service, because that alone says when all was
/// told, and ends as that does. While the registry cannot be heard it says nothing:
/// an instance that acts only while it leads looks at
/// [`Registration::states`](crate::Registration::states), too.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Leaders {
    watch: Watch,
    told: Option<Option<Instance>>,
}

impl Leaders {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, told: None }
    }
}

impl Stream for Leaders {
    type Item = Result<Option<Instance>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.watch.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Between two of several changes nobody may lead who did not.
                Some(Ok(_)) if !self.watch.is_told() => {}
                Some(Ok(_)) => {
                    let leader = Some(self.watch.present().leader().cloned());
                    if self.told != leader {
                        self.told.clone_from(&leader);
                        return Poll::Ready(leader.map(Ok));
                    }
                }
            }
        }
    }
}
