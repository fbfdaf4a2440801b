//! What the watch tells of objects, and what becomes of it.

use serde_json::json;

use super::*;
use crate::registry::testing::{key, record};

/// The object of node "n", at a version; with a name of its own, if any.
fn object(name: Option<&str>, version: u64) -> DynamicObject {
    let mut object = TunnelEndpoint::from_record(&record("t", "n", "c")).unwrap();
    if let Some(name) = name {
        object.metadata.name = Some(name.into());
    }
    object.metadata.resource_version = Some(version.to_string());
    object.metadata.generation = Some(3);
    object.metadata.uid = Some(Uuid::from_u128(version.into()).to_string());
    serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
}

/// Revisions of what was put, or 0 for a delete.
fn told(news: &News) -> Vec<u64> {
    let changes = news.changes.iter();
    changes
        .map(|change| match change {
            Change::Put(stored) => stored.revision.0,
            Change::Delete(..) => 0,
            Change::Reset(..) => panic!("{change:?}"),
        })
        .collect()
}

fn served(objects: &Objects) -> Option<(String, u64)> {
    let (name, object) = objects.served(&key("t", "n", "c"))?;
    Some((name, object.revision.0))
}

#[test]
fn an_object_is_told_and_found() {
    let mut objects = Objects::default();
    let news = objects.put(&object(None, 7));
    assert_eq!(told(&news), [7]);
    assert_eq!(news.touched, [key("t", "n", "c")]);
    let usual = object_name(&key("t", "n", "c"));
    assert_eq!(served(&objects), Some((usual, 7)));
    let (_, met) = objects.served(&key("t", "n", "c")).unwrap();
    assert_eq!((met.generation, met.uid), (3, Some(Uuid::from_u128(7))));
    assert_eq!(objects.keys().count(), 1);
    assert_eq!(told(&objects.gone(&object(None, 8))), [0]);
    assert_eq!(served(&objects), None);
}

#[test]
fn of_several_with_one_identity_one_is_served() {
    let mut objects = Objects::default();
    assert_eq!(told(&objects.put(&object(Some("b"), 1))), [1]);
    let news = objects.put(&object(Some("c"), 2));
    assert!(news.changes.is_empty());
    assert_eq!(news.problems[0].name, "c");
    assert!(news.problems[0].is_duplicate);
    assert!(news.problems[0].text.contains("identity as b"));
    assert!(objects.put(&object(Some("c"), 3)).problems.is_empty());
    // The usual one goes before.
    let news = objects.put(&object(None, 4));
    assert_eq!(told(&news), [4]);
    assert_eq!(news.problems.len(), 2);
    assert_eq!(objects.keys().count(), 1);
    // When it goes the next comes.
    assert_eq!(told(&objects.gone(&object(None, 5))), [0, 1]);
    assert_eq!(served(&objects), Some(("b".into(), 1)));
    assert_eq!(objects.problems().len(), 1);
    assert!(objects.gone(&object(Some("c"), 6)).changes.is_empty());
    assert_eq!(objects.problems().len(), 0);
}

#[test]
fn what_cannot_be_read_is_told_once() {
    let mut objects = Objects::default();
    objects.put(&object(None, 1));
    let mut wrong = object(None, 2);
    wrong.data["spec"]["address"] = json!("nowhere");
    let news = objects.put(&wrong);
    assert_eq!(told(&news), [0], "it is no longer served");
    assert!(news.problems[0].text.contains("spec.address"));
    assert!(objects.put(&wrong).problems.is_empty());
    wrong.data["spec"] = json!(7);
    let news = objects.put(&wrong);
    assert!(news.problems[0].text.starts_with("spec cannot be read"));
    assert_eq!(told(&objects.put(&object(None, 3))), [3]);
    assert_eq!(objects.problems().len(), 0);
}

#[test]
fn an_object_that_is_being_deleted_is_gone() {
    let mut objects = Objects::default();
    objects.put(&object(None, 1));
    let mut going = object(None, 2);
    let time = serde_json::from_value(json!("2026-07-01T12:00:00Z")).unwrap();
    going.metadata.deletion_timestamp = Some(time);
    assert_eq!(told(&objects.put(&going)), [0]);
    assert!(objects.gone(&going).changes.is_empty());
}

#[test]
fn what_a_list_does_not_have_is_gone() {
    let mut objects = Objects::default();
    objects.put(&object(None, 1));
    objects.put(&object(Some("other"), 2));
    objects.begin();
    assert!(objects.put(&object(Some("other"), 2)).changes.is_empty());
    assert_eq!(told(&objects.listed()), [0, 2]);
    objects.begin();
    assert_eq!(told(&objects.listed()), [0]);
    assert_eq!((objects.keys().count(), objects.problems().len()), (0, 0));
}

#[test]
fn a_status_is_read_as_far_as_it_can_be() {
    let mut objects = Objects::default();
    let mut with_status = object(None, 1);
    with_status.data["status"] = json!({ "observedGeneration": 3, "conditions": [] });
    objects.put(&with_status);
    let said = |objects: &Objects| {
        let (_, object) = objects.served(&key("t", "n", "c")).unwrap();
        object.said.clone()
    };
    assert_ne!(said(&objects), Said::default());
    with_status.data["status"] = json!("well");
    assert_eq!(told(&objects.put(&with_status)), [1]);
    assert_eq!(said(&objects), Said::default());
}
