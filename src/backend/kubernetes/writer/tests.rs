//! Which requests writes make. What the real API server makes of them is tested
//! in `tests/it/kube/store`.

use futures::StreamExt as _;
use http::Method;
use serde_json::json;

use super::super::testing::{Server, object, pair};
use super::super::{Kubernetes, Settings};
use super::*;
use crate::backend::contract::{instance, record, service, session};
use crate::backend::{Backend as _, Change};

const UID: &str = "db670b91-61a5-4f7c-8014-3bbe994446ea";

fn begin() -> (Kubernetes, Server) {
    let (client, server) = pair();
    let settings = Settings {
        client,
        namespace: "gost".into(),
        owner: None,
        sessions: false,
        services: false,
    };
    (Kubernetes::new(settings), server)
}

#[tokio::test(start_paused = true)]
async fn a_delete_names_the_object_that_was_met_at_that_revision() {
    let (store, mut server) = begin();
    let record = record("t", "c", 1);
    let mut met = object(&record, 7);
    met["metadata"]["uid"] = json!(UID);
    let mut watch = store.watch();
    let list = async {
        for _ in [Kind::Endpoint, Kind::Replica] {
            let asked = server.asked().await;
            let items = [met.clone()];
            let is_lease = asked.what().ends_with("/leases");
            asked.list(10, if is_lease { &[] } else { &items });
        }
    };
    let told = async {
        for _ in [Kind::Endpoint, Kind::Replica] {
            assert!(matches!(watch.next().await, Some(Ok(Change::Reset(..)))));
        }
    };
    futures::join!(list, told);
    for (revision, uid) in [(7, json!(UID)), (8, json!(null))] {
        let delete = store.write(Write::Delete(record.key(), Revision(revision)));
        let answer = async {
            let asked = server.asked().await;
            assert_eq!(asked.method(), Method::DELETE);
            assert!(asked.what().ends_with(&canonical_name(&record.key())));
            let (body, asked) = asked.body().await;
            let preconditions = &body["preconditions"];
            assert_eq!(preconditions["resourceVersion"], revision.to_string());
            assert_eq!(preconditions["uid"], uid);
            asked.answer(200, &json!({ "kind": "Status" }));
        };
        let (deleted, ()) = futures::join!(delete, answer);
        assert_eq!(deleted, Ok(Revision(revision + 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn revision_0_only_finds_out() {
    let (store, mut server) = begin();
    let record = record("t", "c", 1);
    for write in [
        Write::Delete(record.key(), Revision(0)),
        Write::Put(record.clone(), Revision(0)),
    ] {
        let write = store.write(write);
        let answer = async {
            let asked = server.asked().await;
            assert_eq!(asked.method(), Method::GET);
            asked.answer(200, &object(&record, 7));
        };
        let (written, ()) = futures::join!(write, answer);
        let stored = Stored {
            record: record.clone(),
            revision: Revision(7),
        };
        assert_eq!(written, Err(WriteError::Conflict(Some(Box::new(stored)))));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_refused_and_not_asked_for() {
    let (store, _server) = begin();
    for record in [session("h", 1), service("s", 1), instance("s", "h", 1)] {
        assert!(!store.keeps(record.kind()));
        let written = store.write(Write::Create(record)).await;
        assert!(
            matches!(&written, Err(WriteError::Refused(why)) if why.contains("--services")),
            "{written:?}"
        );
    }
}
