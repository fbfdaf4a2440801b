use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;
use crate::admin::list::TABLE;
use crate::admin::tests::{Answer, admin, ask};
use crate::listing::tests::{Fixed, row};

fn rows(count: usize) -> Fixed {
    Fixed(
        (0..count)
            .map(|at| row("t", "n", &format!("c{at:06}")))
            .collect(),
    )
}

fn some() -> Fixed {
    let mut doubtful = row("one", "b", "c");
    doubtful.health = Health::Doubtful("released");
    doubtful.holder = None;
    doubtful.origin = None;
    doubtful.heard_ago = None;
    doubtful.stored = "pending";
    let mut odd = row("two words", "a", "c");
    odd.holder = Some("red\u{1b}[31m".into());
    odd.heard_ago = Some(Duration::from_secs(70));
    Fixed(vec![row("one", "a", "c"), doubtful, odd])
}

fn endpoints(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, &*answer.kind), (200, "application/json"));
    let mut json: Value = serde_json::from_str(&answer.body).unwrap();
    serde_json::from_value(json["endpoints"].take()).unwrap()
}

#[tokio::test]
async fn people_see_a_table() {
    let answer = ask(&admin(some()), "/endpoints", "*/*").await;
    assert_eq!((answer.status, &*answer.kind), (200, TEXT));
    assert_eq!(
        answer.body,
        "\
TUNNEL     NODE  CONNECTOR  NETWORK  ADDRESS         ORIGIN       HOLDER     HEALTH               HEARD     LEASE  STORED
one        a     c          tcp      10.42.0.100:80  10.42.0.100  replica-1  healthy              1.5s ago  60s    stored
one        b     c          tcp      10.42.0.100:80  -            -          doubtful (released)  -         60s    pending
two words  a     c          tcp      10.42.0.100:80  10.42.0.100  red\u{fffd}[31m   healthy              70s ago   60s    stored
"
    );
}

#[tokio::test]
async fn programs_get_json() {
    let admin = admin(some());
    let by_header = ask(&admin, "/endpoints", "application/json").await;
    assert_eq!(endpoints(&by_header).len(), 3);
    assert_eq!(endpoints(&by_header)[1]["reason"], "released");
    let by_query = ask(&admin, "/endpoints?format=json", "text/html").await;
    assert_eq!(by_query.body, by_header.body);
    let table = ask(&admin, "/endpoints?format=table", "application/json").await;
    assert_eq!(table.kind, TEXT);
    let none = ask(&admin, "/endpoints?format=json&tunnel=none", "*/*").await;
    assert_eq!(none.body, "{\"endpoints\":[]}\n");
}

#[tokio::test]
async fn filters_are_applied_together() {
    let admin = admin(some());
    for (query, count) in [
        ("tunnel=one", 2),
        ("node=a", 2),
        ("tunnel=one&node=a", 1),
        ("tunnel=two+words", 1),
        ("tunnel=two%20words&limit=5", 1),
        ("limit=2", 2),
        ("limit=0", 0),
    ] {
        let path = format!("/endpoints?format=json&{query}");
        let answer = ask(&admin, &path, "*/*").await;
        assert_eq!(endpoints(&answer).len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_wrong_query_is_refused() {
    let admin = admin(some());
    for (query, mend) in [
        ("tunnel=", "tunnel is missing or empty"),
        ("node=%00", "node has a character at byte 0"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        (
            "limit=10001",
            "at most 10000 for a table; ask for format=json",
        ),
        ("format=xml", "table"),
        ("tunel=one", "tunel"),
    ] {
        let answer = ask(&admin, &format!("/endpoints?{query}"), "*/*").await;
        assert_eq!(answer.status, 400, "{query}");
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(mend), "{query}: {error}");
    }
}

#[tokio::test]
async fn a_table_says_when_there_are_more() {
    let lines = |answer: &Answer| answer.body.lines().count();
    let exact = ask(&admin(rows(TABLE)), "/endpoints", "*/*").await;
    assert_eq!(lines(&exact), 1 + TABLE);
    let more = ask(&admin(rows(TABLE + 1)), "/endpoints", "*/*").await;
    assert_eq!(lines(&more), 1 + TABLE + 1);
    assert!(more.body.ends_with("or ask for ?format=json.\n"));
    let raised = ask(&admin(rows(TABLE + 1)), "/endpoints?limit=10000", "*/*").await;
    assert_eq!(lines(&raised), 1 + TABLE + 1);
    assert!(!raised.body.contains("?format"));
}

/// Notes how many rows are asked for.
struct Counting(Fixed, Arc<Mutex<Vec<usize>>>);

impl Listing for Counting {
    fn keys(&self, filter: &Filter) -> Vec<EndpointKey> {
        self.0.keys(filter)
    }

    fn rows(&self, keys: &[EndpointKey]) -> Vec<Row> {
        self.1.lock().push(keys.len());
        self.0.rows(keys)
    }
}

#[tokio::test]
async fn everything_is_listed_page_by_page() {
    let asked = Arc::default();
    let mut admin = admin(Fixed::default());
    admin.listing = Arc::new(Counting(rows(2 * PAGE + 1), Arc::clone(&asked)));
    let answer = ask(&admin, "/endpoints", "application/json").await;
    let endpoints = endpoints(&answer);
    assert_eq!(endpoints.len(), 2 * PAGE + 1);
    assert_eq!(endpoints[2 * PAGE]["connector"], "c001024");
    assert_eq!(*asked.lock(), [PAGE, PAGE, 1]);
    asked.lock().clear();
    ask(&admin, "/endpoints?limit=600", "application/json").await;
    assert_eq!(*asked.lock(), [PAGE, 600 - PAGE]);
}

#[tokio::test]
async fn pages_are_asked_for_as_they_are_read() {
    let asked = Arc::default();
    let listing = Counting(rows(3 * PAGE), Arc::clone(&asked));
    let pages = Pages::new(Arc::new(listing), &Filter::default(), usize::MAX);
    let mut chunks = json("endpoints", pages);
    for _ in 0..2 {
        futures::StreamExt::next(&mut chunks)
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(asked.lock().len(), 1, "the opening, and one page");
}
