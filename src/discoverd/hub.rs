//! Who is told of events: subscribers, each with a buffer that is bounded. One
//! that does not read is ended; it delays nobody.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::discoverd::event::{Event, Wanted};
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::map::Map;

/// How many events may wait for a subscriber to read them.
pub const BUFFER: usize = 64;

/// What a subscriber reads: first what was there, then every event, as frames.
#[derive(Debug)]
pub struct Subscription {
    present: VecDeque<Bytes>,
    events: mpsc::Receiver<Bytes>,
}

impl Subscription {
    /// The next frame; none once it was ended, and everything before was read.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self.present.pop_front() {
            Some(frame) => Some(frame),
            None => self.events.recv().await,
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    wanted: Wanted,
    events: mpsc::Sender<Bytes>,
}

/// The subscribers, by service.
#[derive(Debug, Default)]
pub struct Hub {
    services: Map<ServiceName, Vec<Subscriber>>,
    /// How many may subscribe at once.
    max: usize,
    counts: Counts,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that subscribe.
    pub subscribers: usize,
    /// Those that were ended because they did not read.
    pub ended: u64,
    /// Events that were told, whoever listened.
    pub events: u64,
}

impl Hub {
    /// A hub for at most `max` subscribers.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// Subscribes to a service of which `present` is there.
    ///
    /// # Errors
    /// When there are as many subscribers as there may be.
    pub fn subscribe(
        &mut self,
        name: &ServiceName,
        wanted: Wanted,
        present: &[Event],
    ) -> Result<Subscription, Problem> {
        if self.counts.subscribers >= self.max {
            self.forget_gone();
        }
        if self.counts.subscribers >= self.max {
            return Err(Problem::Full("subscribers", self.max));
        }
        let (sender, events) = mpsc::channel(BUFFER);
        let service = self.services.entry(name.clone()).or_default();
        service.push(Subscriber {
            wanted,
            events: sender,
        });
        self.counts.subscribers += 1;
        Ok(Subscription {
            present: present.iter().filter_map(frame).collect(),
            events,
        })
    }

    /// Tells an event to those who asked for it.
    pub fn tell(&mut self, event: &Event) {
        self.counts.events += 1;
        let Some(subscribers) = self.services.get_mut(&event.service) else {
            return;
        };
        let Some(frame) = frame(event) else {
            return;
        };
        let before = subscribers.len();
        let ended = &mut self.counts.ended;
        subscribers.retain(|subscriber| {
            if !subscriber.wanted.includes(&event.what) {
                return true;
            }
            match subscriber.events.try_send(frame.clone()) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    *ended += 1;
                    false
                }
            }
        });
        self.counts.subscribers -= before - subscribers.len();
        if subscribers.is_empty() {
            self.services.remove(&event.service);
        }
    }

    /// Forgets those that went away. To be called every few seconds: of a service
    /// of which nothing is told nobody would notice.
    pub fn forget_gone(&mut self) {
        self.services.retain(|_, subscribers| {
            subscribers.retain(|subscriber| !subscriber.events.is_closed());
            !subscribers.is_empty()
        });
        self.counts.subscribers = self.services.values().map(Vec::len).sum();
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

fn frame(event: &Event) -> Option<Bytes> {
    match event.frame() {
        Ok(frame) => Some(frame),
        Err(error) => {
            tracing::error!(service = %event.service, kind = event.kind(), %error, "an event could not be told; please report this");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::discoverd::event::What;

    fn event(service: &str, what: What) -> Event {
        Event {
            service: ServiceName::parse(service).unwrap(),
            what,
        }
    }

    fn read(subscription: &mut Subscription) -> Vec<Bytes> {
        std::iter::from_fn(|| subscription.next().now_or_never().flatten()).collect()
    }

    #[test]
    fn one_that_does_not_read_is_ended_and_the_others_hear_everything() {
        let mut hub = Hub::new(3);
        let told = event("a", What::Leader(None));
        let subscribe = |hub: &mut Hub, service: &str, wanted| {
            let name = ServiceName::parse(service).unwrap();
            hub.subscribe(&name, wanted, &[event(service, What::Current)])
        };
        let mut slow = subscribe(&mut hub, "a", Wanted::All).unwrap();
        let mut quick = subscribe(&mut hub, "a", Wanted::Leader).unwrap();
        let mut other = subscribe(&mut hub, "b", Wanted::All).unwrap();
        let full = subscribe(&mut hub, "a", Wanted::All).map(drop);
        assert_eq!(full, Err(Problem::Full("subscribers", 3)));
        assert_eq!(read(&mut quick).len(), 1);
        for _ in 0..=BUFFER {
            hub.tell(&told);
            assert_eq!(read(&mut quick).len(), 1);
        }
        assert_eq!((hub.counts().subscribers, hub.counts().ended), (2, 1));
        // What was in the buffer is read, and then it is over.
        assert_eq!(read(&mut slow).len(), 1 + BUFFER);
        assert_eq!(slow.next().now_or_never(), Some(None));
        assert_eq!(read(&mut other).len(), 1);
        assert_eq!(other.next().now_or_never(), None, "it goes on");
        hub.tell(&event("a", What::Current));
        assert!(read(&mut quick).is_empty(), "it asked for leaders only");
        drop((quick, other));
        let _last = subscribe(&mut hub, "a", Wanted::All).unwrap();
        let _makes_room = subscribe(&mut hub, "a", Wanted::All).unwrap();
        assert_eq!(hub.counts().subscribers, 2);
    }
}
