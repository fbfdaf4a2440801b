use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::admin::list::TABLE;
use crate::admin::tests::{Answer, admin, ask};
use crate::listing::tests::Fixed;
use crate::session::serving::testing::session_with_page;

/// An admin port with these sessions.
fn with(sessions: Vec<Listed>) -> Admin {
    let mut admin = admin(Fixed::default());
    admin.sessions = Arc::new(move || Ok(sessions.clone()));
    admin
}

fn session(service: &str, second: u8, state: Life, silent: Option<u64>) -> Listed {
    let lines = [
        "ROUTE|s|a.com|/v2|http://h:9000",
        "ROUTE|s|b.com|/|http://h:9000",
        "HEADER|s|X-A|1",
        "OPTIONS|s|timeout|60s",
        "MAINT_ENTER|s",
    ];
    Listed {
        record: session_with_page(service, second, 9_001, &lines),
        state,
        silent: silent.map(Duration::from_secs),
    }
}

fn some() -> Vec<Listed> {
    vec![
        session("web", 3, Life::Connected, None),
        session("api", 2, Life::Silent, Some(12)),
        session("api", 1, Life::Superseded, Some(20)),
    ]
}

fn sessions(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, &*answer.kind), (200, "application/json"));
    let mut json: Value = serde_json::from_str(&answer.body).unwrap();
    serde_json::from_value(json["sessions"].take()).unwrap()
}

#[tokio::test]
async fn people_see_a_table() {
    let answer = ask(&with(some()), "/sessions", "*/*").await;
    assert_eq!((answer.status, &*answer.kind), (200, TEXT));
    let lines: Vec<Vec<&str>> = answer
        .body
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(lines[0], COLUMNS);
    assert_eq!(lines.len(), 4);
    let record = &some()[1].record;
    let instance = &record.registration.instance;
    let at = instance.host.with_port(instance.port.get());
    let holder = record.lease.holder.as_deref().unwrap_or("-");
    assert_eq!(
        lines[2],
        [
            "api",
            &at,
            "silent",
            "12s ago",
            "yes",
            "2",
            holder,
            "1970-01-01T00:00:02Z",
            &record.front
        ]
    );
    let states: Vec<_> = lines[1..].iter().map(|line| line[2]).collect();
    assert_eq!(states, ["superseded", "silent", "connected"]);
}

#[tokio::test]
async fn programs_get_all_but_the_id() {
    let answer = ask(&with(some()), "/sessions", "application/json").await;
    let all = sessions(&answer);
    assert_eq!(all.len(), 3);
    let one = &all[1];
    for (field, value) in [
        ("service", json!("api")),
        ("maintenance_port", json!(9_001)),
        ("session", json!(&*some()[1].record.front)),
        ("key", json!(some()[1].record.key)),
        ("state", json!("silent")),
        ("silent_seconds", json!(12.0)),
        ("registered", json!("1970-01-01T00:00:02Z")),
        ("maintenance", json!(true)),
        ("headers", json!([{"name": "X-A", "value": "1"}])),
        ("options", json!({"timeout_ms": 60_000})),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    let route = json!({"domain": "a.com", "path": "/v2", "backend": "http://h:9000"});
    assert_eq!(one["routes"][0], route);
    assert_eq!(all[2].get("silent_seconds"), None);
    let none = ask(&with(vec![]), "/sessions?format=json", "*/*").await;
    assert_eq!(none.body, "{\"sessions\":[]}\n");
}

#[tokio::test]
async fn filters_are_applied_together() {
    let admin = with(some());
    for (query, count) in [
        ("service=api", 2),
        ("state=silent", 1),
        ("service=web&state=silent", 0),
        ("service=none", 0),
        ("limit=2", 2),
    ] {
        let path = format!("/sessions?format=json&{query}");
        let answer = ask(&admin, &path, "*/*").await;
        assert_eq!(sessions(&answer).len(), count, "{query}");
    }
    for (query, mend) in [
        ("state=lost", "state must be connected, elsewhere, silent,"),
        ("limit=10001", "at most 10000 for a table"),
        ("servce=api", "servce"),
        ("format=xml", "table"),
    ] {
        let answer = ask(&admin, &format!("/sessions?{query}"), "*/*").await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(mend), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn many_are_cut_in_a_table_and_whole_in_json() {
    let count = 2 * PAGE + 1;
    let many = vec![session("api", 1, Life::Static, None); count];
    let admin = with(many);
    let table = ask(&admin, "/sessions", "*/*").await.body;
    assert_eq!(table.lines().count(), 1 + TABLE + 1);
    assert!(table.ends_with("or ask for ?format=json.\n"), "{table}");
    let json = ask(&admin, "/sessions", "application/json").await;
    assert_eq!(sessions(&json).len(), count);
}

#[tokio::test]
async fn that_there_are_none_to_list_is_said() {
    for (why, status, says) in [
        (Unlisted::Off, 404, "--session-listen"),
        (Unlisted::NotRead, 503, "not been read"),
    ] {
        let mut admin = admin(Fixed::default());
        admin.sessions = Arc::new(move || Err(why));
        let answer = ask(&admin, "/sessions", "*/*").await;
        assert_eq!(answer.status, status);
        assert!(answer.body.contains(says), "{}", answer.body);
    }
}
