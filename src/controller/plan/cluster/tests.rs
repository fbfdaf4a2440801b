//! The plan of a cluster, a second at a time.

mod orphans;

use super::places::SHARED_AFTER;
use super::*;
use crate::backend::Revision;
use crate::lease::{Lease, Released};
use crate::pods::Pod;
use crate::record::{EndpointRecord, Record};
use crate::registry::testing::{key, name, record};
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    plan: ClusterPlan,
    now: Now,
    second: u64,
    revision: u64,
    /// The leases that the API server has.
    leases: Vec<Arc<ReplicaRecord>>,
    /// The replicas that renew theirs.
    living: Vec<&'static str>,
    /// Whether the API server answers.
    up: bool,
}

fn fixture(living: &[&'static str]) -> Fixture {
    let now = Now::read();
    Fixture {
        plan: ClusterPlan::new(Pace::cluster(), ORPHAN_FOR, now.mono),
        now,
        second: 0,
        revision: 0,
        leases: Vec::new(),
        living: living.to_vec(),
        up: true,
    }
}

impl Fixture {
    /// An endpoint with connector "c" of tunnel "t" at `node`, held by `holder`
    /// since now.
    fn held(&mut self, node: &str, holder: &str) -> EndpointRecord {
        let mut record = record("t", node, "c");
        record.endpoint.address = format!("{node}:80").parse().unwrap();
        record.lease = Lease::held(holder.into(), self.now.wall, 60 * SECOND);
        self.put(&record);
        record
    }

    fn put(&mut self, record: &EndpointRecord) {
        let stored = self.stored(record);
        self.plan.apply(&[Change::Put(stored)]);
    }

    fn stored(&mut self, record: &EndpointRecord) -> Stored {
        self.revision += 1;
        Stored {
            record: Record::Endpoint(Arc::new(record.clone())),
            revision: Revision(self.revision),
        }
    }

    fn pod(&mut self, change: PodChange) {
        self.plan.pods(change, self.now.mono);
    }

    fn lease_of(&self, identity: &str) -> ReplicaRecord {
        ReplicaRecord {
            identity: identity.into(),
            renew_time: self.now.wall,
            duration_seconds: 40,
            stopped: false,
            suspects: Vec::new(),
        }
    }

    fn renew(&mut self, lease: ReplicaRecord) {
        self.leases.retain(|old| old.identity != lease.identity);
        self.leases.push(Arc::new(lease));
    }

    /// Seconds pass. The living renew their leases every ten, and these are read
    /// every ten. Returns the nodes whose endpoints went, in order.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let mut gone = Vec::new();
        for _ in 0..seconds {
            self.now = self.now.plus(SECOND);
            self.second += 1;
            if self.up && self.second.is_multiple_of(10) {
                for identity in self.living.clone() {
                    self.renew(self.lease_of(identity));
                }
                self.plan.contact(self.now.mono, &self.leases);
            }
            for Due { key, revision, .. } in self.plan.take_due(self.now.mono) {
                let gone_key = Key::Endpoint(key.clone());
                self.plan.apply(&[Change::Delete(gone_key, revision)]);
                gone.push(key.node.to_string());
            }
        }
        gone
    }

    /// How long it takes until something goes.
    fn until_gone(&mut self, most: u64) -> u64 {
        (1..=most).find(|_| !self.pass(1).is_empty()).unwrap()
    }

    fn state(&self, node: &str) -> State {
        let standing = self.plan.standing(&key("t", node, "c"), self.now.mono);
        standing.unwrap().state
    }

    fn touched(&mut self) -> Vec<String> {
        let touched = self.plan.take_touched(self.now.mono);
        let mut nodes: Vec<_> = touched.iter().map(|key| key.node.to_string()).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

fn pod(uid: u128, terminating: bool) -> Pod {
    Pod {
        uid: Uuid::from_u128(uid),
        ips: Vec::new(),
        terminating,
    }
}

#[test]
fn what_a_living_replica_holds_stays() {
    let mut f = fixture(&["a"]);
    f.held("n", "a");
    assert!(f.pass(3_600).is_empty(), "its own lease is of no concern");
    assert_eq!(f.state("n"), State::Maintained);
    assert!(f.plan.left_behind().is_empty());
}

#[test]
fn the_released_go_after_their_own_time() {
    let mut f = fixture(&["a"]);
    let mut record = f.held("n", "a");
    f.pass(30);
    record.lease = Lease::released(Released::Silent, f.now.wall, 60 * SECOND);
    f.put(&record);
    assert_eq!(f.state("n"), State::Waits(Reason::Silent));
    let took = f.until_gone(100);
    assert!((60..=80).contains(&took), "{took}");
}

#[test]
fn what_is_kept_by_hand_is_no_orphan() {
    let mut f = fixture(&[]);
    let mut record = f.held("n", "nobody");
    record.is_static = true;
    record.lease = Lease::released(Released::Silent, f.now.wall, SECOND);
    record.endpoint.pod = Some(Uuid::from_u128(1));
    f.put(&record);
    f.pod(PodChange::Put(pod(1, false)));
    f.pod(PodChange::Gone(Uuid::from_u128(1)));
    assert!(f.pass(7_200).is_empty());
    assert_eq!(f.state("n"), State::Static);
    assert_eq!(f.plan.nodes(), 0, "the brake does not count it");
}

#[test]
fn nothing_goes_while_the_api_server_is_away() {
    let mut f = fixture(&["a", "b"]);
    f.held("dead", "a");
    let mut record = f.held("silent", "b");
    f.held("lives", "b");
    f.pass(60);
    record.lease = Lease::released(Released::Silent, f.now.wall, 60 * SECOND);
    f.put(&record);
    f.living = vec!["b"];
    f.pass(40);
    f.up = false;
    assert!(f.pass(10_000).is_empty());
    f.up = true;
    // The count goes on, and a third of the time must pass again.
    let took = f.until_gone(100);
    assert!((20..=40).contains(&took), "{took}");
    let took = f.until_gone(700);
    assert!((500..=640).contains(&took), "{took}");
    assert!(f.pass(3_600).is_empty());
    assert_eq!(f.state("lives"), State::Maintained);
}

#[test]
fn what_ran_in_a_pod_that_is_gone_goes_at_once() {
    let mut f = fixture(&["a"]);
    let mut record = f.held("n", "a");
    record.endpoint.pod = Some(Uuid::from_u128(1));
    f.put(&record);
    f.pod(PodChange::Reset(vec![pod(1, false), pod(2, false)]));
    f.pass(30);
    f.touched();
    f.pod(PodChange::Put(pod(1, true)));
    assert_eq!(f.state("n"), State::Terminating);
    assert_eq!(f.touched(), ["n"]);
    assert!(f.pass(100).is_empty());
    // Even while the leases cannot be read.
    f.up = false;
    f.pod(PodChange::Gone(Uuid::from_u128(1)));
    assert_eq!(f.pass(1), ["n"]);
    // Nothing is made again for it.
    f.put(&record);
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn a_pod_that_was_never_seen_is_not_gone() {
    let mut f = fixture(&["a"]);
    let mut record = f.held("n", "a");
    record.endpoint.pod = Some(Uuid::from_u128(1));
    f.put(&record);
    f.pod(PodChange::Reset(vec![pod(2, false)]));
    assert!(f.pass(3_600).is_empty());
    f.pod(PodChange::Reset(Vec::new()));
    assert!(f.pass(3_600).is_empty());
}

#[test]
fn an_endpoint_that_turns_out_to_be_of_no_pod_is_not_gone() {
    let mut f = fixture(&["a"]);
    let mut record = f.held("n", "a");
    record.endpoint.pod = Some(Uuid::from_u128(1));
    f.put(&record);
    f.pod(PodChange::Put(pod(1, false)));
    f.pod(PodChange::Gone(Uuid::from_u128(1)));
    assert_eq!(f.state("n"), State::Waits(Reason::PodGone));
    record.endpoint.pod = None;
    f.put(&record);
    assert_eq!(f.state("n"), State::Maintained);
    assert!(f.pass(3_600).is_empty());
}

#[test]
fn a_relist_restarts_no_wait() {
    let mut f = fixture(&["a", "b"]);
    let orphan = f.held("orphan", "a");
    let mut silent = f.held("silent", "b");
    f.held("gone", "b");
    f.pass(60);
    f.living = vec!["b"];
    f.pass(60);
    silent.lease = Lease::released(Released::Silent, f.now.wall, 600 * SECOND);
    f.put(&silent);
    f.pass(300);
    let all = vec![f.stored(&orphan), f.stored(&silent)];
    let latest = Revision(f.revision);
    f.plan.apply(&[Change::Reset(Kind::Endpoint, all, latest)]);
    assert_eq!(f.plan.len(), 2);
    assert_eq!(f.pass(320), ["orphan", "silent"]);
}

#[test]
fn a_write_that_changes_no_lease_moves_the_revision_only() {
    let mut f = fixture(&["a"]);
    let record = f.held("n", "a");
    f.pass(60);
    f.living.clear();
    f.pass(400);
    f.put(&record);
    f.pass(200);
    f.put(&record);
    let expected = Revision(f.revision);
    let due = loop {
        f.now = f.now.plus(10 * SECOND);
        f.plan.contact(f.now.mono, &f.leases);
        if let Some(due) = f.plan.take_due(f.now.mono).pop() {
            break due;
        }
    };
    assert_eq!((due.revision, due.reason), (expected, Reason::HolderLost));
    assert!(f.plan.take_due(f.now.mono).is_empty(), "under way");
    f.plan.again(&due.key);
    assert_eq!(f.pass(1), ["n"]);
}

#[test]
fn waiting_is_told_by_reason() {
    let mut f = fixture(&["a"]);
    f.held("orphan", "b");
    let mut record = f.held("closed", "a");
    let why = Released::ConnectionClosed;
    record.lease = Lease::released(why, f.now.wall, 600 * SECOND);
    f.put(&record);
    f.pass(200);
    assert_eq!(f.plan.waiting(), [0, 1, 1, 0]);
    assert!(f.plan.waits(&key("t", "closed", "c")));
    assert!(!f.plan.waits(&key("t", "none", "c")));
}

#[test]
fn two_nodes_at_one_address_are_told_when_they_stay() {
    let mut f = fixture(&["a"]);
    let mut one = f.held("one", "a");
    let mut two = f.held("two", "a");
    let shared = |f: &Fixture, node| {
        let standing = f.plan.standing(&key("t", node, "c"), f.now.mono);
        standing.unwrap().shares_address
    };
    for record in [&mut one, &mut two] {
        record.endpoint.address = "10.0.0.1:80".parse().unwrap();
        f.put(record);
    }
    f.pass(SHARED_AFTER.as_secs() - 1);
    assert!(!shared(&f, "one") && !shared(&f, "two"));
    assert!(f.touched().is_empty());
    f.pass(1);
    assert!(shared(&f, "one") && shared(&f, "two"));
    assert_eq!(f.touched(), ["one", "two"]);
    let one = Key::Endpoint(one.endpoint.key);
    f.plan.apply(&[Change::Delete(one, Revision(9))]);
    assert!(!shared(&f, "two"));
    assert_eq!(f.touched(), ["two"]);
    assert_eq!(f.plan.nodes(), 1);
    assert!(f.plan.endpoints.of_node(&name("one")).is_empty());
}

#[test]
fn an_orderly_stop_does_not_brake() {
    let mut f = fixture(&["a", "b"]);
    for n in 0..50 {
        f.held(&format!("a{n}"), "a");
        f.held(&format!("b{n}"), "b");
    }
    f.pass(60);
    let mut stopped = f.lease_of("a");
    stopped.stopped = true;
    f.living = vec!["b"];
    f.renew(stopped);
    f.pass(10);
    assert!(
        f.plan.braked_for().is_none(),
        "each rolling restart warns of a brake"
    );
}

#[test]
fn leases_are_read_often_enough_for_time_to_count() {
    let every = read_every(ORPHAN_FOR);
    assert_eq!(every, Duration::from_secs(10));
    assert!(every < crate::contact::LONGEST_GAP);
    assert_eq!(read_every(Duration::from_secs(30)), Duration::from_secs(3));
    let least = Duration::from_millis(500);
    assert_eq!(read_every(Duration::from_secs(1)), least);
}
