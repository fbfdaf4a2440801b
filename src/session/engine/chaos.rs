//! Whatever happens to the store, in the end it holds what clients were told.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::session::engine::testing::{Link, Mood, World};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends `ROUTE` for this path with this port, at this replica.
    Route(usize, u8, u8),
    /// A client sends `MAINT_ENTER` or `MAINT_EXIT`.
    Maintenance(usize, bool),
    /// A client sends `SHUTDOWN`.
    Shutdown(usize),
    /// The client's connection ends, and it comes back here.
    Reconnect(usize),
    /// The store changes its mood.
    Mood(Mood),
    /// The store makes what it was asked for while it hung.
    Thaw,
    /// What hangs was not made in time.
    TimeOut,
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let mood = proptest::sample::select(vec![
        Mood::Up,
        Mood::Up,
        Mood::Away,
        Mood::Hung,
        Mood::Hung,
        Mood::Mute,
        Mood::Refusing,
    ]);
    prop_oneof![
        6 => (0..2_usize, 0..3_u8, 1..4_u8).prop_map(|(at, path, port)| Step::Route(at, path, port)),
        2 => (0..2_usize, any::<bool>()).prop_map(|(at, on)| Step::Maintenance(at, on)),
        1 => (0..2_usize).prop_map(Step::Shutdown),
        1 => (0..2_usize).prop_map(Step::Reconnect),
        3 => mood.prop_map(Step::Mood),
        2 => Just(Step::Thaw),
        2 => Just(Step::TimeOut),
        2 => (1..15_u32).prop_map(Step::Pass),
    ]
}

/// What a client knows of one thing: what it was told, or tried since then.
#[derive(Debug, Default)]
struct Known<T> {
    told: Option<T>,
    tried: Vec<T>,
}

impl<T: Clone + PartialEq> Known<T> {
    fn sent(&mut self, value: T, is_done: bool) {
        if is_done {
            self.told = Some(value);
            self.tried.clear();
        } else {
            self.tried.push(value);
        }
    }

    /// Whether this may be so. Of what a replica gave up, something may be left
    /// only where another replica wrote on top of it before it was undone.
    fn allows(&self, value: Option<&T>, replicas: usize) -> bool {
        let tried = || value.is_some_and(|value| self.tried.contains(value));
        value == self.told.as_ref() || (replicas > 1 && tried())
    }
}

/// Plays the steps, and compares what is stored in the end with what was told.
fn play(count: usize, steps: &[Step]) {
    let mut world = World::shared(count);
    let links: Vec<Link> = (0..count).map(|replica| world.connect(replica)).collect();
    let mut kept = world.connect(0);
    let sid = world.register(kept, "api|h|80");
    let mut routes: BTreeMap<String, Known<String>> = BTreeMap::new();
    let mut maintenance = Known::default();
    maintenance.sent(false, true);
    let mut is_over = false;
    for step in steps {
        match step {
            Step::Route(at, path, port) => {
                let url = format!("http://h:{port}");
                let line = format!("ROUTE|{sid}|a.com|/{path}|{url}");
                let is_done = world.send(links[at % count], &line) == "ROUTE_OK";
                let known = routes.entry(format!("a.com/{path}")).or_default();
                known.sent(url, is_done);
            }
            Step::Maintenance(at, on) => {
                let word = if *on { "MAINT_ENTER" } else { "MAINT_EXIT" };
                let reply = world.send(links[at % count], &format!("{word}|{sid}"));
                maintenance.sent(*on, reply == "MAINT_OK");
            }
            // A SHUTDOWN that was given up and made all the same is undone within a
            // moment, in which another replica does not know the session.
            Step::Shutdown(_) if count > 1 && !world.is_well() => {}
            Step::Shutdown(at) => {
                if count > 1 {
                    // Until who keeps it is stored: a replica that keeps what another
                    // one released cannot tell why it is removed.
                    world.pass(70);
                }
                let reply = world.send(links[at % count], &format!("SHUTDOWN|{sid}"));
                is_over |= reply == "GOODBYE";
            }
            Step::Reconnect(at) => {
                world.close(kept);
                kept = world.connect(at % count);
                let reply = world.send(kept, &format!("RECONNECT|{sid}"));
                assert_eq!(reply == "REREGISTER", is_over);
            }
            Step::Mood(Mood::Up) | Step::Thaw => world.thaw(),
            Step::Mood(mood) => world.mood = *mood,
            Step::TimeOut => world.time_out(),
            Step::Pass(seconds) => world.pass(*seconds),
        }
    }
    world.thaw();
    world.pass(150);
    for replica in 0..count {
        assert_eq!(world.engine(replica).waiting_writes(), 0);
        assert_eq!(world.engine(replica).is_empty(), is_over);
    }
    let Some(stored) = world.stored(&sid) else {
        assert!(is_over);
        return;
    };
    assert!(!is_over);
    assert!(maintenance.allows(Some(&stored.maintenance), count));
    let mut served: BTreeMap<String, String> = BTreeMap::new();
    for (place, backend) in &stored.routes.0 {
        served.insert(place.to_string(), backend.to_string());
    }
    for (place, known) in &routes {
        let backend = served.remove(place);
        assert!(
            known.allows(backend.as_ref(), count),
            "{place} {backend:?} {known:?}"
        );
    }
    assert!(served.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_replica_keeps_its_word(steps in proptest::collection::vec(step(), 1..40)) {
        play(1, &steps);
    }

    #[test]
    fn two_replicas_keep_their_word(steps in proptest::collection::vec(step(), 1..40)) {
        play(2, &steps);
    }
}
