//! Whatever happens to the store and to replicas: in the end all show the same,
//! and it is what clients were told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::testing::{DONE, Mood, World, id, json, name};
use super::*;
use crate::record::Kind;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// An instance is registered at a replica, with this attribute.
    Register(usize, u8, u8),
    Unregister(usize, u8),
    SetLeader(usize, u8),
    /// With the index that was told last.
    SetMeta(usize, u8),
    /// The service is removed and made again.
    Again(usize),
    Mood(Mood),
    /// What hangs was not made in time.
    TimeOut,
    /// A replica starts again.
    Restart(usize),
    /// The watch of a replica begins anew.
    Reset(usize),
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let mood = proptest::sample::select(vec![
        Mood::Up,
        Mood::Up,
        Mood::Up,
        Mood::Away,
        Mood::Hung,
        Mood::Mute,
    ]);
    let at = 0..3_usize;
    prop_oneof![
        8 => (at.clone(), 0..4_u8, 0..3_u8).prop_map(|(at, host, meta)| Step::Register(at, host, meta)),
        2 => (at.clone(), 0..4_u8).prop_map(|(at, host)| Step::Unregister(at, host)),
        1 => (at.clone(), 0..4_u8).prop_map(|(at, host)| Step::SetLeader(at, host)),
        2 => (at.clone(), 0..9_u8).prop_map(|(at, data)| Step::SetMeta(at, data)),
        1 => at.clone().prop_map(Step::Again),
        3 => mood.prop_map(Step::Mood),
        1 => Just(Step::TimeOut),
        1 => at.clone().prop_map(Step::Restart),
        1 => at.prop_map(Step::Reset),
        3 => (1..8_u32).prop_map(Step::Pass),
    ]
}

/// What a subscriber makes of the events.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    hosts: BTreeSet<String>,
    leader: Option<String>,
}

impl Seen {
    /// Every event must make a difference.
    fn hear(&mut self, event: &str) {
        let (kind, about) = event.split_once(' ').unwrap_or((event, ""));
        let host = about.split('=').next().unwrap().to_owned();
        match kind {
            "up" => assert!(self.hosts.insert(host), "{event} again"),
            "down" => assert!(self.hosts.remove(&host), "{event} of nobody"),
            "update" => assert!(self.hosts.contains(&host), "{event} of nobody"),
            "leader" => {
                let leader = (host != "nobody").then_some(host);
                assert_ne!(self.leader, leader, "{event} again");
                self.leader = leader;
            }
            _ => {}
        }
    }
}

fn host(number: u8) -> String {
    format!("h{number}")
}

/// Hears what a replica's subscribers are told.
fn hear(world: &mut World, seen: &mut [Seen]) {
    for (replica, seen) in seen.iter_mut().enumerate() {
        for event in world.events(replica) {
            seen.hear(&event);
        }
    }
}

fn leader(world: &mut World, replica: usize) -> Option<String> {
    let leader = world.engine(replica).leader(&name("db")).ok()?;
    Some(leader.instance.addr.trim_end_matches(":80").to_owned())
}

fn play(count: usize, leader_type: LeaderType, steps: &[Step]) {
    let mut world = match count {
        1 => World::alone(),
        _ => World::shared(count),
    };
    world.create("db", leader_type).unwrap();
    let mut seen: Vec<Seen> = (0..count).map(|_| Seen::default()).collect();
    let mut metas: Vec<u64> = Vec::new();
    // What is registered, and was heard of lately.
    let mut alive: BTreeMap<String, String> = BTreeMap::new();
    let mut indexes: BTreeSet<u64> = BTreeSet::new();
    for step in steps {
        match step {
            Step::Register(at, number, meta) => {
                let (host, meta) = (host(*number), meta.to_string());
                if world.register(at % count, "db", &host, &meta) == DONE {
                    let known = world.indexes(at % count, "db");
                    assert!(known.contains_key(&host), "it reads what it wrote");
                    alive.insert(host, meta);
                } else {
                    alive.remove(&host);
                }
            }
            Step::Unregister(at, number) => {
                alive.remove(&host(*number));
                if world.unregister(at % count, "db", &host(*number)) == DONE {
                    let known = world.indexes(at % count, "db");
                    assert!(!known.contains_key(&host(*number)));
                }
            }
            Step::SetLeader(at, number) => {
                let request = Request::SetLeader(name("db"), id(&host(*number)));
                let _whatever = world.ask(at % count, request);
            }
            Step::SetMeta(at, data) => {
                let before = world.engine(at % count).meta(&name("db"));
                let before = before.map_or(0, |meta| meta.index);
                let data = json(&data.to_string());
                let request = Request::SetMeta(name("db"), data, before, None);
                if let Ok(Done::Meta(meta)) = world.ask(at % count, request) {
                    assert!(!metas.contains(&meta.index), "an index twice");
                    metas.push(meta.index);
                }
            }
            Step::Again(at) => {
                let removed = world.ask(at % count, Request::Remove(name("db")));
                if removed == DONE {
                    assert!(world.hosts(at % count, "db").is_empty());
                }
                alive.clear();
                let request = Request::Create(name("db"), leader_type);
                let _whatever = world.ask(at % count, request);
            }
            Step::Mood(Mood::Up) => world.thaw(),
            Step::Mood(mood) => world.mood = *mood,
            Step::TimeOut => world.time_out(),
            Step::Restart(at) => {
                hear(&mut world, &mut seen);
                let replica = at % count;
                world.restart(replica);
                let hosts = world.hosts(replica, "db").into_iter().collect();
                let leader = leader(&mut world, replica);
                seen[replica] = Seen { hosts, leader };
            }
            Step::Reset(at) => world.reset(at % count),
            Step::Pass(seconds) => world.pass(*seconds),
        }
        hear(&mut world, &mut seen);
        let known = world.indexes(0, "db");
        indexes.extend(known.values());
        let distinct: BTreeSet<&u64> = known.values().collect();
        assert_eq!(distinct.len(), known.len(), "an index twice");
    }
    world.thaw();
    world.pass(10);
    if world.engine(0).instances(&name("db")).is_err() {
        assert_eq!(world.create("db", leader_type), DONE);
    }
    // Who goes on heartbeating stays, whatever was made late; who does not goes.
    let mut before: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..20 {
        for (number, (host, meta)) in alive.iter().enumerate() {
            let replica = (number + round) % count;
            assert_eq!(world.register(replica, "db", host, meta), DONE);
        }
        world.pass(3);
        hear(&mut world, &mut seen);
        if round == 10 {
            before = world.indexes(0, "db").into_iter().collect();
        }
    }
    let after: BTreeMap<String, u64> = world.indexes(0, "db").into_iter().collect();
    let hosts: Vec<&String> = after.keys().collect();
    assert_eq!(hosts, alive.keys().collect::<Vec<_>>());
    for (host, index) in &after {
        assert_eq!(before.get(host), Some(index), "{host} was lost meanwhile");
    }
    assert_eq!(world.stored(Kind::Instance), alive.len());
    assert_eq!(world.stored(Kind::Service), 1);
    for (replica, seen) in seen.iter().enumerate() {
        assert_eq!(world.engine(replica).waiting_writes(), 0);
        assert_eq!(world.engine(replica).counts().instances, alive.len());
        let shown = world.indexes(replica, "db").into_iter().collect();
        assert_eq!(after, shown);
        let leads = leader(&mut world, replica);
        let hosts = after.keys().cloned().collect();
        assert_eq!(
            *seen,
            Seen {
                hosts,
                leader: leads.clone()
            }
        );
        if leader_type == LeaderType::Oldest {
            let oldest = after.iter().min_by_key(|(_, index)| **index);
            assert_eq!(leads.as_ref(), oldest.map(|(host, _)| host));
        }
        let metas = world.engine(replica).meta(&name("db"));
        assert_eq!(metas, world.engine(0).meta(&name("db")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_replica_keeps_its_word(steps in proptest::collection::vec(step(), 1..40)) {
        play(1, LeaderType::Oldest, &steps);
    }

    #[test]
    fn three_replicas_keep_their_word(steps in proptest::collection::vec(step(), 1..40)) {
        play(3, LeaderType::Oldest, &steps);
    }

    #[test]
    fn two_replicas_agree_on_a_manual_leader(steps in proptest::collection::vec(step(), 1..40)) {
        play(2, LeaderType::Manual, &steps);
    }
}
