//! What becomes of sessions when registries restart, replicas differ and stores
//! fail.

use crate::registry::ConnectionId;
use crate::session::engine::testing::{Mood, World};
use crate::session::engine::view::State;
use crate::session::engine::{Answer, Engine, MAX_ASKED, Setup};
use crate::session::{Command, Problem};
use crate::time::Now;

const API: &str = "api|api-v2|9000";

#[test]
fn before_the_store_was_read_nothing_is_decided() {
    let setup = Setup {
        identity: "me".into(),
        shared: false,
        grace: Setup::GRACE,
        sessions: Setup::SESSIONS,
        seed: 1,
    };
    let mut engine = Engine::new(setup, Now::read());
    let connection = ConnectionId(1);
    engine.opened(connection);
    for line in ["REGISTER|a|h|1|0", "RECONNECT|s", "VALIDATE|s"] {
        let command = Command::parse(line).unwrap();
        let answer = engine.ask(Now::read(), connection, command, [0; 16]);
        assert_eq!(answer, Answer::Now(Problem::Unavailable.into()));
    }
}

#[test]
fn a_session_outlives_a_restart_and_its_grace_starts_anew() {
    for shared in [false, true] {
        let mut world = if shared {
            World::shared(1)
        } else {
            World::alone()
        };
        let link = world.connect(0);
        let sid = world.register(link, API);
        let other = world.connect(0);
        let lost = world.register(other, "web|web|80");
        world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
        world.close(other);
        world.pass(50);
        world.kill(0);
        world.pass(300);
        world.restart(0);
        assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
        world.pass(59);
        assert_eq!(world.count(), 2);
        let writes = world.writes();
        let link = world.connect(0);
        assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "OK");
        assert_eq!(world.writes(), writes, "answered from memory");
        world.pass(5);
        assert!(world.stored(&lost).is_none());
        world.pass(600);
        assert!(world.stored(&sid).is_some());
        assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
    }
}

#[test]
fn another_replica_takes_a_session_up() {
    let mut world = World::shared(2);
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    assert_eq!(world.served(1), ["a.com/ -> http://h:1"]);
    world.pass(300);
    world.kill(0);
    world.pass(30);
    assert_eq!(world.served(1), ["a.com/ -> http://h:1"]);
    let link = world.connect(1);
    assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "OK");
    world.pass(300);
    let holder = world.stored(&sid).unwrap().lease.holder.clone();
    assert_eq!(holder.as_deref(), Some("replica-1"));
    // The first comes back, and leaves it where it is.
    world.restart(0);
    world.pass(300);
    assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
    let states: Vec<State> = world
        .engine(0)
        .sessions()
        .map(|session| session.state)
        .collect();
    assert_eq!(states, [State::Elsewhere]);
}

#[test]
fn when_a_replica_dies_its_sessions_have_their_grace() {
    let mut world = World::shared(2);
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.pass(300);
    world.kill(0);
    world.pass(60);
    assert!(world.stored(&sid).is_some());
    world.pass(2);
    assert!(world.stored(&sid).is_none());
}

#[test]
fn decision_7_holds_across_replicas() {
    let mut world = World::shared(2);
    let [old, new] = [0, 1].map(|replica| world.connect(replica));
    let sid = world.register(old, API);
    assert_eq!(world.send(new, &format!("RECONNECT|{sid}")), "OK");
    world.pass(1);
    assert!(!world.engine(0).holds_a_session(old.connection));
    world.close(old);
    world.pass(120);
    assert!(world.stored(&sid).is_some());
    // There and back again, before anybody has told the store.
    let back = world.connect(0);
    assert_eq!(world.send(back, &format!("RECONNECT|{sid}")), "OK");
    world.close(new);
    world.pass(600);
    assert!(world.stored(&sid).is_some());
    let holder = world.stored(&sid).unwrap().lease.holder.clone();
    assert_eq!(holder.as_deref(), Some("replica-0"));
}

#[test]
fn two_replicas_that_take_a_session_up_at_once_do_not_lose_it() {
    let mut world = World::shared(3);
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.close(link);
    let [one, two] = [1, 2].map(|replica| world.connect(replica));
    for link in [one, two] {
        assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "OK");
    }
    world.pass(5);
    let keeps = [one, two].map(|link| world.engine(link.replica).holds_a_session(link.connection));
    assert_eq!(keeps.iter().filter(|keeps| **keeps).count(), 1);
    world.pass(600);
    assert!(world.stored(&sid).is_some());
}

#[test]
fn a_session_is_commanded_at_any_replica() {
    let mut world = World::shared(2);
    let [link, other] = [0, 1].map(|replica| world.connect(replica));
    let sid = world.register(link, API);
    for (link, path) in [(other, "/a"), (link, "/b"), (other, "/c")] {
        let route = format!("ROUTE|{sid}|a.com|{path}|http://h:1");
        assert_eq!(world.send(link, &route), "ROUTE_OK");
    }
    for replica in 0..2 {
        assert_eq!(world.served(replica).len(), 3);
    }
    let holder = world.stored(&sid).unwrap().lease.holder.clone();
    assert_eq!(holder.as_deref(), Some("replica-0"));
    world.close(other);
    world.pass(120);
    assert_eq!(world.send(link, &format!("SHUTDOWN|{sid}")), "GOODBYE");
    assert!(world.engine(1).is_empty());
}

#[test]
fn commands_at_two_replicas_at_once_are_both_done() {
    let mut world = World::shared(2);
    let [link, other] = [0, 1].map(|replica| world.connect(replica));
    let sid = world.register(link, API);
    for (link, path) in [(link, "/a"), (other, "/b")] {
        let answer = world.ask(link, &format!("ROUTE|{sid}|a.com|{path}|http://h:1"));
        assert!(matches!(answer, Answer::Later(_)));
    }
    // Neither has been told of the other's.
    world.write(0);
    world.write(1);
    world.tell();
    assert_eq!(world.stored(&sid).unwrap().routes.0.len(), 2);
    for replica in 0..2 {
        assert_eq!(world.served(replica).len(), 2);
    }
}

#[test]
fn services_that_take_a_place_at_once_are_told_apart_everywhere_alike() {
    let mut world = World::shared(2);
    let [link, other] = [0, 1].map(|replica| world.connect(replica));
    let first = world.register(link, API);
    world.pass(1);
    let second = world.register(other, "web|web|80");
    for (link, sid) in [(link, &first), (other, &second)] {
        world.ask(link, &format!("ROUTE|{sid}|a.com|/|http://{}", &sid[..3]));
    }
    world.write(1);
    world.write(0);
    world.tell();
    for replica in 0..2 {
        assert_eq!(world.served(replica), ["a.com/ -> http://api"]);
    }
    assert_eq!(world.send(link, &format!("VALIDATE|{first}")), "OK");
    assert_eq!(
        world.send(other, &format!("VALIDATE|{second}")),
        "ERROR|Route conflict: a.com/ is served by api"
    );
}

#[test]
fn validate_tells_what_is_missing_and_changes_nothing() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    let validate = format!("VALIDATE|{sid}");
    let writes = world.writes();
    assert_eq!(
        world.send(link, &validate),
        "ERROR|Invalid route: the session has none"
    );
    assert_eq!(world.writes(), writes);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    assert_eq!(world.send(link, &validate), "OK");
    world.send(link, &format!("OPTIONS|{sid}|health_check_interval|1s"));
    world.send(link, &format!("OPTIONS|{sid}|health_check_timeout|2s"));
    let reply = world.send(link, &validate);
    assert!(reply.starts_with("ERROR|Invalid option: "), "{reply}");
}

#[test]
fn what_is_so_already_is_not_written() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    for line in [
        "ROUTE|SID|a.com|/|http://h:1",
        "HEADER|SID|a|b",
        "MAINT_EXIT|SID",
    ] {
        let line = line.replace("SID", &sid);
        world.send(link, &line);
        let writes = world.writes();
        world.send(link, &line);
        assert_eq!(world.writes(), writes, "{line}");
    }
}

#[test]
fn a_connection_that_drops_for_a_moment_costs_no_more_than_one_write() {
    let mut world = World::shared(1);
    let mut link = world.connect(0);
    let sid = world.register(link, API);
    let writes = world.writes();
    for _ in 0..5 {
        world.close(link);
        world.pass(3);
        link = world.connect(0);
        assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "OK");
        world.pass(3);
    }
    assert_eq!(world.writes(), writes + 5);
    // One that stays away is told of.
    world.close(link);
    world.pass(20);
    let lease = world.stored(&sid).unwrap().lease.clone();
    assert_eq!(lease.holder, None);
    assert_eq!(lease.duration(), Setup::GRACE);
}

#[test]
fn a_session_that_was_taken_for_dead_lives_while_its_connection_is_open() {
    let mut world = World::shared(2);
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    // Cut off for a while: the others release it.
    world.kill(0);
    world.pass(20);
    assert!(!world.stored(&sid).unwrap().lease.is_held());
    world.heal(0);
    world.pass(2);
    assert!(world.stored(&sid).unwrap().lease.is_held());
    // Cut off for long: they remove it.
    world.kill(0);
    world.pass(70);
    assert_eq!(world.count(), 0);
    world.heal(0);
    world.pass(2);
    assert_eq!(world.served(1), ["a.com/ -> http://h:1"]);
    assert!(world.stored(&sid).unwrap().lease.is_held());
}

#[test]
fn a_session_that_was_ended_elsewhere_is_over() {
    let mut world = World::shared(2);
    let [link, other] = [0, 1].map(|replica| world.connect(replica));
    let sid = world.register(link, API);
    assert_eq!(world.send(other, &format!("SHUTDOWN|{sid}")), "GOODBYE");
    assert!(!world.engine(0).holds_a_session(link.connection));
    let sid = world.register(link, API);
    world.remove(&sid);
    world.tell();
    world.pass(2);
    assert_eq!(world.count(), 0);
    assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "REREGISTER");
}

#[test]
fn what_somebody_edits_is_taken_over() {
    let mut world = World::shared(1);
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.edit(&sid, |record| record.maintenance = true);
    // Not told yet: the command meets it in the store.
    let route = format!("ROUTE|{sid}|a.com|/|http://h:1");
    assert_eq!(world.send(link, &route), "ROUTE_OK");
    let stored = world.stored(&sid).unwrap();
    assert!(stored.maintenance && stored.routes.0.len() == 1);
}

#[test]
fn what_is_kept_by_hand_needs_no_connection_and_takes_no_command() {
    let mut world = World::shared(1);
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    world.edit(&sid, |record| record.is_static = true);
    world.tell();
    world.close(link);
    world.pass(300);
    assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
    let link = world.connect(0);
    assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "REREGISTER");
    assert_eq!(
        world.send(link, &format!("SHUTDOWN|{sid}")),
        "ERROR|Invalid session"
    );
    // Its places are taken.
    let other = world.register(link, "web|web|80");
    let reply = world.send(link, &format!("ROUTE|{other}|a.com|/|http://h:2"));
    assert!(reply.starts_with("ERROR|Route conflict"), "{reply}");
}

#[test]
fn a_session_has_a_bounded_number_of_commands_waiting() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.mood = Mood::Hung;
    let ask = |world: &mut World, number: usize| {
        let link = world.connect(0);
        world.ask(link, &format!("ROUTE|{sid}|a.com|/{number}|http://h:1"))
    };
    for number in 0..MAX_ASKED {
        assert!(matches!(ask(&mut world, number), Answer::Later(_)));
    }
    let unavailable = Answer::Now(Problem::Unavailable.into());
    assert_eq!(ask(&mut world, MAX_ASKED), unavailable);
    // Nobody comes back for them: they are given up all the same.
    world.pass(5);
    assert_eq!(world.engine(0).take_answers().len(), MAX_ASKED);
    world.thaw();
    world.pass(20);
    assert_eq!(world.served(0), [""; 0]);
    assert_eq!(world.engine(0).waiting_writes(), 0);
}

#[test]
fn there_are_only_so_many_sessions() {
    let mut world = World::alone();
    for number in 0..100 {
        let link = world.connect(0);
        world.register(link, &format!("api|api-{number}|80"));
    }
    let link = world.connect(0);
    let reply = world.send(link, "REGISTER|api|more|80|0");
    assert_eq!(reply, "ERROR|Unavailable");
}

#[test]
fn a_write_that_is_made_after_its_session_has_gone_is_removed() {
    let mut world = World::shared(2);
    let link = world.connect(0);
    world.mood = Mood::Hung;
    let register = format!("REGISTER|{API}|0");
    assert_eq!(world.send(link, &register), "ERROR|Unavailable");
    world.time_out();
    // Those that come after it are made before it.
    world.mood = Mood::Up;
    world.pass(10);
    assert!(world.engine(0).is_empty());
    world.thaw();
    assert_eq!(world.count(), 1);
    world.tell();
    world.pass(2);
    assert_eq!(world.count(), 0);
    assert!(world.engine(1).is_empty());
}

#[test]
fn time_in_which_the_process_was_frozen_is_nobodys_silence() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.close(link);
    world.pass(30);
    world.now = world.now.plus(super::testing::SECOND * 600);
    world.pass(20);
    assert!(world.stored(&sid).is_some());
    world.pass(15);
    assert!(world.stored(&sid).is_none());
}

#[test]
fn a_command_does_not_wait_for_what_the_store_refused_before() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    let route = format!("ROUTE|{sid}|a.com|/|http://h:1");
    world.mood = Mood::Mute;
    assert_eq!(world.send(link, &route), "ERROR|Unavailable");
    // What is left of it cannot be undone for a while.
    world.mood = Mood::Refusing;
    world.pass(60);
    world.mood = Mood::Up;
    let start = world.now.mono;
    assert_eq!(world.send(link, &route), "ROUTE_OK");
    assert_eq!(world.now.mono, start);
}
