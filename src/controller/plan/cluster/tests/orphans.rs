//! Endpoints whose holder has died.

use super::*;

#[test]
fn an_orphan_goes_after_the_orphan_time() {
    let mut f = fixture(&["a"]);
    f.held("n", "a");
    f.pass(60);
    f.living.clear();
    f.touched();
    f.pass(39);
    assert_eq!(f.state("n"), State::Maintained);
    f.pass(1);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    assert_eq!(f.touched(), ["n"]);
    assert_eq!(f.until_gone(700), 600);
}

#[test]
fn a_holder_that_comes_back_keeps_its_orphans() {
    let mut f = fixture(&["a"]);
    f.held("n", "a");
    f.pass(60);
    f.living.clear();
    f.pass(600);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    f.living.push("a");
    f.pass(11);
    assert_eq!(f.state("n"), State::Maintained);
    f.living.clear();
    assert!(f.pass(600).is_empty(), "the orphan time begins anew");
    assert_eq!(f.pass(60), ["n"]);
}

#[test]
fn an_orphan_that_is_taken_over_stays() {
    let mut f = fixture(&["a", "b"]);
    f.held("n", "a");
    f.pass(60);
    f.living = vec!["b"];
    f.pass(600);
    f.held("n", "b");
    assert!(f.pass(3_600).is_empty());
}

#[test]
fn a_holder_that_refreshes_anything_lives_though_its_lease_does_not() {
    let mut f = fixture(&["a"]);
    f.held("n", "a");
    f.held("m", "a");
    f.pass(60);
    f.living.clear();
    f.pass(100);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    // One endpoint proves it for all, at any time before they would go.
    for _ in 0..10 {
        f.held("m", "a");
        f.pass(20);
        assert_eq!(f.state("n"), State::Maintained);
        assert!(f.pass(500).is_empty());
    }
    assert!(f.pass(60).is_empty());
    assert_eq!(f.pass(120).len(), 2, "it has died");
}

#[test]
fn a_holder_that_stopped_and_writes_again_lives() {
    let mut f = fixture(&["a"]);
    f.held("n", "a");
    f.pass(60);
    f.living.clear();
    let mut lease = f.lease_of("a");
    lease.stopped = true;
    f.renew(lease);
    f.pass(20);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    for _ in 0..100 {
        f.held("n", "a");
        assert!(f.pass(30).is_empty());
        assert_eq!(f.state("n"), State::Maintained);
    }
}

#[test]
fn a_list_that_tells_nothing_new_keeps_no_dead_holder_alive() {
    let mut f = fixture(&["a"]);
    let record = f.held("n", "a");
    f.pass(60);
    f.living.clear();
    for _ in 0..6 {
        f.pass(100);
        let all = vec![f.stored(&record)];
        let latest = Revision(f.revision);
        f.plan.apply(&[Change::Reset(Kind::Endpoint, all, latest)]);
    }
    assert_eq!(f.pass(60), ["n"]);
}

#[test]
fn a_holder_that_never_had_a_lease_has_that_of_its_endpoint() {
    let mut f = fixture(&["other"]);
    let mut record = f.held("n", "a");
    record.lease.duration_seconds = 300;
    f.put(&record);
    assert!(f.pass(295).is_empty());
    assert_eq!(f.state("n"), State::Maintained);
    f.pass(15);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    assert!(f.pass(580).is_empty());
    assert_eq!(f.pass(40), ["n"]);
}

#[test]
fn an_endpoint_that_is_refreshed_does_not_lapse() {
    let mut f = fixture(&["other"]);
    for _ in 0..40 {
        f.held("n", "a");
        assert!(f.pass(50).is_empty());
        assert_eq!(f.state("n"), State::Maintained);
    }
}

#[test]
fn a_lease_that_appears_later_vouches_for_what_had_lapsed() {
    let mut f = fixture(&[]);
    f.held("n", "a");
    f.pass(200);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    f.living.push("a");
    f.pass(20);
    assert_eq!(f.state("n"), State::Maintained);
    assert!(f.pass(3_600).is_empty());
}

#[test]
fn a_replica_that_stopped_leaves_orphans_at_once() {
    let mut f = fixture(&["a"]);
    f.held("n", "a");
    f.pass(30);
    f.living.clear();
    let mut lease = f.lease_of("a");
    lease.stopped = true;
    f.renew(lease);
    f.pass(10);
    assert_eq!(f.state("n"), State::Waits(Reason::HolderLost));
    assert!(f.pass(590).is_empty());
    assert_eq!(f.pass(20), ["n"]);
}

#[test]
fn a_gost_that_dies_with_its_sidecar_is_no_reason_to_brake() {
    let mut f = fixture(&["dead", "lives"]);
    for connector in 0..10_000 {
        let mut record = record("t", "n", &connector.to_string());
        record.lease = Lease::held("dead".into(), f.now.wall, 3_000 * SECOND);
        f.put(&record);
    }
    f.held("other", "lives");
    f.pass(30);
    f.living = vec!["lives"];
    assert!(f.pass(40 + 599).is_empty());
    assert!(f.plan.braked_for().is_none());
    assert_eq!(f.pass(100).len(), 10_000);
    assert_eq!(f.plan.len(), 1);
}

#[test]
fn many_orphans_are_braked_while_they_wait_as_orphans() {
    let mut f = fixture(&["dead", "lives"]);
    for node in 0..100 {
        f.held(&format!("n{node}"), "dead");
        f.held(&format!("m{node}"), "lives");
    }
    f.pass(30);
    f.living = vec!["lives"];
    f.pass(40);
    assert!(f.plan.braked_for().is_some());
    // Both waits are ten minutes and overlap; then ten go in a second.
    assert!(f.pass(599).is_empty());
    assert_eq!(f.pass(1).len(), 10);
    assert_eq!(f.pass(5).len(), 50);
    assert_eq!(f.pass(5).len(), 40);
    assert!(f.plan.braked_for().is_none());
}

#[test]
fn suspects_of_a_dead_holder_do_not_brake() {
    let mut f = fixture(&["lives"]);
    let mut lease = f.lease_of("dead");
    for node in 0..10 {
        let record = f.held(&format!("n{node}"), "dead");
        lease.suspects.push(record.endpoint.key.node);
        f.held(&format!("m{node}"), "lives");
    }
    f.renew(lease);
    f.pass(100);
    assert_eq!(f.state("n1"), State::Waits(Reason::HolderLost));
    assert!(f.plan.braked_for().is_none());
}

#[test]
fn leases_that_nobody_needs_are_left_behind() {
    let mut f = fixture(&["a", "b"]);
    f.held("n", "a");
    f.pass(60);
    f.living.clear();
    // What `a` held is an orphan for ten minutes and then goes.
    f.pass(3_600);
    assert!(f.plan.left_behind().is_empty());
    f.pass(60);
    let mut left = f.plan.left_behind();
    left.sort();
    assert_eq!(left, ["a", "b"].map(Arc::from));
    f.held("n", "a");
    assert_eq!(f.plan.left_behind(), [Arc::from("b")]);
}
