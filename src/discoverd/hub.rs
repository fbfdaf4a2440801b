//! Who is told of events: subscribers, each with a buffer that is bounded. One
//! that does not read is ended; it delays nobody.
//!
//! Events of a service that come soon after others are told together, as one piece
//! that all its subscribers share: a thousand subscribers of a service that changes
//! a hundred times a second would else take a hundred thousand writes to sockets.
//! What was quiet is told at once.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::discoverd::event::{Audience, Event};
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::map::Map;

/// How many pieces may wait for a subscriber to read them. A piece is an event, or
/// those that were told together.
pub const BUFFER: usize = 64;
/// Of one service something is told at most once in this time. Nobody notices it,
/// and whoever follows a busy service is woken 40 times a second, not hundreds.
pub const PACE: Duration = Duration::from_millis(25);

/// What a subscriber reads: first what was there, then every event.
#[derive(Debug)]
pub struct Subscription {
    present: Option<Bytes>,
    events: mpsc::Receiver<Bytes>,
}

impl Subscription {
    /// The next events, as one piece of a stream; none once it was ended, and
    /// everything before was read.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self.present.take() {
            Some(piece) => Some(piece),
            None => self.events.recv().await,
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    audience: Audience,
    events: mpsc::Sender<Bytes>,
}

/// A service that somebody subscribes to.
#[derive(Debug, Default)]
struct Told {
    subscribers: Vec<Subscriber>,
    /// What is to be told next to those who asked for this.
    waiting: Map<Audience, BytesMut>,
    /// When something was told last.
    told: Option<Instant>,
    /// What who subscribes now is told first, until something changes.
    present: Map<Audience, Bytes>,
}

/// The subscribers, by service.
#[derive(Debug, Default)]
pub struct Hub {
    services: Map<ServiceName, Told>,
    /// Services of which something is to be told.
    waiting: Vec<ServiceName>,
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

    /// Subscribes to a service. `present` tells what is there, if that is not known
    /// from those before.
    ///
    /// # Errors
    /// When there are as many subscribers as there may be, or those of `present`.
    pub fn subscribe(
        &mut self,
        name: &ServiceName,
        audience: Audience,
        present: impl FnOnce() -> Result<Vec<Event>, Problem>,
    ) -> Result<Subscription, Problem> {
        if self.counts.subscribers >= self.max {
            self.forget_gone();
        }
        if self.counts.subscribers >= self.max {
            return Err(Problem::Full("subscribers", self.max));
        }
        // What waits is in `present` already.
        self.flush_one(name);
        let known = self.services.get(name);
        let known = known.and_then(|service| service.present.get(&audience).cloned());
        let piece = match known {
            Some(piece) => piece,
            None => {
                let mut piece = BytesMut::new();
                for frame in present()?.iter().filter_map(frame) {
                    piece.extend_from_slice(&frame);
                }
                piece.freeze()
            }
        };
        let service = self.services.entry(name.clone()).or_default();
        service.present.insert(audience, piece.clone());
        let (sender, events) = mpsc::channel(BUFFER);
        service.subscribers.push(Subscriber {
            audience,
            events: sender,
        });
        self.counts.subscribers += 1;
        Ok(Subscription {
            present: Some(piece).filter(|piece| !piece.is_empty()),
            events,
        })
    }

    /// Tells an event to those who asked for it, with the next [`Hub::flush`].
    pub fn tell(&mut self, event: &Event) {
        self.counts.events += 1;
        let Some(service) = self.services.get_mut(&event.service) else {
            return;
        };
        service.present.clear();
        let Some(frame) = frame(event) else {
            return;
        };
        let is_first = service.waiting.is_empty();
        for audience in Audience::all().filter(|audience| audience.includes(event)) {
            let mut subscribers = service.subscribers.iter();
            if subscribers.any(|one| one.audience == audience) {
                let waiting = service.waiting.entry(audience).or_default();
                waiting.extend_from_slice(&frame);
            }
        }
        if is_first && !service.waiting.is_empty() {
            self.waiting.push(event.service.clone());
        }
    }

    /// Tells what is to be told by now; returns when to call again, if something
    /// is left.
    pub fn flush(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for name in std::mem::take(&mut self.waiting) {
            let service = self.services.get(&name);
            // It may have been told already.
            let Some(service) = service.filter(|service| !service.waiting.is_empty()) else {
                continue;
            };
            let due = service.told.map(|told| told + PACE);
            match due.filter(|due| *due > now) {
                None => {
                    self.flush_one(&name);
                    if let Some(service) = self.services.get_mut(&name) {
                        service.told = Some(now);
                    }
                }
                Some(due) => {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    self.waiting.push(name);
                }
            }
        }
        next
    }

    fn flush_one(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let pieces = std::mem::take(&mut service.waiting).into_iter();
        let pieces: Map<Audience, Bytes> = pieces
            .map(|(audience, piece)| (audience, piece.freeze()))
            .collect();
        let before = service.subscribers.len();
        let ended = &mut self.counts.ended;
        service.subscribers.retain(|subscriber| {
            let Some(piece) = pieces.get(&subscriber.audience) else {
                return true;
            };
            match subscriber.events.try_send(piece.clone()) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    *ended += 1;
                    false
                }
            }
        });
        self.counts.subscribers -= before - service.subscribers.len();
        if service.subscribers.is_empty() {
            self.services.remove(name);
        }
    }

    /// Forgets those that went away. To be called every few seconds: of a service
    /// of which nothing is told nobody would notice.
    pub fn forget_gone(&mut self) {
        self.services.retain(|_, service| {
            let subscribers = &mut service.subscribers;
            subscribers.retain(|subscriber| !subscriber.events.is_closed());
            !subscribers.is_empty()
        });
        let services = self.services.values();
        self.counts.subscribers = services.map(|service| service.subscribers.len()).sum();
    }

    /// The services that somebody subscribes to who may see tunnels.
    pub fn with_tunnels(&self) -> impl Iterator<Item = &ServiceName> {
        let all = self.services.iter();
        all.filter(|(_, service)| service.subscribers.iter().any(|one| one.audience.tunnels))
            .map(|(name, _)| name)
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
    use crate::discoverd::event::{Wanted, What};
    use crate::time::Now;

    fn asks(wanted: Wanted) -> Audience {
        Audience {
            wanted,
            tunnels: false,
        }
    }

    fn event(service: &str, what: What) -> Event {
        Event {
            service: ServiceName::parse(service).unwrap(),
            of_tunnel: false,
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
            hub.subscribe(&name, asks(wanted), || {
                Ok(vec![event(service, What::Current)])
            })
        };
        let mut slow = subscribe(&mut hub, "a", Wanted::All).unwrap();
        let mut quick = subscribe(&mut hub, "a", Wanted::Leader).unwrap();
        let mut other = subscribe(&mut hub, "b", Wanted::All).unwrap();
        let full = subscribe(&mut hub, "a", Wanted::All).map(drop);
        assert_eq!(full, Err(Problem::Full("subscribers", 3)));
        assert_eq!(read(&mut quick).len(), 1);
        let mut now = Now::read().mono;
        for _ in 0..=BUFFER {
            hub.tell(&told);
            assert_eq!(hub.flush(now), None);
            assert_eq!(read(&mut quick).len(), 1);
            now += PACE;
        }
        assert_eq!((hub.counts().subscribers, hub.counts().ended), (2, 1));
        // What was in the buffer is read, and then it is over.
        assert_eq!(read(&mut slow).len(), 1 + BUFFER);
        assert_eq!(slow.next().now_or_never(), Some(None));
        assert_eq!(read(&mut other).len(), 1);
        assert_eq!(other.next().now_or_never(), None, "it goes on");
        hub.tell(&event("a", What::Current));
        hub.flush(now);
        assert!(read(&mut quick).is_empty(), "it asked for leaders only");
        drop((quick, other));
        let _last = subscribe(&mut hub, "a", Wanted::All).unwrap();
        let _makes_room = subscribe(&mut hub, "a", Wanted::All).unwrap();
        assert_eq!(hub.counts().subscribers, 2);
    }

    #[test]
    fn what_comes_soon_after_is_told_together_and_in_order() {
        let mut hub = Hub::new(3);
        let name = ServiceName::parse("a").unwrap();
        let leaderless = || event("a", What::Leader(None));
        let frames = |events: &[Event]| -> Bytes {
            let frames = events.iter().flat_map(|event| event.frame().unwrap());
            frames.collect()
        };
        let mut all = hub
            .subscribe(&name, asks(Wanted::All), || {
                Ok(vec![event("a", What::Current)])
            })
            .unwrap();
        assert_eq!(read(&mut all).len(), 1);
        let now = Now::read().mono;
        // At once after a quiet time.
        hub.tell(&leaderless());
        assert_eq!(hub.flush(now), None);
        assert_eq!(read(&mut all), [frames(&[leaderless()])]);
        let soon = now + PACE / 2;
        hub.tell(&event("a", What::Current));
        hub.tell(&leaderless());
        assert_eq!(hub.flush(soon), Some(now + PACE));
        assert!(read(&mut all).is_empty());
        // Who comes now is told what is there once, and everybody everything.
        let mut late = hub
            .subscribe(&name, asks(Wanted::Leader), || Ok(vec![leaderless()]))
            .unwrap();
        let told = [event("a", What::Current), leaderless()];
        assert_eq!(read(&mut all), [frames(&told)]);
        assert_eq!(read(&mut late), [frames(&[leaderless()])]);
        hub.tell(&leaderless());
        assert_eq!(hub.flush(soon), Some(now + PACE));
        assert_eq!(hub.flush(now + PACE), None);
        assert_eq!(read(&mut all), [frames(&[leaderless()])]);
        assert_eq!(read(&mut late), [frames(&[leaderless()])]);
    }

    #[test]
    fn what_is_there_is_rendered_once_until_it_changes() {
        let mut hub = Hub::new(10);
        let name = ServiceName::parse("a").unwrap();
        let mut rendered = 0;
        let mut subscribe = |hub: &mut Hub| {
            let present = || {
                rendered += 1;
                Ok(vec![event("a", What::Current)])
            };
            let subscription = hub.subscribe(&name, asks(Wanted::All), present).unwrap();
            (subscription, rendered)
        };
        let (_one, before) = subscribe(&mut hub);
        let (_two, after) = subscribe(&mut hub);
        assert_eq!((before, after), (1, 1));
        hub.tell(&event("a", What::Leader(None)));
        let (mut three, after) = subscribe(&mut hub);
        assert_eq!(after, 2);
        assert_eq!(read(&mut three).len(), 1);
    }

    #[test]
    fn who_cannot_be_told_what_is_there_does_not_subscribe() {
        let mut hub = Hub::new(1);
        let name = ServiceName::parse("a").unwrap();
        let unknown = || Err(Problem::NotReady);
        let refused = hub.subscribe(&name, asks(Wanted::All), unknown).map(drop);
        assert_eq!(refused, Err(Problem::NotReady));
        assert_eq!(hub.counts().subscribers, 0);
    }

    #[test]
    fn tunnels_are_told_to_those_only_who_may_see_them() {
        let mut hub = Hub::new(2);
        let name = ServiceName::parse("a").unwrap();
        let mut strange = hub
            .subscribe(&name, asks(Wanted::All), || Ok(Vec::new()))
            .unwrap();
        let both = Audience {
            tunnels: true,
            ..asks(Wanted::All)
        };
        let mut trusted = hub.subscribe(&name, both, || Ok(Vec::new())).unwrap();
        assert_eq!(hub.with_tunnels().collect::<Vec<_>>(), [&name]);
        let of_tunnel = Event {
            of_tunnel: true,
            ..event("a", What::Leader(None))
        };
        hub.tell(&of_tunnel);
        hub.tell(&event("a", What::Current));
        hub.flush(Now::read().mono);
        assert_eq!(
            read(&mut strange),
            [event("a", What::Current).frame().unwrap()]
        );
        let frames = [of_tunnel, event("a", What::Current)];
        let frames: Bytes = frames
            .iter()
            .flat_map(|event| event.frame().unwrap())
            .collect();
        assert_eq!(read(&mut trusted), [frames]);
    }
}
