//! The plan, a second at a time.

use std::sync::Arc;

use super::*;
use crate::lease::Lease;
use crate::record::EndpointRecord;
use crate::registry::testing::{key, record};
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);

struct Nodes(usize);

impl Census for Nodes {
    fn nodes(&self) -> usize {
        self.0
    }
    fn endpoints_of(&self, _: &Name) -> usize {
        1
    }
}

struct Fixture {
    plan: Plan,
    now: Instant,
    nodes: usize,
}

impl Fixture {
    fn new(pace: Pace) -> Self {
        let now = Now::read().mono;
        Self {
            plan: Plan::new(pace, now),
            now,
            nodes: 1_000,
        }
    }

    /// The endpoint of `node` was released at `revision`.
    fn released(&mut self, node: &str, revision: u64) {
        let mut record = record("t", node, "c");
        record.lease = Lease::released(Released::Silent, record.lease.renew_time, 60 * SECOND);
        self.put(record, revision);
    }

    fn put(&mut self, record: EndpointRecord, revision: u64) {
        self.plan.apply(&[Change::Put(Stored {
            record: Record::Endpoint(Arc::new(record)),
            revision: Revision(revision),
        })]);
    }

    /// Seconds pass, with a sign of life each; returns what went.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let mut gone = Vec::new();
        for _ in 0..seconds {
            self.now += SECOND;
            self.plan.contact(self.now);
            let nodes = Nodes(self.nodes);
            for Due { key, revision, .. } in self.plan.take_due(self.now, &nodes) {
                self.plan
                    .apply(&[Change::Delete(Key::Endpoint(key.clone()), revision)]);
                gone.push(key.node.to_string());
            }
        }
        gone
    }
}

#[test]
fn what_is_released_goes_when_its_time_is_over() {
    let mut f = Fixture::new(Pace::default());
    f.pass(1);
    f.released("n", 1);
    assert!(f.pass(60).is_empty());
    assert_eq!(f.pass(1), ["n"]);
    assert_eq!(f.plan.waiting(), 0);
}

#[test]
fn what_is_maintained_again_stays_and_starts_anew() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    f.pass(50);
    f.put(record("t", "n", "c"), 2);
    assert!(f.pass(50).is_empty());
    f.released("n", 3);
    assert!(f.pass(60).is_empty());
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn being_told_again_does_not_start_anew() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    f.pass(50);
    f.released("n", 1);
    assert_eq!(f.pass(11), ["n"]);
}

#[test]
fn an_outage_of_the_store_does_not_count_and_gives_a_third_again() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    f.pass(55);
    f.now += 600 * SECOND;
    assert!(f.pass(20).is_empty());
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn a_reset_forgets_what_is_gone_and_keeps_the_time_of_the_rest() {
    let mut f = Fixture::new(Pace::default());
    f.released("gone", 1);
    f.released("stays", 2);
    f.pass(50);
    let mut stays = record("t", "stays", "c");
    stays.lease = Lease::released(Released::Silent, stays.lease.renew_time, 60 * SECOND);
    let stays = Stored {
        record: Record::Endpoint(Arc::new(stays)),
        revision: Revision(2),
    };
    f.plan
        .apply(&[Change::Reset(Kind::Endpoint, vec![stays], Revision(3))]);
    assert_eq!(f.plan.waiting(), 1);
    assert_eq!(f.pass(11), ["stays"]);
}

#[test]
fn a_failed_delete_is_due_again() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    f.pass(60);
    f.now += SECOND;
    f.plan.contact(f.now);
    let due = f.plan.take_due(f.now, &Nodes(1_000));
    let expected = Due {
        key: key("t", "n", "c"),
        revision: Revision(1),
        reason: Reason::Silent,
    };
    assert_eq!(due, [expected]);
    assert!(f.pass(5).is_empty(), "under way");
    f.plan.again(&due[0].key);
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn deletes_keep_to_their_rate() {
    let mut f = Fixture::new(Pace {
        per_second: 50.0,
        brake_share: 1.0,
        ..Pace::default()
    });
    for at in 0..200 {
        f.released(&format!("n{at}"), at);
    }
    f.pass(60);
    for _ in 0..4 {
        assert_eq!(f.pass(1).len(), 50);
    }
}

#[test]
fn the_brake_holds_ten_minutes_then_goes_slowly() {
    let mut f = Fixture::new(Pace::default());
    f.nodes = 200;
    for at in 0..100 {
        f.released(&format!("n{at}"), at);
    }
    assert!(f.pass(600).is_empty());
    assert!(f.plan.braked_for().is_some());
    // Ten a second until the rest is no longer many.
    let gone = f.pass(6).len();
    assert!((50..=61).contains(&gone), "{gone}");
    f.pass(10);
    assert!(f.plan.braked_for().is_none());
    assert_eq!(f.plan.waiting(), 0);
}

#[test]
fn two_silent_nodes_are_no_reason_to_brake() {
    let mut f = Fixture::new(Pace::default());
    f.nodes = 2;
    f.released("a", 1);
    f.released("b", 2);
    assert_eq!(f.pass(61), ["a", "b"]);
}

#[test]
fn what_is_kept_by_hand_is_never_collected() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    let mut record = record("t", "n", "c");
    record.lease = Lease::released(Released::Silent, record.lease.renew_time, 60 * SECOND);
    record.is_static = true;
    f.put(record, 2);
    assert!(f.pass(1_000).is_empty());
    assert_eq!(f.plan.waiting(), 0);
}

#[test]
fn a_write_that_changes_no_lease_leaves_the_wait_and_moves_the_revision() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    f.pass(60);
    f.released("n", 2);
    f.now += SECOND;
    f.plan.contact(f.now);
    let due = f.plan.take_due(f.now, &Nodes(1_000));
    assert_eq!(due[0].revision, Revision(2));
    // It was deleted at that revision while this came: it fails, and is due again.
    f.released("n", 3);
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn a_delete_of_which_nothing_is_heard_is_made_again() {
    let mut f = Fixture::new(Pace::default());
    f.released("n", 1);
    f.pass(60);
    f.now += SECOND;
    f.plan.contact(f.now);
    assert_eq!(f.plan.take_due(f.now, &Nodes(1_000)).len(), 1);
    assert!(f.pass(29).is_empty());
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn the_brake_does_not_hold_back_closed_connections() {
    let mut f = Fixture::new(Pace::default());
    f.nodes = 20;
    for at in 0..10 {
        f.released(&format!("n{at}"), at);
    }
    for at in 10..15 {
        let mut record = record("t", &format!("n{at}"), "c");
        let time = record.lease.renew_time;
        record.lease = Lease::released(Released::ConnectionClosed, time, 60 * SECOND);
        f.put(record, at);
    }
    let mut gone = f.pass(61);
    gone.sort();
    assert_eq!(gone, ["n10", "n11", "n12", "n13", "n14"]);
    assert!(f.plan.braked_for().is_some());
}
