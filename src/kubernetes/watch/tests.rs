//! What the watch makes of an API server that pages, ends, breaks and forgets.

use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::*;
use crate::backend::kubernetes::testing::{Server, pair, status};
use crate::kubernetes::reopen::REFUSALS;
use crate::resources::TunnelEndpoint;

type Stream = BoxStream<'static, Result<Told<DynamicObject>, Broken>>;

fn start() -> (Stream, Server) {
    let (client, server) = pair();
    let resource = ApiResource::erase::<TunnelEndpoint>(&());
    let api = Api::namespaced_with(client, "ns", &resource);
    (watch::<DynamicObject>(api).boxed(), server)
}

fn object(name: &str, version: u64) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": version.to_string() } })
}

/// What is told next, in short.
async fn next(told: &mut Stream) -> String {
    let name = |object: DynamicObject| object.metadata.name.unwrap();
    match told.next().await.unwrap() {
        Ok(Told::Begin) => "begin".into(),
        Ok(Told::Put(object)) => format!("put {}", name(object)),
        Ok(Told::Gone(object)) => format!("gone {}", name(object)),
        Ok(Told::Listed) => "listed".into(),
        Ok(Told::Sign) => "sign".into(),
        Err(broken) if broken.is_forbidden => "forbidden".into(),
        Err(_) => "broken".into(),
    }
}

/// Told to begin, one object, and that this was all, at version 5.
async fn begun() -> (Stream, Server) {
    let (mut told, mut server) = start();
    let list = async { server.asked().await.list(5, &[object("a", 3)]) };
    let (first, ()) = tokio::join!(next(&mut told), list);
    assert_eq!(first, "begin");
    assert_eq!(next(&mut told).await, "put a");
    assert_eq!(next(&mut told).await, "listed");
    (told, server)
}

#[tokio::test(start_paused = true)]
async fn pages_are_put_together() {
    let (mut told, mut server) = start();
    let pages = async {
        let asked = server.asked().await;
        assert!(asked.is_list() && asked.query("continue").is_none());
        let metadata = json!({ "resourceVersion": "5", "continue": "more" });
        asked.answer(
            200,
            &json!({ "metadata": metadata, "items": [object("a", 1)] }),
        );
        let asked = server.asked().await;
        assert_eq!(asked.query("continue").as_deref(), Some("more"));
        asked.list(5, &[object("b", 2)]);
    };
    let hear = async {
        for expected in ["begin", "put a", "put b", "listed"] {
            assert_eq!(next(&mut told).await, expected);
        }
    };
    tokio::join!(pages, hear);
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_and_a_watch_that_ends_goes_on_where_it_was() {
    let (mut told, mut server) = begun().await;
    let serve = async {
        let asked = server.asked().await;
        assert!(asked.is_watch_from(5));
        assert_eq!(asked.query("allowWatchBookmarks").as_deref(), Some("true"));
        let lines = asked.stream();
        lines.tell("ADDED", &object("b", 6));
        lines.tell("DELETED", &object("a", 7));
        drop(lines);
        let asked = server.asked().await;
        assert!(asked.is_watch_from(7));
        let lines = asked.stream();
        let mut bookmark = object("", 9);
        bookmark["kind"] = "TunnelEndpoint".into();
        bookmark["apiVersion"] = "tunnelregistry.io/v1alpha1".into();
        lines.tell("BOOKMARK", &bookmark);
        drop(lines);
        assert!(server.asked().await.is_watch_from(9));
    };
    let hear = async {
        for expected in ["sign", "put b", "gone a", "sign", "sign", "broken"] {
            assert_eq!(next(&mut told).await, expected);
        }
    };
    tokio::join!(serve, hear);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_forgotten_makes_it_list_again() {
    let (mut told, mut server) = begun().await;
    let serve = async {
        let lines = server.asked().await.stream();
        lines.tell("ERROR", &status(410));
        drop(lines);
        let asked = server.asked().await;
        assert!(asked.is_list());
        asked.list(8, &[]);
        assert!(server.asked().await.is_watch_from(8));
    };
    let hear = async {
        for expected in ["sign", "broken", "begin", "listed", "broken"] {
            assert_eq!(next(&mut told).await, expected);
        }
    };
    tokio::join!(serve, hear);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_again_and_again_lists() {
    let (mut told, mut server) = begun().await;
    let serve = async {
        for _ in 0..REFUSALS {
            let asked = server.asked().await;
            assert!(asked.is_watch_from(5));
            asked.fail(400);
        }
        assert!(server.asked().await.is_list());
    };
    let hear = async {
        for _ in 0..=REFUSALS {
            assert_eq!(next(&mut told).await, "broken");
        }
    };
    tokio::join!(serve, hear);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_forgets_nothing() {
    let (mut told, mut server) = begun().await;
    let serve = async {
        for _ in 0..2 * REFUSALS {
            server.asked().await.fail(503);
        }
        assert!(server.asked().await.is_watch_from(5));
    };
    let hear = async {
        for _ in 0..=2 * REFUSALS {
            assert_eq!(next(&mut told).await, "broken");
        }
    };
    tokio::join!(serve, hear);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_told_as_that() {
    let (mut told, mut server) = start();
    let refuse = async { server.asked().await.fail(403) };
    let (first, ()) = tokio::join!(next(&mut told), refuse);
    assert_eq!(first, "forbidden");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_opened_again() {
    let (mut told, mut server) = begun().await;
    let serve = async {
        let lines = server.asked().await.stream();
        let asked = server.asked().await;
        drop(lines);
        assert!(asked.is_watch_from(5));
    };
    let hear = async {
        for expected in ["sign", "broken", "broken"] {
            assert_eq!(next(&mut told).await, expected);
        }
    };
    tokio::join!(serve, hear);
}
