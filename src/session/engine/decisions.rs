//! The decisions of the protocol, each as a story. Those about bytes are told in
//! `codec.rs`; those about time on a socket, where there are sockets.

use crate::session::engine::testing::{Mood, World};
use crate::session::id::SessionKey;

const API: &str = "api|api-v2|9000";

#[test]
fn decision_1_a_silent_session_lives_while_its_connection_is_open() {
    let mut world = World::alone();
    let link = world.connect(0);
    assert!(!world.engine(0).holds_a_session(link.connection));
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    world.pass(600);
    assert!(world.engine(0).holds_a_session(link.connection));
    assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
    assert_eq!(world.send(link, &format!("SHUTDOWN|{sid}")), "GOODBYE");
    assert!(!world.engine(0).holds_a_session(link.connection));
}

#[test]
fn decision_2_a_lost_connection_starts_the_grace_in_which_routes_are_served() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    world.close(link);
    world.pass(59);
    assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
    world.pass(1);
    assert_eq!(world.served(0), [""; 0]);
    assert!(world.stored(&sid).is_none());
    let expired = world.lines().last().unwrap();
    assert!(
        expired.starts_with("[registry] Session expired: api at api-v2:9000"),
        "{expired}"
    );
    let link = world.connect(0);
    assert_eq!(world.send(link, &format!("RECONNECT|{sid}")), "REREGISTER");
    let validate = format!("VALIDATE|{sid}");
    assert_eq!(world.send(link, &validate), "ERROR|Invalid session");
}

#[test]
fn decision_3_ids_differ_within_a_second_and_end_in_random_bits() {
    let mut world = World::alone();
    let [one, two] = [0; 2].map(|replica| world.connect(replica));
    let one = world.register(one, API);
    let two = world.register(two, API);
    let front = format!("api-v2-9000-{}-", world.now.wall.as_second());
    for sid in [&one, &two] {
        let random = sid.strip_prefix(&front).unwrap();
        assert_eq!(random.len(), 32);
        assert!(random.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    assert_ne!(one, two);
}

#[test]
fn decision_4_who_has_the_id_may_command_from_any_connection() {
    let mut world = World::alone();
    let [link, other] = [0; 2].map(|replica| world.connect(replica));
    let sid = world.register(link, API);
    let route = format!("ROUTE|{sid}|a.com|/|http://h:1");
    assert_eq!(world.send(other, &route), "ROUTE_OK");
    assert!(!world.engine(0).holds_a_session(other.connection));
    world.close(other);
    world.pass(120);
    assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
    // Neither the front of an id nor its hash is one.
    let (front, random) = sid.rsplit_once('-').unwrap();
    for guess in [front, &SessionKey::of(&sid).to_string(), "", random] {
        let reply = world.send(link, &format!("MAINT_ENTER|{guess}"));
        assert_eq!(reply, "ERROR|Invalid session");
    }
    let shown = format!("{world:?}").to_lowercase() + &world.lines().join("\n");
    assert!(shown.contains(front) && !shown.contains(random));
}

#[test]
fn decision_5_a_connection_registers_once_unless_it_is_told_to() {
    let mut world = World::alone();
    let link = world.connect(0);
    let first = world.register(link, API);
    let again = format!("REGISTER|{API}|0");
    assert_eq!(world.send(link, &again), "ERROR|Already registered");
    assert_eq!(world.send(link, "RECONNECT|gone"), "REREGISTER");
    let second = world.register(link, API);
    assert_ne!(first, second);
    assert_eq!(world.send(link, &again), "ERROR|Already registered");
    world.send(link, &format!("SHUTDOWN|{second}"));
    world.register(link, API);
}

#[test]
fn decision_6_the_same_instance_supersedes_its_former_session() {
    let mut world = World::alone();
    let [old, new] = [0; 2].map(|replica| world.connect(replica));
    let former = world.register(old, API);
    for path in ["/a", "/b"] {
        world.send(old, &format!("ROUTE|{former}|a.com|{path}|http://h:1"));
    }
    let sid = world.register(new, API);
    assert_eq!(
        world.served(0),
        ["a.com/a -> http://h:1", "a.com/b -> http://h:1"]
    );
    world.send(new, &format!("ROUTE|{sid}|a.com|/a|http://h:2"));
    assert_eq!(
        world.served(0),
        ["a.com/a -> http://h:2", "a.com/b -> http://h:1"]
    );
    for line in ["VALIDATE", "MAINT_ENTER"] {
        let reply = world.send(old, &format!("{line}|{former}"));
        assert_eq!(reply, "ERROR|Invalid session");
    }
    // Its connection does not keep it, though it is open.
    world.pass(60);
    assert_eq!(world.served(0), ["a.com/a -> http://h:2"]);
    assert!(world.stored(&former).is_none());
    // Another port is another instance.
    let other = world.connect(0);
    world.register(other, "api|api-v2|9001");
    world.pass(120);
    assert_eq!(world.served(0), ["a.com/a -> http://h:2"]);
}

#[test]
fn decision_6_a_former_session_can_be_ended_but_not_taken_up() {
    let mut world = World::alone();
    let [old, new] = [0; 2].map(|replica| world.connect(replica));
    let former = world.register(old, API);
    world.send(old, &format!("ROUTE|{former}|a.com|/|http://h:1"));
    let sid = world.register(new, API);
    assert_eq!(
        world.send(old, &format!("RECONNECT|{former}")),
        "REREGISTER"
    );
    assert_eq!(world.send(old, &format!("SHUTDOWN|{former}")), "GOODBYE");
    assert_eq!(world.served(0), [""; 0]);
    assert_eq!(world.send(new, &format!("MAINT_ENTER|{sid}")), "MAINT_OK");
}

#[test]
fn an_instance_that_ends_takes_its_former_sessions_with_it() {
    let mut world = World::alone();
    let [old, new] = [0; 2].map(|replica| world.connect(replica));
    let former = world.register(old, API);
    world.send(old, &format!("ROUTE|{former}|a.com|/|http://h:1"));
    let sid = world.register(new, API);
    assert_eq!(world.send(new, &format!("SHUTDOWN|{sid}")), "GOODBYE");
    assert_eq!(world.served(0), [""; 0]);
    world.pass(1);
    assert_eq!(world.count(), 0);
}

#[test]
fn decision_7_the_newest_connection_keeps_the_session() {
    let mut world = World::alone();
    let [old, new] = [0; 2].map(|replica| world.connect(replica));
    let sid = world.register(old, API);
    assert_eq!(world.send(new, &format!("RECONNECT|{sid}")), "OK");
    assert!(!world.engine(0).holds_a_session(old.connection));
    world.close(old);
    world.pass(120);
    assert!(world.stored(&sid).is_some());
    world.close(new);
    world.pass(30);
    let third = world.connect(0);
    assert_eq!(world.send(third, &format!("RECONNECT|{sid}")), "OK");
    world.pass(120);
    assert!(world.stored(&sid).is_some());
}

#[test]
fn decision_8_a_route_replaces_balances_or_conflicts() {
    let mut world = World::alone();
    let [one, two, other] = [0; 3].map(|replica| world.connect(replica));
    let first = world.register(one, API);
    world.pass(1);
    let second = world.register(two, "api|api-v3|9000");
    let rival = world.register(other, "web|web|80");
    let route =
        |sid: &str, domains: &str, port: u16| format!("ROUTE|{sid}|{domains}|/v2|http://h:{port}");
    assert_eq!(world.send(one, &route(&first, "a.com", 1)), "ROUTE_OK");
    assert_eq!(world.send(one, &route(&first, "A.com", 2)), "ROUTE_OK");
    assert_eq!(world.served(0), ["a.com/v2 -> http://h:2"]);
    assert_eq!(world.send(two, &route(&second, "a.com", 3)), "ROUTE_OK");
    assert_eq!(
        world.served(0),
        ["a.com/v2 -> http://h:2", "a.com/v2 -> http://h:3"]
    );
    let reply = world.send(other, &route(&rival, "b.com,a.com", 4));
    assert_eq!(reply, "ERROR|Route conflict: a.com/v2 is served by api");
    assert_eq!(world.served(0).len(), 2, "nothing of it was taken");
    for domain in ["b.com", "*.a.com"] {
        assert_eq!(world.send(other, &route(&rival, domain, 4)), "ROUTE_OK");
    }
    for sid in [&first, &second] {
        world.send(one, &format!("SHUTDOWN|{sid}"));
    }
    assert_eq!(world.send(other, &route(&rival, "a.com", 4)), "ROUTE_OK");
}

#[test]
fn decision_8_what_is_not_decided_yet_conflicts_too() {
    let mut world = World::alone();
    let [one, other] = [0; 2].map(|replica| world.connect(replica));
    let sid = world.register(one, API);
    let rival = world.register(other, "web|web|80");
    world.mood = Mood::Hung;
    world.ask(one, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    world.write(0);
    let route = format!("ROUTE|{rival}|a.com|/|http://h:2");
    let conflict = "ERROR|Route conflict: a.com/ is served by api";
    assert_eq!(world.send(other, &route), conflict);
    world.pass(4);
    assert_eq!(
        world.send(other, &route),
        conflict,
        "given up, but it may be stored"
    );
    world.thaw();
    world.pass(10);
    assert_eq!(world.send(other, &route), "ROUTE_OK");
}

#[test]
fn decision_9_names_routes_and_ports_are_checked() {
    let mut world = World::alone();
    let link = world.connect(0);
    for port in ["0|0", "65536|0", "x|0", "1|65536"] {
        let reply = world.send(link, &format!("REGISTER|api|h|{port}"));
        assert_eq!(reply, "ERROR|Invalid port");
    }
    let sid = world.register(link, API);
    for route in ["a_b.com|/|http://h", "a.com|v2|http://h", "a.com|/|ftp://h"] {
        let reply = world.send(link, &format!("ROUTE|{sid}|{route}"));
        assert!(reply.starts_with("ERROR|Invalid route: "), "{reply}");
    }
    assert_eq!(
        world.send(link, &format!("ROUTE|{sid}| A.com , *.B.com |/v2|ws://h")),
        "ROUTE_OK"
    );
    assert_eq!(
        world.served(0),
        ["*.b.com/v2 -> ws://h", "a.com/v2 -> ws://h"]
    );
}

#[test]
fn decision_10_unknown_options_and_bad_values_are_refused() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    let mut option = |pair: &str| world.send(link, &format!("OPTIONS|{sid}|{pair}"));
    assert_eq!(option("timeout|60s"), "OPTIONS_OK");
    for pair in ["colour|blue", "timeout|soon", "http2|maybe"] {
        let reply = option(pair);
        assert!(reply.starts_with("ERROR|Invalid option: "), "{reply}");
    }
    let options = &world.stored(&sid).unwrap().options;
    assert_eq!(options.timeout_ms, Some(60_000));
    assert_eq!(options.http2, None);
}

#[test]
fn decision_11_maintenance_lasts_and_covers_later_routes() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    for _ in 0..2 {
        assert_eq!(world.send(link, &format!("MAINT_ENTER|{sid}")), "MAINT_OK");
    }
    world.close(link);
    let link = world.connect(0);
    world.send(link, &format!("RECONNECT|{sid}"));
    world.send(link, &format!("ROUTE|{sid}|b.com|/|http://h:1"));
    let served = world.engine(0).served();
    assert_eq!(served.len(), 2);
    assert!(
        served
            .values()
            .flatten()
            .all(|offer| offer.session.maintenance)
    );
    for _ in 0..2 {
        assert_eq!(world.send(link, &format!("MAINT_EXIT|{sid}")), "MAINT_OK");
    }
    assert!(!world.stored(&sid).unwrap().maintenance);
}

#[test]
fn decision_12_header_values_are_printable() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, API);
    world.send(link, &format!("ROUTE|{sid}|a.com|/|http://h:1"));
    let reply = world.send(link, &format!("HEADER|{sid}|X-A|a\tb"));
    assert!(reply.starts_with("ERROR|Invalid header: "), "{reply}");
    assert_eq!(
        world.send(link, &format!("HEADER|{sid}|X-A|1")),
        "HEADER_OK"
    );
    // Earlier and later routes have it: it is the session's.
    world.send(link, &format!("ROUTE|{sid}|b.com|/|http://h:1"));
    let served = world.engine(0).served();
    assert!(
        served
            .values()
            .flatten()
            .all(|offer| offer.session.headers.len() == 1)
    );
}

#[test]
fn decision_15_what_the_store_does_not_take_in_time_is_undone() {
    for mood in [Mood::Away, Mood::Hung, Mood::Mute, Mood::Refusing] {
        let mut world = World::shared(2);
        let link = world.connect(0);
        let sid = world.register(link, API);
        let route = format!("ROUTE|{sid}|a.com|/|http://h:1");
        world.send(link, &route);
        let before = world.stored(&sid).unwrap();
        for line in [
            format!("ROUTE|{sid}|a.com|/|http://h:2"),
            format!("ROUTE|{sid}|b.com|/|http://h:1"),
            format!("HEADER|{sid}|X-A|1"),
            format!("OPTIONS|{sid}|timeout|1s"),
            format!("MAINT_ENTER|{sid}"),
            format!("SHUTDOWN|{sid}"),
        ] {
            world.mood = mood;
            let start = world.now.mono;
            assert_eq!(
                world.send(link, &line),
                "ERROR|Unavailable",
                "{mood:?} {line}"
            );
            assert!(world.now.mono - start <= super::ANSWER_WITHIN);
            assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
            world.pass(3);
            world.thaw();
            world.pass(70);
            let after = world.stored(&sid).unwrap();
            assert!(after.is_like(&before), "{mood:?} {line}: {after:?}");
            for replica in 0..2 {
                assert_eq!(
                    world.served(replica),
                    ["a.com/ -> http://h:1"],
                    "{mood:?} {line}"
                );
            }
            assert_eq!(world.engine(0).waiting_writes(), 0);
        }
        assert_eq!(world.send(link, &format!("MAINT_ENTER|{sid}")), "MAINT_OK");
        assert_eq!(world.send(link, &format!("SHUTDOWN|{sid}")), "GOODBYE");
        assert_eq!(world.count(), 0);
    }
}

#[test]
fn decision_15_a_register_that_was_not_answered_leaves_no_session() {
    for mood in [Mood::Away, Mood::Hung, Mood::Mute, Mood::Refusing] {
        let mut world = World::shared(2);
        let link = world.connect(0);
        world.mood = mood;
        let register = format!("REGISTER|{API}|0");
        assert_eq!(world.send(link, &register), "ERROR|Unavailable");
        world.pass(3);
        world.thaw();
        world.pass(70);
        assert_eq!(world.count(), 0, "{mood:?}");
        assert!(world.engine(0).is_empty() && world.engine(1).is_empty());
        // The client may send it again, on the same connection.
        world.register(link, API);
    }
}

#[test]
fn decision_15_sent_again_it_is_done_once() {
    for mood in [Mood::Away, Mood::Hung, Mood::Mute] {
        let mut world = World::alone();
        let link = world.connect(0);
        let sid = world.register(link, API);
        let route = format!("ROUTE|{sid}|a.com|/|http://h:1");
        world.mood = mood;
        assert_eq!(world.send(link, &route), "ERROR|Unavailable");
        assert_eq!(world.send(link, &route), "ERROR|Unavailable");
        world.thaw();
        assert_eq!(world.send(link, &route), "ROUTE_OK", "{mood:?}");
        world.pass(10);
        assert_eq!(world.served(0), ["a.com/ -> http://h:1"]);
        let added = world
            .lines()
            .iter()
            .filter(|line| line.contains("Route added"));
        assert_eq!(added.count(), 1);
    }
}

#[test]
fn decision_16_what_was_asked_before_the_end_is_carried_out() {
    let mut world = World::alone();
    let link = world.connect(0);
    world.ask(link, &format!("REGISTER|{API}|0"));
    world.close(link);
    world.write(0);
    assert_eq!(world.count(), 1);
    world.pass(59);
    assert_eq!(world.count(), 1);
    world.pass(2);
    assert_eq!(world.count(), 0);
}

#[test]
fn decision_17_the_log_tells_what_was_carried_out() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, "api-service|api-v2|9000");
    for line in [
        "ROUTE|SID|api.example.com|/v2|http://api-v2:9000",
        "ROUTE|SID|api.example.com|v2|http://api-v2:9000",
        "HEADER|SID|X-API-Version|2.0",
        "ROUTE|SID|api.example.com|/v2|http://api-v2:9000",
    ] {
        world.send(link, &line.replace("SID", &sid));
    }
    let (front, _) = sid.rsplit_once('-').unwrap();
    let route = "[registry] Route added: api-service at [api.example.com]/v2 -> http://api-v2:9000";
    assert_eq!(
        world.lines(),
        [
            &format!(
                "[registry] Service registered: api-service at api-v2:9000 (session: {front})"
            ),
            route,
            "[registry] Header added: X-API-Version = 2.0 for api-service",
            route,
        ]
    );
}

#[test]
fn the_log_tells_how_a_session_lives() {
    let mut world = World::alone();
    let link = world.connect(0);
    let sid = world.register(link, "api|h|9000");
    world.send(link, &format!("MAINT_ENTER|{sid}"));
    world.send(link, &format!("MAINT_EXIT|{sid}"));
    world.close(link);
    let link = world.connect(0);
    world.send(link, &format!("RECONNECT|{sid}"));
    world.send(link, &format!("SHUTDOWN|{sid}"));
    world.close(link);
    world.pass(1);
    let (front, _) = sid.rsplit_once('-').unwrap();
    let line = |what: &str| format!("[registry] {what}: api at h:9000 (session: {front})");
    assert_eq!(
        world.lines(),
        [
            line("Service registered"),
            line("Maintenance entered"),
            line("Maintenance left"),
            line("Connection lost") + ", kept for 60s",
            line("Session reconnected"),
            line("Session ended"),
        ]
    );
}
