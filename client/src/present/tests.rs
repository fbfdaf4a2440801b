use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(n: u8, meta: u8, index: u64) -> Instance {
    let mut instance = Instance::new(format!("h:{n}")).with_meta("k", meta.to_string());
    instance.index = index;
    instance
}

/// The registry as its streams show it.
#[derive(Default)]
struct Truth {
    present: Present,
    index: u64,
    /// What subscribers are told and have not been sent.
    pending: Vec<Sent>,
}

/// Something that happens to it, or to the one connection.
#[derive(Clone, Debug)]
enum Deed {
    Register(u8, u8),
    Unregister(u8),
    Lead(Option<u8>),
    Meta(u8),
    /// So many of the pending events are sent.
    Send(usize),
    /// What is pending is lost, and so is the connection.
    Cut,
    /// The registry begins anew, without anything.
    Forget,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..4u8, 0..3u8).prop_map(|(n, meta)| Deed::Register(n, meta)),
        2 => (0..4u8).prop_map(Deed::Unregister),
        2 => prop::option::of(0..4u8).prop_map(Deed::Lead),
        1 => (0..3u8).prop_map(Deed::Meta),
        4 => (0..6usize).prop_map(Deed::Send),
        2 => Just(Deed::Cut),
        1 => Just(Deed::Forget),
    ]
}

impl Truth {
    /// What a new subscriber is sent.
    fn listing(&self) -> Vec<Sent> {
        let mut all: Vec<Sent> = self
            .present
            .instances()
            .into_iter()
            .map(|instance| Sent::Up(instance.clone()))
            .collect();
        let leader = self.present.leader.clone();
        all.extend(leader.map(|leader| Sent::Leader(Some(leader))));
        all.extend(self.present.meta.clone().map(Sent::ServiceMeta));
        all.push(Sent::Current);
        all
    }

    fn tell(&mut self, sent: Sent) {
        self.present.list(sent.clone());
        self.pending.push(sent);
    }

    fn lead(&mut self, leader: Option<Instance>) {
        if self.present.leader.as_ref().map(|leader| &leader.id)
            != leader.as_ref().map(|leader| &leader.id)
        {
            self.tell(Sent::Leader(leader));
        }
    }

    fn act(&mut self, deed: &Deed) {
        let id = |n: u8| at(n, 0, 0).id;
        match deed {
            Deed::Register(n, meta) => match self.present.instance(&id(*n)) {
                Some(known) => {
                    let new = at(*n, *meta, known.index);
                    if new != *known {
                        self.tell(Sent::Update(new));
                    }
                }
                None => {
                    self.index += 1;
                    self.tell(Sent::Up(at(*n, *meta, self.index)));
                }
            },
            Deed::Unregister(n) => {
                if let Some(known) = self.present.instance(&id(*n)).cloned() {
                    self.tell(Sent::Down(known.clone()));
                    if self
                        .present
                        .leader
                        .as_ref()
                        .is_some_and(|it| it.id == known.id)
                    {
                        self.lead(None);
                    }
                }
            }
            Deed::Lead(n) => {
                let leader = n.and_then(|n| self.present.instance(&id(n)).cloned());
                self.lead(leader);
            }
            Deed::Meta(n) => {
                self.index += 1;
                self.tell(Sent::ServiceMeta(ServiceMeta::new(json!(n), self.index)));
            }
            Deed::Forget => {
                self.present = Present::default();
                self.pending.clear();
            }
            Deed::Send(_) | Deed::Cut => {}
        }
    }
}

/// A consumer, who believes what it is told.
#[derive(Default)]
struct Consumer {
    resuming: Resuming,
    told: Present,
}

impl Consumer {
    fn take(&mut self, sent: Sent) -> Result<(), TestCaseError> {
        for event in self.resuming.take(&self.told, sent) {
            let before = self.told.clone();
            let known = match &event {
                Event::Up(it) | Event::Update(it) | Event::Down(it) => before.instance(&it.id),
                _ => None,
            };
            self.told.apply(&event);
            match event {
                Event::Up(_) => prop_assert!(known.is_none()),
                Event::Update(_) | Event::Down(_) => prop_assert!(known.is_some()),
                Event::Current => continue,
                _ => {}
            }
            prop_assert!(before != self.told, "an event tells nothing");
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn whatever_happens_and_wherever_it_is_cut_the_truth_is_told(deeds in prop::collection::vec(deed(), 0..60)) {
        let (mut truth, mut consumer) = (Truth::default(), Consumer::default());
        consumer.resuming.connected();
        truth.pending = truth.listing();
        for deed in deeds.iter().chain([&Deed::Send(usize::MAX)]) {
            truth.act(deed);
            match deed {
                Deed::Send(count) => {
                    let count = truth.pending.len().min(*count);
                    for sent in truth.pending.drain(..count) {
                        consumer.take(sent)?;
                    }
                }
                Deed::Cut | Deed::Forget => {
                    consumer.resuming.connected();
                    truth.pending = truth.listing();
                }
                _ => {}
            }
        }
        prop_assert_eq!(&consumer.told, &truth.present);
    }
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::kind).collect()
}

#[test]
fn nobody_flaps_over_a_cut() {
    let (mut resuming, mut told) = (Resuming::default(), Present::default());
    let mut tell = |resuming: &mut Resuming, sent: &[Sent]| {
        let mut all = Vec::new();
        for sent in sent {
            for event in resuming.take(&told, sent.clone()) {
                told.apply(&event);
                all.push(event);
            }
        }
        all
    };
    let listing = [
        Sent::Up(at(1, 0, 1)),
        Sent::Up(at(2, 0, 2)),
        Sent::Leader(Some(at(1, 0, 1))),
        Sent::Current,
    ];
    resuming.connected();
    assert_eq!(
        kinds(&tell(&mut resuming, &listing)),
        ["up", "up", "leader", "current"]
    );
    // The same again, also after a listing that broke off.
    resuming.connected();
    assert_eq!(kinds(&tell(&mut resuming, &listing[..1])), [""; 0]);
    resuming.connected();
    assert_eq!(kinds(&tell(&mut resuming, &listing)), ["current"]);
    // One has gone, one has come, the leader has other attributes.
    resuming.connected();
    let other = [
        Sent::Up(at(1, 5, 1)),
        Sent::Up(at(3, 0, 3)),
        Sent::Leader(Some(at(1, 5, 1))),
        Sent::Current,
    ];
    assert_eq!(
        kinds(&tell(&mut resuming, &other)),
        ["update", "up", "down", "current"]
    );
    // What is known is not told twice.
    let again = [
        Sent::Up(at(3, 0, 3)),
        Sent::Down(at(9, 0, 9)),
        Sent::Leader(Some(at(1, 5, 1))),
        Sent::Unknown,
        Sent::Current,
    ];
    assert_eq!(kinds(&tell(&mut resuming, &again)), [""; 0]);
}
