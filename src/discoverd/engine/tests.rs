//! What the protocol promises, each as a story.

use super::testing::{DONE, Mood, World, id, instance, json, name};
use super::*;
use crate::discoverd::event::Wanted;
use crate::record::Kind;

use LeaderType::{Manual, Oldest};

fn set_meta(world: &mut World, data: &str, index: u64, leader: Option<&str>) -> Outcome {
    let leader = leader.map(id);
    world.ask(0, Request::SetMeta(name("db"), json(data), index, leader))
}

fn index_of(outcome: Outcome) -> u64 {
    match outcome {
        Ok(Done::Meta(meta)) => meta.index,
        other => panic!("{other:?}"),
    }
}

/// A world with a service `db`.
fn world(leader: LeaderType) -> World {
    let mut world = World::alone();
    assert_eq!(world.create("db", leader), DONE);
    world.events(0);
    world
}

#[test]
fn a_service_is_made_once_and_removed_once() {
    let mut world = world(Oldest);
    let exists = Err(Problem::ServiceExists(name("db")));
    assert_eq!(world.create("db", Oldest), exists);
    assert_eq!(world.register(0, "db", "a", ""), DONE);
    assert_eq!(world.ask(0, Request::Remove(name("db"))), DONE);
    assert_eq!(
        world.events(0),
        ["up a", "leader a", "down a", "leader nobody"]
    );
    let unknown = Err(Problem::NoService(name("db")));
    assert_eq!(world.ask(0, Request::Remove(name("db"))), unknown);
    assert_eq!(world.register(0, "db", "a", ""), unknown);
    assert_eq!(world.unregister(0, "db", "a"), unknown);
    world.pass(2);
    assert_eq!(world.stored(Kind::Instance), 0, "they go with it");
}

#[test]
fn a_service_that_is_made_again_has_nothing_of_the_former() {
    let mut world = world(Oldest);
    world.register(0, "db", "a", "").unwrap();
    let before = world.indexes(0, "db")["a"];
    // Removed and made again before what was left could go.
    world.ask(0, Request::Remove(name("db"))).unwrap();
    world.create("db", Oldest).unwrap();
    assert!(world.hosts(0, "db").is_empty());
    world.register(0, "db", "a", "").unwrap();
    assert!(world.indexes(0, "db")["a"] > before);
    world.pass(5);
    assert_eq!(world.hosts(0, "db"), ["a"]);
    assert_eq!(world.stored(Kind::Instance), 1);
}

#[test]
fn an_unchanged_heartbeat_is_no_event_and_no_write() {
    let mut world = world(Oldest);
    world.register(0, "db", "a", "1").unwrap();
    assert_eq!(world.events(0), ["up a=1", "leader a=1"]);
    let (revision, index) = (world.revision(), world.indexes(0, "db")["a"]);
    for _ in 0..30 {
        world.pass(3);
        assert_eq!(world.register(0, "db", "a", "1"), DONE);
    }
    assert_eq!(world.revision(), revision);
    assert!(world.events(0).is_empty());
    world.register(0, "db", "a", "2").unwrap();
    assert_eq!(world.events(0), ["update a=2"]);
    assert_eq!(world.indexes(0, "db")["a"], index, "kept over an update");
}

#[test]
fn an_instance_goes_ten_seconds_after_its_last_heartbeat() {
    let mut world = world(Oldest);
    world.register(0, "db", "a", "").unwrap();
    world.register(0, "db", "b", "").unwrap();
    let before = world.indexes(0, "db")["a"];
    world.events(0);
    world.pass(9);
    world.register(0, "db", "b", "").unwrap();
    assert_eq!(world.hosts(0, "db"), ["a", "b"]);
    world.pass(2);
    assert_eq!(world.events(0), ["down a", "leader b"]);
    world.register(0, "db", "a", "").unwrap();
    assert_eq!(world.events(0), ["up a"], "the index is lost, so b leads");
    assert!(world.indexes(0, "db")["a"] > before);
    assert_eq!(world.hosts(0, "db"), ["b", "a"]);
}

#[test]
fn indexes_are_the_order_of_first_registration() {
    let mut world = world(Oldest);
    for host in ["c", "a", "b"] {
        world.register(0, "db", host, "").unwrap();
    }
    assert_eq!(world.hosts(0, "db"), ["c", "a", "b"]);
    world.register(0, "db", "c", "new").unwrap();
    assert_eq!(world.hosts(0, "db"), ["c", "a", "b"]);
    assert_eq!(world.unregister(0, "db", "c"), DONE);
    assert_eq!(
        world.unregister(0, "db", "c"),
        DONE,
        "as one does who tries again"
    );
    let events = world.events(0);
    assert_eq!(events[events.len() - 2..], ["down c=new", "leader a"]);
}

#[test]
fn many_that_register_at_once_share_a_write_of_the_counter() {
    let mut world = world(Oldest);
    let now = world.now;
    let before = world.revision();
    for number in 0..100 {
        let request = Request::Register(name("db"), instance(&format!("h{number}"), ""));
        let answer = world.engine(0).ask(now, request);
        assert!(matches!(answer, Answer::Later(_)));
    }
    world.write(0);
    world.tell();
    assert_eq!(world.engine(0).take_answers().len(), 100);
    assert_eq!(world.revision(), before + 101);
    let expected: Vec<String> = (0..100).map(|number| format!("h{number}")).collect();
    assert_eq!(world.hosts(0, "db"), expected);
    let events = world.events(0);
    assert_eq!(
        events
            .iter()
            .filter(|event| event.starts_with("leader"))
            .count(),
        1
    );
}

#[test]
fn a_manual_leader_is_sticky_and_may_be_absent() {
    let mut world = world(Manual);
    let lead = |world: &mut World, host| world.ask(0, Request::SetLeader(name("db"), id(host)));
    world.register(0, "db", "a", "").unwrap();
    assert_eq!(world.engine(0).leader(&name("db")), Err(Problem::NoLeader));
    assert_eq!(lead(&mut world, "b"), DONE);
    assert_eq!(world.engine(0).leader(&name("db")), Err(Problem::NoLeader));
    assert_eq!(world.events(0), ["up a"]);
    world.register(0, "db", "b", "").unwrap();
    assert_eq!(world.events(0), ["up b", "leader b"]);
    assert_eq!(lead(&mut world, "b"), DONE);
    world.unregister(0, "db", "b").unwrap();
    assert_eq!(
        world.events(0),
        ["down b", "leader nobody"],
        "a does not take over"
    );
    world.register(0, "db", "b", "").unwrap();
    assert_eq!(world.events(0), ["up b", "leader b"]);
    lead(&mut world, "a").unwrap();
    assert_eq!(world.events(0), ["leader a"]);
}

#[test]
fn only_a_manual_leader_is_named() {
    let mut world = world(Oldest);
    let named = world.ask(0, Request::SetLeader(name("db"), id("a")));
    assert_eq!(named, Err(Problem::NotManual));
    let named = world.ask(0, Request::SetLeader(name("x"), id("a")));
    assert_eq!(named, Err(Problem::NotManual));
    assert_eq!(
        set_meta(&mut world, "1", 0, Some("a")),
        Err(Problem::NotManual)
    );
}

#[test]
fn meta_data_is_compared_and_swapped() {
    let mut world = world(Oldest);
    assert_eq!(
        set_meta(&mut world, "1", 7, None),
        Err(Problem::MetaChanged(0))
    );
    let first = index_of(set_meta(&mut world, "1", 0, None));
    assert_eq!(
        set_meta(&mut world, "2", 0, None),
        Err(Problem::MetaExists(first))
    );
    let second = index_of(set_meta(&mut world, "2", first, None));
    assert!(second > first);
    let stale = set_meta(&mut world, "3", first, None);
    assert_eq!(stale, Err(Problem::MetaChanged(second)));
    assert_eq!(world.events(0), ["service_meta 1", "service_meta 2"]);
    let unknown = Request::SetMeta(name("x"), json("1"), 0, None);
    assert_eq!(world.ask(0, unknown), Err(Problem::NoService(name("x"))));
}

#[test]
fn meta_data_and_leader_change_in_one_write() {
    let mut world = world(Manual);
    for host in ["a", "b"] {
        world.register(0, "db", host, "").unwrap();
    }
    world.events(0);
    let before = world.revision();
    let index = index_of(set_meta(&mut world, "1", 0, Some("b")));
    assert_eq!(world.revision(), before + 1);
    assert_eq!(world.events(0), ["service_meta 1", "leader b"]);
    index_of(set_meta(&mut world, "2", index, None));
    assert_eq!(world.events(0), ["service_meta 2"], "the leader stays");
}

#[test]
fn what_is_present_is_told_in_order() {
    let mut world = world(Manual);
    for host in ["b", "a"] {
        world.register(0, "db", host, "").unwrap();
    }
    set_meta(&mut world, "1", 0, Some("a")).unwrap();
    let mut present = |service: &str, wanted| -> Vec<String> {
        let all = world.engine(0).present(&name(service), wanted).unwrap();
        all.iter().map(super::testing::short).collect()
    };
    let all = ["up b", "up a", "leader a", "service_meta 1", "current"];
    assert_eq!(present("db", Wanted::All), all);
    assert_eq!(present("db", Wanted::Instances), ["up b", "up a"]);
    assert_eq!(present("db", Wanted::Leader), ["leader a"]);
    assert_eq!(present("none", Wanted::All), ["current"]);
}

#[test]
fn nothing_goes_for_two_ttls_after_a_start() {
    let mut world = world(Oldest);
    for host in ["a", "b"] {
        world.register(0, "db", host, "").unwrap();
    }
    let indexes = world.indexes(0, "db");
    world.pass(9);
    world.restart(0);
    world.pass(19);
    assert_eq!(world.hosts(0, "db"), ["a", "b"]);
    world.register(0, "db", "b", "").unwrap();
    assert_eq!(world.indexes(0, "db"), indexes);
    world.pass(3);
    assert_eq!(world.events(0), ["down a", "leader b"]);
}

#[test]
fn nobody_goes_while_the_process_was_frozen() {
    let mut world = world(Oldest);
    world.register(0, "db", "a", "").unwrap();
    world.now = world.now.plus(super::testing::SECOND * 600);
    world.pass(5);
    assert_eq!(world.hosts(0, "db"), ["a"]);
}

#[test]
fn before_the_store_was_read_nothing_is_known() {
    let setup = Setup {
        identity: "r".into(),
        shared: false,
        ttl: Setup::TTL,
        limits: Limits::default(),
        seed: 1,
    };
    let now = Now::read();
    let mut engine = Engine::new(setup, now);
    let db = name("db");
    let answer = engine.ask(now, Request::Create(db.clone(), Oldest));
    assert_eq!(answer, Answer::Now(Err(Problem::NotReady)));
    assert_eq!(engine.instances(&db), Err(Problem::NotReady));
    assert_eq!(engine.leader(&db), Err(Problem::NotReady));
    assert_eq!(engine.meta(&db), Err(Problem::NotReady));
    assert_eq!(engine.present(&db, Wanted::All), Err(Problem::NotReady));
}

#[test]
fn while_the_store_is_away_nobody_comes_or_goes_and_heartbeats_count() {
    let mut world = world(Oldest);
    for host in ["a", "b"] {
        world.register(0, "db", host, "").unwrap();
    }
    world.events(0);
    world.mood = Mood::Away;
    for _ in 0..10 {
        world.pass(5);
        assert_eq!(world.register(0, "db", "b", ""), DONE);
    }
    assert_eq!(world.register(0, "db", "c", ""), Err(Problem::Unavailable));
    assert_eq!(world.create("x", Oldest), Err(Problem::Unavailable));
    assert!(world.events(0).is_empty());
    assert_eq!(world.hosts(0, "db"), ["a", "b"]);
    world.register(0, "db", "b", "").unwrap();
    world.mood = Mood::Up;
    world.pass(7);
    assert_eq!(world.events(0), ["down a", "leader b"]);
}

#[test]
fn a_removal_that_is_made_late_does_not_take_who_lives() {
    let mut world = world(Oldest);
    world.register(0, "db", "a", "").unwrap();
    let index = world.indexes(0, "db")["a"];
    world.mood = Mood::Hung;
    world.pass(12);
    world.mood = Mood::Up;
    // It lives after all: what hangs must not be made any more.
    assert_eq!(world.register(0, "db", "a", ""), DONE);
    world.thaw();
    world.pass(3);
    assert_eq!(world.hosts(0, "db"), ["a"]);
    assert_eq!(world.indexes(0, "db")["a"], index);
}

#[test]
fn what_was_made_though_its_answer_was_lost_is_a_success() {
    let mut world = World::alone();
    world.mood = Mood::Mute;
    assert_eq!(world.create("db", Manual), DONE);
    world.mood = Mood::Up;
    assert_eq!(world.register(0, "db", "a", ""), DONE);
    world.mood = Mood::Mute;
    assert_eq!(world.register(0, "db", "a", "new"), DONE);
    let first = index_of(set_meta(&mut world, "1", 0, Some("a")));
    assert!(first > 0);
    assert_eq!(world.ask(0, Request::SetLeader(name("db"), id("b"))), DONE);
    assert_eq!(world.unregister(0, "db", "a"), DONE);
    assert_eq!(world.ask(0, Request::Remove(name("db"))), DONE);
}

#[test]
fn there_are_bounds() {
    let mut world = World::alone();
    world.limits = Limits {
        services: 2,
        per_service: 2,
        instances: 3,
        asked: 100,
    };
    world.restart(0);
    for service in ["a", "b"] {
        world.create(service, Oldest).unwrap();
    }
    assert_eq!(world.create("c", Oldest), Err(Problem::Full("services", 2)));
    for host in ["x", "y"] {
        world.register(0, "a", host, "").unwrap();
    }
    let full = world.register(0, "a", "z", "");
    assert_eq!(full, Err(Problem::Full("instances of a service", 2)));
    world.register(0, "b", "x", "").unwrap();
    let full = world.register(0, "b", "y", "");
    assert_eq!(full, Err(Problem::Full("instances", 3)));
    assert_eq!(
        world.register(0, "a", "x", ""),
        DONE,
        "who is there goes on"
    );
    world.unregister(0, "a", "x").unwrap();
    assert_eq!(world.register(0, "b", "y", ""), DONE);
    world.ask(0, Request::Remove(name("a"))).unwrap();
    world.pass(2);
    assert_eq!(world.create("c", Oldest), DONE);
}

#[test]
fn replicas_share_what_they_hear() {
    let mut world = World::shared(2);
    world.create("db", Oldest).unwrap();
    world.register(0, "db", "a", "").unwrap();
    let index = world.indexes(1, "db")["a"];
    let written = world.revision();
    // Heartbeats at either replica, by turns: no write while the holder hears some.
    for _ in 0..10 {
        for replica in [0, 1] {
            world.pass(4);
            world.register(replica, "db", "a", "").unwrap();
        }
    }
    assert_eq!(world.revision(), written);
    // All at the other one: it takes the instance over, and nobody is told.
    for _ in 0..10 {
        world.pass(4);
        world.register(1, "db", "a", "").unwrap();
    }
    assert_eq!(world.indexes(0, "db")["a"], index);
    assert!(world.revision() > written && world.revision() <= written + 2);
    for replica in [0, 1] {
        assert_eq!(world.events(replica), ["up a", "leader a"]);
    }
    world.pass(20);
    for replica in [0, 1] {
        assert_eq!(world.events(replica), ["down a", "leader nobody"]);
    }
}

#[test]
fn the_instances_of_a_dead_replica_have_two_ttls_to_find_another() {
    let mut world = World::shared(2);
    world.create("db", Oldest).unwrap();
    for host in ["a", "b"] {
        world.register(0, "db", host, "").unwrap();
    }
    let indexes = world.indexes(1, "db");
    world.replicas[0].lives = false;
    world.events(1);
    world.pass(18);
    assert_eq!(world.register(1, "db", "b", ""), DONE);
    assert_eq!(world.indexes(1, "db"), indexes);
    world.pass(4);
    assert_eq!(world.events(1), ["down a", "leader b"]);
    assert_eq!(world.indexes(1, "db")["b"], indexes["b"]);
}

#[test]
fn a_watch_that_begins_anew_tells_only_what_changed() {
    let mut world = World::shared(2);
    world.create("db", Oldest).unwrap();
    for host in ["a", "b", "c"] {
        world.register(0, "db", host, "").unwrap();
    }
    world.reset(1);
    world.events(1);
    world.reset(1);
    assert!(world.events(1).is_empty());
    // What it missed is told when it is told everything.
    world.replicas[1].lives = false;
    world.unregister(0, "db", "a").unwrap();
    world.register(0, "db", "b", "new").unwrap();
    world.register(0, "db", "a", "").unwrap();
    world.replicas[1].lives = true;
    world.reset(1);
    let mut events = world.events(1);
    events.sort();
    assert_eq!(
        events,
        ["down a", "leader b=new", "up a", "update b=new"].map(String::from)
    );
    assert_eq!(world.hosts(1, "db"), ["b", "c", "a"]);
}
