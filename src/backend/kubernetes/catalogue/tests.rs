//! Objects with usual and other names, alone and in each other's way.

use super::*;
use crate::backend::contract;
use crate::record::Record;

fn record(port: u16) -> Record {
    contract::record("t", "c", port)
}

fn key() -> Key {
    record(1).key()
}

fn usual() -> String {
    canonical_name(&key())
}

fn seen(name: &str, revision: u64, found: Found) -> Seen {
    Seen {
        name: name.into(),
        uid: Some(Uuid::from_u128(revision.into())),
        revision: Revision(revision),
        key: Some(key()),
        found,
    }
}

fn put(name: &str, revision: u64) -> Seen {
    let port = u16::try_from(revision).unwrap();
    seen(name, revision, Found::Record(record(port)))
}

fn malformed(name: &str, revision: u64) -> Seen {
    seen(name, revision, Found::Malformed("wrong".into()))
}

fn told(revision: u64) -> Change {
    Change::Put(put("", revision).stored().unwrap())
}

fn gone(revision: u64) -> Change {
    Change::Delete(key(), Revision(revision))
}

fn catalogue() -> Catalogue {
    Catalogue::new(Kind::Endpoint)
}

fn problems(catalogue: &mut Catalogue) -> Vec<String> {
    let all = catalogue.problems().all();
    all.map(|problem| problem.name.clone()).collect()
}

#[test]
fn a_usual_object_comes_changes_and_goes() {
    let mut all = catalogue();
    let place = all.place(&key());
    assert_eq!(
        (place.name, place.is_usual, place.version),
        (usual(), true, None)
    );
    assert_eq!(all.changed(put(&usual(), 1)), Ok(vec![told(1)]));
    assert_eq!(all.changed(put(&usual(), 2)), Ok(vec![told(2)]));
    let version = all.place(&key()).version.unwrap();
    assert_eq!(version.revision, Revision(2));
    assert_eq!(version.uid, Some(Uuid::from_u128(2)));
    assert_eq!(all.deleted(&put(&usual(), 3)), Ok(vec![gone(3)]));
    assert_eq!(all.place(&key()).version, None);
    assert_eq!(all.deleted(&put(&usual(), 3)), Ok(vec![]), "known no more");
}

#[test]
fn an_object_with_another_name_is_served_and_found() {
    let mut all = catalogue();
    assert_eq!(all.changed(put("mine", 1)), Ok(vec![told(1)]));
    let place = all.place(&key());
    assert_eq!((&*place.name, place.is_usual), ("mine", false));
    assert_eq!(place.version.unwrap().revision, Revision(1));
    assert_eq!(all.deleted(&put("mine", 2)), Ok(vec![gone(2)]));
    assert_eq!(all.place(&key()).name, usual());
}

#[test]
fn of_two_with_one_identity_the_usual_name_wins() {
    let mut all = catalogue();
    all.changed(put("mine", 1)).unwrap();
    assert_eq!(all.changed(put(&usual(), 2)), Ok(vec![told(2)]));
    assert_eq!(problems(&mut all), ["mine"]);
    assert_eq!(all.place(&key()).name, usual());
    assert_eq!(all.changed(put("mine", 3)), Ok(vec![]), "not served");
    assert_eq!(all.deleted(&put(&usual(), 4)), Ok(vec![gone(4), told(3)]));
    assert_eq!(problems(&mut all), [""; 0]);
    assert_eq!(all.place(&key()).name, "mine");
}

#[test]
fn of_others_with_one_identity_the_least_name_wins() {
    let mut all = catalogue();
    assert_eq!(all.changed(put("b", 1)), Ok(vec![told(1)]));
    assert_eq!(all.changed(put("c", 2)), Ok(vec![]));
    assert_eq!(all.changed(put("a", 3)), Ok(vec![told(3)]));
    assert_eq!(problems(&mut all), ["b", "c"]);
    assert_eq!(all.deleted(&put("b", 4)), Ok(vec![]));
    assert_eq!(problems(&mut all), ["c"]);
    assert_eq!(all.deleted(&put("a", 5)), Ok(vec![gone(5), told(2)]));
    assert_eq!(all.deleted(&put("c", 6)), Ok(vec![gone(6)]));
    assert!(all.others.is_empty() && all.identities.is_empty() && all.versions.is_empty());
}

#[test]
fn what_becomes_unreadable_is_gone_until_it_is_mended() {
    let mut all = catalogue();
    all.changed(put(&usual(), 1)).unwrap();
    assert_eq!(all.changed(malformed(&usual(), 2)), Ok(vec![gone(2)]));
    assert_eq!(problems(&mut all), [usual()]);
    assert_eq!(all.changed(malformed(&usual(), 3)), Ok(vec![]));
    assert_eq!(all.problems().take_news().len(), 1, "told once");
    assert_eq!(all.changed(put(&usual(), 4)), Ok(vec![told(4)]));
    assert_eq!(problems(&mut all), [""; 0]);
    // A stranger's, that never could be read.
    assert_eq!(all.changed(malformed("x", 5)), Ok(vec![]));
    assert_eq!(problems(&mut all), ["x"]);
    assert_eq!(all.deleted(&malformed("x", 6)), Ok(vec![]));
    assert_eq!(problems(&mut all), [""; 0]);
}

#[test]
fn what_is_being_deleted_is_gone() {
    let mut all = catalogue();
    all.changed(put(&usual(), 1)).unwrap();
    let going = seen(&usual(), 2, Found::Terminating);
    assert_eq!(all.changed(going.clone()), Ok(vec![gone(2)]));
    assert_eq!(all.deleted(&going), Ok(vec![]));
    assert_eq!(problems(&mut all), [""; 0]);
}

#[test]
fn an_object_that_changes_its_identity() {
    let other = contract::record("t", "other", 1);
    let as_other = |name: &str, revision| Seen {
        key: Some(other.key()),
        ..seen(name, revision, Found::Record(other.clone()))
    };
    let mut all = catalogue();
    all.changed(put("mine", 1)).unwrap();
    let stored = as_other("mine", 2).stored().unwrap();
    assert_eq!(
        all.changed(as_other("mine", 2)),
        Ok(vec![gone(2), Change::Put(stored)])
    );
    // Of a usual name nobody knows what it was.
    all.changed(put(&usual(), 3)).unwrap();
    assert_eq!(all.changed(as_other(&usual(), 4)), Err(Unknown));
    let blank = Seen {
        key: None,
        ..malformed(&usual(), 5)
    };
    assert_eq!(all.changed(blank.clone()), Err(Unknown));
    assert_eq!(all.deleted(&blank), Err(Unknown));
}

#[test]
fn a_list_is_compared_when_it_has_ended() {
    let mut all = catalogue();
    for object in [put("b", 1), put("a", 2), malformed("x", 3)] {
        assert_eq!(all.listed(object), None);
    }
    assert_eq!(all.others(), [put("", 2).stored().unwrap()]);
    assert_eq!(problems(&mut all), ["b", "x"]);

    let mut all = catalogue();
    assert_eq!(all.listed(put("a", 1)), None);
    assert_eq!(all.listed(put(&usual(), 2)), put("", 2).stored());
    assert_eq!(all.others(), []);
    assert_eq!(problems(&mut all), ["a"]);
    assert_eq!(all.listed(seen("y", 3, Found::Terminating)), None);
}
