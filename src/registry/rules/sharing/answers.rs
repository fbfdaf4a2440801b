//! What comes late, or not at all: partitions, outages, answers and changes that
//! overtake each other.

use super::*;

#[tokio::test]
async fn an_outage_of_the_store_makes_nobody_take_anything_over() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.settle().await;
    c.replicas
        .iter_mut()
        .for_each(|replica| replica.connected = false);
    c.pass(300, |second, c| {
        if second.is_multiple_of(TTL.as_secs()) {
            c.renew(0, &a);
            c.renew(1, &a);
        }
    })
    .await;
    assert_eq!((c.told(0), c.told(1)), (vec!["a".into()], vec!["a".into()]));
    c.replicas
        .iter_mut()
        .for_each(|replica| replica.connected = true);
    c.pass(60, |second, c| {
        if second.is_multiple_of(TTL.as_secs()) {
            c.renew(0, &a);
            c.renew(1, &a);
        }
    })
    .await;
    assert_eq!(holder(&c, &a).await, "r0");
    assert_eq!(c.replicas[1].core.events.counts.taken_over, 0);
}

#[tokio::test]
async fn a_partitioned_holder_loses_to_who_hears_and_does_not_fight() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.settle().await;
    c.replicas[0].connected = false;
    pass_renewing(&mut c, 120, 1, &a).await;
    assert_eq!(holder(&c, &a).await, "r1");
    // It comes back with a release in its queue.
    assert!(c.replicas[0].core.events.counts.released > 0);
    c.replicas[0].connected = true;
    pass_renewing(&mut c, 120, 1, &a).await;
    assert_eq!(holder(&c, &a).await, "r1");
    assert_eq!(c.health(0, &a).unwrap(), "healthy");
}

#[tokio::test]
async fn what_was_deregistered_in_a_partition_does_not_come_back() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.settle().await;
    c.replicas[0].connected = false;
    pass_renewing(&mut c, 30, 0, &a).await;
    c.deregister(1, &a);
    c.pass(200, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "absent");
    c.replicas[0].connected = true;
    c.pass(60, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "absent");
    assert!(c.told(0).is_empty() && c.told(1).is_empty());
}

#[tokio::test]
async fn a_deregister_in_a_partition_is_made_up_for() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.settle().await;
    c.replicas[1].connected = false;
    c.deregister(1, &a);
    c.pass(30, |_, _| {}).await;
    assert!(c.told(1).is_empty());
    assert_eq!(holder(&c, &a).await, "r0");
    c.replicas[1].connected = true;
    c.pass(20, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "absent");
}

#[tokio::test]
async fn what_a_frozen_server_makes_on_thawing_is_undone() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.hang(0);
    c.register(0, &a);
    c.pass(3, |_, _| {}).await;
    c.deregister(0, &a);
    c.pass(5, |_, _| {}).await;
    c.replicas[0].hangs = false;
    c.pass(20, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "absent");
    c.thaw(0).await;
    assert_ne!(holder(&c, &a).await, "absent", "the old request came true");
    c.pass(2, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "absent");
}

#[tokio::test]
async fn a_move_that_could_not_be_written_is_not_forgotten_in_silence() {
    let mut c = Cluster::new(1).await;
    let mut a = gost(1, "a");
    c.register(0, &a);
    c.settle().await;
    c.replicas[0].connected = false;
    a.address = "10.0.0.77:80".into();
    c.register(0, &a);
    c.pass(70, |_, _| {}).await;
    c.replicas[0].connected = true;
    c.pass(10, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "released");
    let stored = c.record(&a).await;
    assert_eq!(stored.endpoint.address.to_string(), a.address);
}

#[tokio::test]
async fn a_deregister_elsewhere_counts_before_the_watch_has_told() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    // The other replica has not heard of it yet.
    c.deregister(1, &a);
    c.settle().await;
    assert_eq!(holder(&c, &a).await, "absent");
}

#[tokio::test]
async fn a_deregister_before_the_store_was_read_spares_what_is_static() {
    let mut c = Cluster::new(1).await;
    let kept = EndpointRecord {
        is_static: true,
        ..record("t", "by-hand", "printer")
    };
    c.write_by_hand(kept.clone()).await;
    let a = gost(1, "printer").at_node("by-hand");
    c.restart(0);
    c.deregister(0, &a);
    c.settle().await;
    assert_ne!(holder(&c, &a).await, "absent", "static, deleted");
}

#[tokio::test]
async fn nothing_of_anothers_is_written_after_a_late_failure() {
    use crate::backend::{Change, Revision, Stored, Write, WriteError};
    let mut c = Cluster::new(1).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.settle().await;
    let now = c.now;
    let stored = c.stored(&a).await.unwrap();
    let core = &mut c.replicas[0].core;
    core.want(now, &a.key, crate::index::Wanted::Refresh);
    let (made, write) = core.next_write(now).unwrap();
    assert!(matches!(write, Write::Put(..)));
    // Somebody applies it as static by hand, and the write times out.
    let Record::Endpoint(mut record) = stored.record.clone() else {
        unreachable!()
    };
    let by_hand = Arc::make_mut(&mut record);
    by_hand.is_static = true;
    by_hand.lease.holder = None;
    core.apply(
        now,
        Change::Put(Stored {
            record: Record::Endpoint(record),
            revision: Revision(stored.revision.0 + 100),
        }),
    );
    core.written(now, &made, &Err(WriteError::Unavailable("late".into())));
    let later = now.plus(std::time::Duration::from_secs(10));
    let again = core.next_write(later).map(|(_, write)| write);
    assert_eq!(again, None, "a static endpoint is written");
}

#[tokio::test]
async fn a_late_conflict_does_not_undo_what_the_watch_told() {
    use crate::backend::{Change, Revision, Stored, WriteError};
    let mut c = Cluster::new(1).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.settle().await;
    let now = c.now;
    let stored = c.stored(&a).await.unwrap();
    let core = &mut c.replicas[0].core;
    core.want(now, &a.key, crate::index::Wanted::Refresh);
    let (made, _) = core.next_write(now).unwrap();
    let by = |holder: Option<&str>, more: u64| {
        let Record::Endpoint(mut record) = stored.record.clone() else {
            unreachable!()
        };
        Arc::make_mut(&mut record).lease.holder = holder.map(Into::into);
        Stored {
            record: Record::Endpoint(record),
            revision: Revision(stored.revision.0 + more),
        }
    };
    core.apply(now, Change::Put(by(Some("r7"), 10)));
    core.apply(now, Change::Put(by(Some("r8"), 20)));
    core.written(
        now,
        &made,
        &Err(WriteError::Conflict(Some(Box::new(by(Some("r7"), 10))))),
    );
    let entry = core.index.get(&a.key).unwrap();
    assert_eq!(
        entry.record.lease.holder.as_deref(),
        Some("r8"),
        "at {:?}",
        entry.revision
    );
}
