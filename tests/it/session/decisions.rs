//! What was decided of the protocol, by number, on every store that a process
//! has for itself.

use std::fs;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tunnel_registry::session::engine::view::State;

use crate::process::until;
use crate::session::env::{Client, Env, REGISTER, SOON};

const ROUTE_OK: &str = "ROUTE_OK";

#[tokio::test]
async fn decision_1_silence_is_no_reason_to_close_a_connection_with_a_session() {
    for env in Env::each(|plan| plan.config.limits.idle = SOON).await {
        // On a slow machine the first ones may be too late.
        let (mut client, sid) = loop {
            let mut client = env.client().await;
            if client
                .0
                .write_all(format!("{REGISTER}\n").as_bytes())
                .await
                .is_ok()
                && let Some(reply) = client.line().await
            {
                break (client, reply.strip_prefix("ACK|").unwrap().to_owned());
            }
        };
        // Those that came later have been closed for their silence.
        for _ in 0..5 {
            env.client().await.ended().await;
        }
        client.gets(&format!("MAINT_ENTER|{sid}"), "MAINT_OK").await;
        assert_eq!(env.state(&sid), Some(State::Connected));
    }
}

/// The timer of the server's side of a connection, as the kernel tells it: which
/// one, and when it is due, in hundredths of a second.
fn timer(server: SocketAddr, client: SocketAddr) -> (u8, u64) {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let [server, client] = [server, client].map(|at| format!(":{:04X}", at.port()));
    let line = sockets.lines().find(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&server) && fields[2].ends_with(&client)
    });
    let timer = line.unwrap().split_whitespace().nth(5).unwrap();
    let (kind, due) = timer.split_once(':').unwrap();
    (kind.parse().unwrap(), u64::from_str_radix(due, 16).unwrap())
}

#[tokio::test]
async fn decision_1_a_silent_host_is_asked_for_after_30_s() {
    const KEEPALIVE: u8 = 2;
    let env = Env::one(|_| {}).await;
    let (client, _) = env.registered().await;
    let at = client.0.local_addr().unwrap();
    // Until then it waits for the reply to be acknowledged.
    let due = until("keepalive is what is waited for", async || {
        match timer(env.address, at) {
            (KEEPALIVE, due) => Ok(due),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!((1..=3_000).contains(&due), "{due}");
}

#[tokio::test]
async fn decision_2_a_line_that_is_not_ended_in_time_ends_the_connection() {
    for env in Env::each(|plan| plan.config.limits.line = SOON).await {
        let (mut client, sid) = env.registered().await;
        client.send("VALIDATE|").await;
        assert_eq!(client.line().await.as_deref(), Some("ERROR|Read timeout"));
        client.ended().await;
        env.until(&sid, Some(State::Silent)).await;
        env.closed("read_timeout", 1).await;
        let mut client = env.client().await;
        client.gets(&format!("RECONNECT|{sid}"), "OK").await;
        // The time of a line that is too long runs as well.
        client.send("x".repeat(10_000)).await;
        assert_eq!(client.line().await.as_deref(), Some("ERROR|Read timeout"));
        client.ended().await;
    }
}

#[tokio::test]
async fn decision_3_ids_cannot_be_guessed_and_do_not_collide() {
    for env in Env::each(|_| {}).await {
        let (_one, first) = env.registered().await;
        let (_other, second) = env.registered().await;
        assert_ne!(first, second);
        for sid in [first, second] {
            let parts: Vec<&str> = sid.rsplitn(4, '-').collect();
            let [random, time, port, host] = parts[..] else {
                panic!("{} parts", parts.len());
            };
            assert_eq!((host, port), ("api-v2", "9000"));
            assert!(time.parse::<u64>().unwrap() > 1_700_000_000, "{time}");
            assert_eq!(random.len(), 32);
            assert!(random.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}

#[tokio::test]
async fn decision_4_an_id_is_taken_from_any_connection_and_is_kept_nowhere() {
    for env in Env::each(|_| {}).await {
        let (_client, sid) = env.registered().await;
        let mut other = env.client().await;
        let route = format!("ROUTE|{sid}|a.com|/|http://h:1");
        other.gets(&route, ROUTE_OK).await;
        let guessed = format!("{}0", &sid[..sid.len() - 1]);
        let wrong = if guessed == sid {
            format!("{sid}0")
        } else {
            guessed
        };
        let validate = format!("VALIDATE|{wrong}");
        other.gets(&validate, "ERROR|Invalid session").await;
        let secret = &sid[sid.len() - 32..];
        let shown = format!("{:?}", env.sessions);
        assert!(shown.contains("api-v2") && !shown.contains(secret));
        assert!(!env.metrics.encode().unwrap().contains(secret));
        for file in fs::read_dir(env.folder.path()).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let holds = |text: &str| {
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            assert!(holds("api-v2-9000") && !holds(secret));
        }
    }
}

#[tokio::test]
async fn decision_5_a_connection_registers_once_but_anew_when_it_is_told_to() {
    for env in Env::each(|_| {}).await {
        let (mut client, _) = env.registered().await;
        client.gets(REGISTER, "ERROR|Already registered").await;
        client.gets("RECONNECT|gone", "REREGISTER").await;
        client.register(REGISTER).await;
        client.gets(REGISTER, "ERROR|Already registered").await;
    }
}

#[tokio::test]
async fn decision_6_the_same_instance_supersedes_what_it_had() {
    for env in Env::each(|plan| plan.setup.grace = SOON * 100).await {
        let (mut old, first) = env.registered().await;
        for place in ["a.com|/|http://old", "b.com|/|http://old"] {
            old.gets(&format!("ROUTE|{first}|{place}"), ROUTE_OK).await;
        }
        let (mut new, second) = env.registered().await;
        assert_eq!(env.state(&first), Some(State::Superseded));
        let validate = format!("VALIDATE|{first}");
        old.gets(&validate, "ERROR|Invalid session").await;
        old.gets(&format!("RECONNECT|{first}"), "REREGISTER").await;
        assert_eq!(
            env.served(),
            ["a.com/ -> http://old", "b.com/ -> http://old"]
        );
        let route = format!("ROUTE|{second}|a.com|/|http://new");
        new.gets(&route, ROUTE_OK).await;
        assert_eq!(
            env.served(),
            ["a.com/ -> http://new", "b.com/ -> http://old"]
        );
        env.until(&first, None).await;
        assert_eq!(env.served(), ["a.com/ -> http://new"]);
        assert_eq!(env.state(&second), Some(State::Connected));
    }
}

#[tokio::test]
async fn decision_7_the_newest_connection_keeps_a_session() {
    for env in Env::each(|plan| plan.setup.grace = SOON).await {
        let (old, sid) = env.registered().await;
        let mut new = env.client().await;
        new.gets(&format!("RECONNECT|{sid}"), "OK").await;
        drop(old);
        env.closed("peer", 1).await;
        assert_eq!(env.state(&sid), Some(State::Connected));
        // One that is lost goes, so the grace would have been over.
        let mut lost = env.client().await;
        let gone = lost.register("REGISTER|other|h|1|0").await;
        drop(lost);
        env.until(&gone, None).await;
        assert_eq!(env.state(&sid), Some(State::Connected));
        drop(new);
        env.until(&sid, None).await;
    }
}

#[tokio::test]
async fn decision_8_routes_take_effect_at_once_replace_balance_and_conflict() {
    for env in Env::each(|_| {}).await {
        let (mut client, sid) = env.registered().await;
        let route = |sid: &str, to: &str| format!("ROUTE|{sid}|a.com|/v2|{to}");
        client.gets(&route(&sid, "http://one:1"), ROUTE_OK).await;
        assert_eq!(env.served(), ["a.com/v2 -> http://one:1"]);
        client.gets(&route(&sid, "http://one:2"), ROUTE_OK).await;
        assert_eq!(env.served(), ["a.com/v2 -> http://one:2"]);
        let mut second = env.client().await;
        let other = second.register("REGISTER|api-service|api-v2|9002|0").await;
        second.gets(&route(&other, "http://two:1"), ROUTE_OK).await;
        assert_eq!(env.served(), ["a.com/v2 -> http://one:2, http://two:1"]);
        let mut third = env.client().await;
        let rival = third.register("REGISTER|web|w|80|0").await;
        let reply = third.ask(&route(&rival, "http://three:1")).await;
        assert_eq!(
            reply,
            "ERROR|Route conflict: a.com/v2 is served by api-service"
        );
        client.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;
        client.ended().await;
        env.closed("goodbye", 1).await;
        assert_eq!(env.served(), ["a.com/v2 -> http://two:1"]);
    }
}

#[tokio::test]
async fn decision_9_fields_are_normalised_and_have_bounds() {
    for env in Env::each(|_| {}).await {
        let (mut client, sid) = env.registered().await;
        let route = format!("ROUTE|{sid}| A.com , *.B.com |/|https://h");
        client.gets(&route, ROUTE_OK).await;
        assert_eq!(
            env.served(),
            ["*.b.com/ -> https://h", "a.com/ -> https://h"]
        );
        let mut other = env.client().await;
        for ports in ["0|0", "65536|0", "http|0", "1|65536"] {
            let register = format!("REGISTER|a|h|{ports}");
            other.gets(&register, "ERROR|Invalid port").await;
        }
        for rest in ["a..com|/|http://h", "a.com|x|http://h", "a.com|/|ftp://h"] {
            let reply = client.ask(&format!("ROUTE|{sid}|{rest}")).await;
            assert!(reply.starts_with("ERROR|Invalid route: "), "{reply}");
        }
        let none = env
            .session(&sid)
            .unwrap()
            .record
            .registration
            .maintenance_port;
        assert_eq!(none.unwrap().get(), 9001);
        let sid = other.register("REGISTER|a|h|1|0").await;
        let none = env
            .session(&sid)
            .unwrap()
            .record
            .registration
            .maintenance_port;
        assert_eq!(none, None);
    }
}

#[tokio::test]
async fn decision_10_options_are_known_and_valid() {
    for env in Env::each(|_| {}).await {
        let (mut client, sid) = env.registered().await;
        for option in [
            "timeout|60s",
            "websocket|true",
            "max_body_size|10MB",
            "weight|10",
        ] {
            let command = format!("OPTIONS|{sid}|{option}");
            client.gets(&command, "OPTIONS_OK").await;
        }
        for option in ["timeout|soon", "colour|red", "weight|1001"] {
            let reply = client.ask(&format!("OPTIONS|{sid}|{option}")).await;
            assert!(reply.starts_with("ERROR|Invalid option: "), "{reply}");
        }
        let options = env.session(&sid).unwrap().record.options.clone();
        assert_eq!(
            (options.timeout_ms, options.weight),
            (Some(60_000), Some(10))
        );
    }
}

#[tokio::test]
async fn decision_11_maintenance_outlasts_a_connection() {
    for env in Env::each(|_| {}).await {
        let (mut client, sid) = env.registered().await;
        for _ in 0..2 {
            client.gets(&format!("MAINT_ENTER|{sid}"), "MAINT_OK").await;
        }
        drop(client);
        env.until(&sid, Some(State::Silent)).await;
        let mut client = env.client().await;
        client.gets(&format!("RECONNECT|{sid}"), "OK").await;
        let route = format!("ROUTE|{sid}|a.com|/|http://h");
        client.gets(&route, ROUTE_OK).await;
        assert!(env.session(&sid).unwrap().record.maintenance);
        for _ in 0..2 {
            client.gets(&format!("MAINT_EXIT|{sid}"), "MAINT_OK").await;
        }
        assert!(!env.session(&sid).unwrap().record.maintenance);
    }
}

#[tokio::test]
async fn decision_12_lines_may_end_with_cr_and_be_blank() {
    for env in Env::each(|_| {}).await {
        let mut client = env.client().await;
        client.send("\r\n\n  \nVALIDATE|x\r\n\n").await;
        let reply = client.line().await;
        assert_eq!(reply.as_deref(), Some("ERROR|Invalid session"));
        client.gets("validate|x", "ERROR|Unknown command").await;
        client.gets("VALIDATE|\0", "ERROR|Invalid format").await;
        client.gets("VALIDATE", "ERROR|Invalid format").await;
        let sid = client.register(REGISTER).await;
        for value in ["a\rb", "a\0b"] {
            let header = format!("HEADER|{sid}|X-A|{value}");
            client.gets(&header, "ERROR|Invalid format").await;
        }
        let reply = client.ask(&format!("HEADER|{sid}|X-A|a\tb")).await;
        assert!(reply.starts_with("ERROR|Invalid header: "), "{reply}");
        assert!(env.session(&sid).unwrap().record.headers.is_empty());
    }
}

#[tokio::test]
async fn decision_13_an_over_long_line_is_passed_over() {
    for env in Env::each(|_| {}).await {
        let mut client = env.client().await;
        let long = "x".repeat(100_000);
        client.gets(&long, "ERROR|Line too long").await;
        let just = format!("VALIDATE|{}", "x".repeat(8_192 - "VALIDATE|".len()));
        client.gets(&just, "ERROR|Invalid session").await;
        client
            .gets(&format!("{just}x"), "ERROR|Line too long")
            .await;
        client.register(REGISTER).await;
    }
}

#[tokio::test]
async fn decision_14_pipelined_commands_are_answered_in_order_and_nothing_else_is_sent() {
    for env in Env::each(|_| {}).await {
        let (mut client, sid) = env.registered().await;
        let mut commands = String::new();
        for number in 0..20 {
            commands += &format!("ROUTE|{sid}|a.com|/{number}|http://h\n");
            commands += &format!("HEADER|{sid}|X-A|{number}\nVALIDATE|x\nOPTIONS|{sid}|http2|1\n");
        }
        commands += &format!("SHUTDOWN|{sid}\nVALIDATE|after\n");
        client.send(commands).await;
        for _ in 0..20 {
            for reply in [
                "ROUTE_OK",
                "HEADER_OK",
                "ERROR|Invalid session",
                "OPTIONS_OK",
            ] {
                assert_eq!(client.line().await.as_deref(), Some(reply));
            }
        }
        assert_eq!(client.line().await.as_deref(), Some("GOODBYE"));
        client.ended().await;
    }
}

#[tokio::test]
async fn decision_15_what_the_store_does_not_take_in_time_is_undone() {
    let env = Env::hanging(|_| {}).await;
    let (mut client, sid) = env.registered().await;
    env.hangs.send_replace(true);
    let route = format!("ROUTE|{sid}|a.com|/|http://h");
    client.gets(&route, "ERROR|Unavailable").await;
    assert!(env.served().is_empty());
    env.hangs.send_replace(false);
    let header = format!("HEADER|{sid}|X-A|1");
    until("the store answers", async || {
        (client.ask(&header).await == "HEADER_OK").then_some(())
    })
    .await;
    assert!(env.served().is_empty());
    assert_eq!(
        env.metric("tunnel_registry_session_commands_given_up_total"),
        1
    );
}

#[tokio::test]
async fn decision_16_a_half_closed_connection_is_answered_and_then_lost() {
    for env in Env::each(|_| {}).await {
        let (mut client, sid) = env.registered().await;
        let commands = format!("MAINT_ENTER|{sid}\nVALIDATE|x\nSHUTDOWN|{sid}");
        client.send(commands).await;
        client.0.shutdown().await.unwrap();
        for reply in ["MAINT_OK", "ERROR|Invalid session"] {
            assert_eq!(client.line().await.as_deref(), Some(reply));
        }
        client.ended().await;
        env.until(&sid, Some(State::Silent)).await;
        let mut again: Client<_> = env.client().await;
        again.gets(&format!("RECONNECT|{sid}"), "OK").await;
    }
}
