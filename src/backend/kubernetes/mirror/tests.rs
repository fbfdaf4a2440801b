//! What a mirror does about an API server that ends, breaks, forgets or hangs.
//! Time is paused: waiting costs nothing.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::super::testing::{Asked, Server, object, pair, status};
use super::*;
use crate::backend::contract::record;
use crate::backend::kubernetes::{Kubernetes, Settings};
use crate::backend::{Backend as _, Stored};
use crate::kubernetes::reopen::REFUSALS;
use crate::record::{Kind, Record};
use crate::resources::TunnelEndpoint;

/// A mirror of endpoints, what it tells, and the server behind it.
struct Test {
    server: Server,
    changes: UnboundedReceiver<Change>,
    _tasks: JoinSet<()>,
}

fn follow(mut watch: BoxStream<'static, Result<Change, WatchError>>, server: Server) -> Test {
    let (tell, changes) = unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(change) = watch.next().await {
            let _gone = tell.send(change.unwrap());
        }
    });
    Test {
        server,
        changes,
        _tasks: tasks,
    }
}

impl Test {
    fn begin() -> Self {
        let (client, server) = pair();
        let api = Api::new(client, "gost".into());
        follow(mirror::<TunnelEndpoint>(api, Shared::new()), server)
    }

    /// Begins with an empty list of the version 10, and a watch from there.
    async fn begun() -> (Self, Asked) {
        let mut test = Self::begin();
        test.server.asked().await.list(10, &[]);
        assert_eq!(test.change().await, reset(&[], 10));
        let watch = test.server.asked().await;
        assert!(watch.is_watch_from(10));
        (test, watch)
    }

    async fn change(&mut self) -> Change {
        self.changes.recv().await.unwrap()
    }
}

fn some(revision: u64) -> Record {
    record("t", "c", u16::try_from(revision).unwrap())
}

fn stored(revision: u64) -> Stored {
    Stored {
        record: some(revision),
        revision: Revision(revision),
    }
}

fn reset(revisions: &[u64], revision: u64) -> Change {
    let all = revisions.iter().map(|revision| stored(*revision)).collect();
    Change::Reset(Kind::Endpoint, all, Revision(revision))
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_page_by_page() {
    let mut test = Test::begin();
    let first = test.server.asked().await;
    assert_eq!(
        first.what(),
        "GET /apis/tunnelregistry.io/v1alpha1/namespaces/gost/tunnelendpoints"
    );
    assert_eq!(first.query("limit").as_deref(), Some("500"));
    assert_eq!(first.query("resourceVersion"), None, "past every cache");
    let [a, b] = ["a", "b"].map(|connector| record("t", connector, 1));
    first.answer(
        200,
        &json!({
            "metadata": { "resourceVersion": "10", "continue": "more" },
            "items": [object(&a, 3)],
        }),
    );
    let second = test.server.asked().await;
    assert_eq!(second.query("continue").as_deref(), Some("more"));
    second.list(10, &[object(&b, 4)]);
    let Change::Reset(_, all, Revision(10)) = test.change().await else {
        panic!("no reset at 10")
    };
    assert_eq!(all.len(), 2);
    assert!(test.server.asked().await.is_watch_from(10));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let (mut test, watch) = Test::begun().await;
    assert_eq!(watch.query("allowWatchBookmarks").as_deref(), Some("true"));
    let seconds: u64 = watch.query("timeoutSeconds").unwrap().parse().unwrap();
    assert!((60..=120).contains(&seconds));
    let lines = watch.stream();
    lines.tell("ADDED", &object(&some(11), 11));
    assert_eq!(test.change().await, Change::Put(stored(11)));
    lines.tell(
        "BOOKMARK",
        &json!({ "metadata": { "resourceVersion": "15" } }),
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ended = Instant::now();
    drop(lines);
    let watch = test.server.asked().await;
    assert!(watch.is_watch_from(15), "bookmarks count");
    assert_eq!(ended.elapsed(), Duration::ZERO, "at once");
    let lines = watch.stream();
    lines.tell("DELETED", &object(&some(11), 16));
    let deleted = Change::Delete(some(11).key(), Revision(16));
    assert_eq!(test.change().await, deleted);
    // The last line was cut off.
    lines.raw("{\"type\":\"ADDED\",\"obj");
    drop(lines);
    assert!(test.server.asked().await.is_watch_from(16));
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_opened_ever_more_slowly() {
    let (mut test, mut watch) = Test::begun().await;
    let begun = Instant::now();
    for _ in 0..12 {
        drop(watch.stream());
        watch = test.server.asked().await;
        assert!(watch.is_watch_from(10));
    }
    // 0.1 + 0.2 + … + 6.4 + 5 × 10, give or take a quarter.
    let took = begun.elapsed().as_secs_f64();
    assert!((46.0..79.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_listed_again_and_the_other_kind_is_not() {
    let (client, server) = pair();
    let store = Kubernetes::new(Settings {
        client,
        namespace: "gost".into(),
        owner: None,
        sessions: false,
        services: false,
    });
    let mut test = follow(store.watch(), server);
    let is_lease = |asked: &Asked| asked.what().ends_with("/leases");
    let mut watches = Vec::new();
    let mut lists = [0, 0];
    while watches.len() < 2 {
        let asked = test.server.asked().await;
        if asked.is_list() {
            lists[usize::from(is_lease(&asked))] += 1;
            asked.list(10, &[]);
        } else {
            watches.push(asked);
        }
    }
    assert_eq!(lists, [1, 1]);
    for _ in &lists {
        assert!(matches!(test.change().await, Change::Reset(..)));
    }
    watches.sort_by_key(is_lease);
    let leases = watches.pop().unwrap();
    let selector = leases.query("labelSelector").unwrap();
    assert_eq!(selector, "tunnelregistry.io%2Fcomponent%3Dreplica");
    let endpoints = watches.pop().unwrap().stream();

    // Told in a watch, and as its answer.
    leases.stream().tell("ERROR", &status(410));
    for _ in 0..2 {
        let list = test.server.asked().await;
        assert!(is_lease(&list) && list.is_list());
        list.list(20, &[]);
        let again = Change::Reset(Kind::Replica, Vec::new(), Revision(20));
        assert_eq!(test.change().await, again);
        let watch = test.server.asked().await;
        assert!(is_lease(&watch) && watch.is_watch_from(20));
        watch.fail(410);
    }
    endpoints.tell("ADDED", &object(&some(30), 30));
    assert_eq!(test.change().await, Change::Put(stored(30)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_noticed() {
    let (mut test, watch) = Test::begun().await;
    let begun = Instant::now();
    // The watch is answered, and then nothing comes, not even its end.
    let hung = watch.stream();
    let unanswered = test.server.asked().await;
    assert!(unanswered.is_watch_from(10));
    assert!(begun.elapsed() <= Duration::from_secs(120 + 15 + 1));
    drop(hung);
    // Another one is not even answered.
    let begun = Instant::now();
    let watch = test.server.asked().await;
    assert!(watch.is_watch_from(10));
    assert!(begun.elapsed() <= Duration::from_secs(10 + 1));
    drop(unanswered);
    watch.stream().tell("ADDED", &object(&some(11), 11));
    assert_eq!(test.change().await, Change::Put(stored(11)));

    let mut test = Test::begin();
    let begun = Instant::now();
    let hung = test.server.asked().await;
    test.server.asked().await.list(10, &[]);
    assert_eq!(test.change().await, reset(&[], 10));
    assert!(begun.elapsed() <= Duration::from_secs(30 + 1));
    drop(hung);
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_list_again_and_refusals_do() {
    let (mut test, mut watch) = Test::begun().await;
    // Nobody there, and one who is not ready.
    for attempt in 0..20 {
        if attempt % 2 == 0 {
            drop(watch);
        } else {
            watch.fail(503);
        }
        watch = test.server.asked().await;
        assert!(watch.is_watch_from(10));
    }
    for refused in [true, true, false] {
        watch.fail(400);
        watch = test.server.asked().await;
        assert_eq!(watch.is_watch_from(10), refused);
    }
    assert!(watch.is_list());
    watch.list(20, &[]);
    assert_eq!(test.change().await, reset(&[], 20));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_made_again() {
    let mut test = Test::begin();
    for code in [403, 404, 410, 500] {
        test.server.asked().await.fail(code);
    }
    test.server.asked().await.list(10, &[]);
    assert_eq!(test.change().await, reset(&[], 10));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_does_not_hold_up_the_rest() {
    let (mut test, watch) = Test::begun().await;
    let lines = watch.stream();
    let mut wrong = object(&some(11), 11);
    wrong["spec"] = json!({ "tunnel": 7 });
    wrong["metadata"]["name"] = json!("somebody-elses");
    lines.tell("ADDED", &wrong);
    lines.tell("ADDED", &object(&some(12), 12));
    assert_eq!(test.change().await, Change::Put(stored(12)));
    // Of what was served and has no identity any more only a list can tell.
    let mut wrong = object(&some(13), 13);
    wrong["spec"] = json!({ "tunnel": 7 });
    lines.tell("MODIFIED", &wrong);
    let list = test.server.asked().await;
    assert!(list.is_list());
    list.list(13, &[wrong]);
    assert_eq!(test.change().await, reset(&[], 13));
    // A line that is no event: after some attempts, everything again.
    for line in ["<html>", r#"{"type":"ADDED","object":{}}"#] {
        for _ in 0..REFUSALS {
            let watch = test.server.asked().await;
            assert!(watch.is_watch_from(13), "{line}");
            watch.stream().raw(&format!("{line}\n"));
        }
        let list = test.server.asked().await;
        assert!(list.is_list(), "{line}");
        list.list(13, &[]);
        assert_eq!(test.change().await, reset(&[], 13));
    }
}
