//! Several replicas on one store: who holds what, and what each tells.

use super::*;
use crate::pods::PodChange;
use crate::record::Record;
use crate::registry::cluster::{Cluster, pod};
use crate::registry::testing::record;

async fn holder(c: &Cluster, gost: &Gost) -> String {
    match c.holder(gost).await {
        None => "absent".into(),
        Some(None) => "released".into(),
        Some(Some(holder)) => holder,
    }
}

/// Seconds pass in which `gost` renews at replica `at` every 15 s.
async fn pass_renewing(c: &mut Cluster, seconds: u64, at: usize, gost: &Gost) {
    c.pass(seconds, |second, c| {
        if second.is_multiple_of(TTL.as_secs()) {
            c.renew(at, gost);
        }
    })
    .await;
}

#[tokio::test]
async fn what_registers_at_one_is_served_by_the_other() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.settle().await;
    assert_eq!(c.told(1), ["a"]);
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
    c.deregister(1, &a);
    c.settle().await;
    assert!(c.told(0).is_empty() && c.told(1).is_empty());
    assert_eq!(holder(&c, &a).await, "absent");
    pass_renewing(&mut c, 5, 0, &a).await;
    assert_eq!(holder(&c, &a).await, "absent");
}

#[tokio::test]
async fn a_renewal_elsewhere_changes_no_holder_that_lives() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.settle().await;
    let before = c.stored(&a).await;
    c.renew(1, &a);
    c.settle().await;
    assert_eq!(c.stored(&a).await, before);
}

#[tokio::test]
async fn calls_spread_over_both_at_random_retire_nothing() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    let mut random = fastrand::Rng::with_seed(7);
    c.register(0, &a);
    c.settle().await;
    c.replicas.iter_mut().for_each(|replica| replica.writes = 0);
    c.pass(30 * 60, |second, c| {
        if second.is_multiple_of(TTL.as_secs()) {
            let at = random.usize(0..2);
            c.renew(at, &a);
        }
    })
    .await;
    assert_ne!(holder(&c, &a).await, "absent");
    for replica in &c.replicas {
        let refreshed = replica.core.events.counts.refreshed;
        let owned = replica.writes as u64 - refreshed;
        assert!(owned <= 30, "{owned} ownership writes in 30 minutes");
        assert_eq!(replica.core.events.counts.expired, 0);
    }
}

#[tokio::test]
async fn what_its_holder_releases_goes_at_once_to_who_heard_it() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    pass_renewing(&mut c, 59, 1, &a).await;
    assert_eq!(holder(&c, &a).await, "r0");
    c.pass(2, |_, _| {}).await;
    assert_eq!(c.replicas[0].core.events.counts.released, 1);
    assert_eq!(holder(&c, &a).await, "r1");
    assert_eq!(c.health(0, &a).unwrap(), "healthy");
}

#[tokio::test]
async fn a_dead_replica_is_doubted_and_what_is_heard_taken_over() {
    let mut c = Cluster::new(2).await;
    let (a, b) = (gost(1, "a"), gost(2, "b"));
    c.register(0, &a);
    c.register(0, &b);
    c.settle().await;
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
    c.replicas[0].alive = false;
    // b's gost calls the other one from now on.
    pass_renewing(&mut c, 42, 1, &b).await;
    assert_eq!(
        c.health(1, &a).unwrap(),
        "holder-silent",
        "within its validity"
    );
    assert_eq!(c.health(1, &b).unwrap(), "healthy", "it was heard here");
    assert_eq!(c.told(1), ["b", "a"]);
    pass_renewing(&mut c, 25, 1, &b).await;
    assert_eq!(holder(&c, &b).await, "r1");
    assert_eq!(holder(&c, &a).await, "r0", "nobody hears it");
}

#[tokio::test]
async fn a_replica_that_stops_gives_up_what_it_holds() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.settle().await;
    let now = c.now;
    let write = c.replicas[0].core.vouch(now, true).unwrap();
    crate::backend::Backend::write(&c.store, write)
        .await
        .unwrap();
    c.replicas[0].alive = false;
    c.pass(1, |_, c| c.renew(1, &a)).await;
    assert_eq!(holder(&c, &a).await, "r1");
}

#[tokio::test]
async fn a_replica_that_comes_back_keeps_what_it_held() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.settle().await;
    c.replicas[0].alive = false;
    c.pass(300, |_, _| {}).await;
    c.restart(0);
    c.pass(20, |_, _| {}).await;
    assert_eq!(c.health(0, &a).unwrap(), "unheard");
    pass_renewing(&mut c, 60, 0, &a).await;
    assert_eq!(holder(&c, &a).await, "r0");
    assert_eq!(c.health(0, &a).unwrap(), "healthy");
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
}

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
async fn a_suspect_is_doubted_everywhere_and_healthy_at_its_next_call() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.renew(0, &a);
    c.pass(2, |_, _| {}).await;
    c.hang_up(0, &a);
    c.pass(2, |_, _| {}).await;
    assert_eq!(c.health(0, &a).unwrap(), "suspect");
    assert_eq!(c.health(1, &a).unwrap(), "suspect");
    c.renew(0, &a);
    c.pass(2, |_, _| {}).await;
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
}

#[tokio::test]
async fn leases_are_refreshed_at_a_constant_rate() {
    let mut c = Cluster::new(1).await;
    let gosts: Vec<_> = (0..1_000).map(|at| gost(1, &at.to_string())).collect();
    for chunk in gosts.chunks(100) {
        chunk.iter().for_each(|gost| c.register(0, gost));
        c.pass(1, |_, _| {}).await;
    }
    let renewing = |second: u64, c: &mut Cluster| {
        if second.is_multiple_of(15) {
            gosts.iter().for_each(|gost| c.renew(0, gost));
        }
    };
    c.pass(300, renewing).await;
    c.replicas[0].writes = 0;
    c.pass(300, renewing).await;
    let rate = c.replicas[0].writes as f64 / 300.0;
    assert!((8.0..=11.0).contains(&rate), "{rate} writes a second");
    let Record::Endpoint(record) = c.stored(&gosts[0]).await.unwrap().record else {
        unreachable!();
    };
    assert_eq!(record.lease.duration_seconds, 300);
    let age = c.now.wall.duration_since(record.lease.renew_time);
    assert!(age.as_secs() < 200, "written {age:?} ago");
}

#[tokio::test]
async fn a_static_endpoint_is_served_and_never_touched() {
    let mut c = Cluster::new(2).await;
    let kept = EndpointRecord {
        is_static: true,
        ..record("t", "by-hand", "printer")
    };
    c.write_by_hand(kept.clone()).await;
    let a = gost(1, "printer").at_node("by-hand");
    let before = c.stored(&a).await;
    c.renew(0, &a);
    c.register(1, &a);
    c.deregister(1, &a);
    pass_renewing(&mut c, 600, 0, &a).await;
    assert_eq!(c.told(0), ["printer"]);
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
    assert_eq!(c.stored(&a).await, before);
}

#[tokio::test]
async fn a_lease_that_lost_its_annotations_is_taken_up_again() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.pass(10, |_, _| {}).await;
    let stored = c.stored(&a).await.unwrap();
    let Record::Endpoint(mut bare) = stored.record else {
        unreachable!();
    };
    Arc::make_mut(&mut bare).lease.holder = None;
    let write = crate::backend::Write::Put(Record::Endpoint(bare), stored.revision);
    crate::backend::Backend::write(&c.store, write)
        .await
        .unwrap();
    c.pass(1, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "r0");
}

#[tokio::test]
async fn a_pod_that_terminates_goes_last_and_one_that_is_gone_not_at_all() {
    let mut c = Cluster::new(2).await;
    let (a, b) = (gost(1, "a"), gost(2, "b"));
    c.pod(&PodChange::Put(pod(1, 1, false)));
    c.register(0, &a);
    c.register(0, &b);
    c.settle().await;
    let Record::Endpoint(stored) = c.stored(&a).await.unwrap().record else {
        unreachable!();
    };
    assert_eq!(stored.endpoint.pod, Some(uuid::Uuid::from_u128(1)));
    c.pod(&PodChange::Put(pod(1, 1, true)));
    for _ in 0..10 {
        assert_eq!(c.told(1), ["b", "a"]);
    }
    c.pod(&PodChange::Gone(uuid::Uuid::from_u128(1)));
    assert_eq!(c.told(1), ["b"]);
    // Its address is somebody else's now, who renews: it was never that pod's.
    c.pod(&PodChange::Put(pod(2, 1, false)));
    c.renew(0, &a);
    c.settle().await;
    assert_eq!(c.told(1).len(), 2);
    let Record::Endpoint(stored) = c.stored(&a).await.unwrap().record else {
        unreachable!();
    };
    assert_eq!(stored.endpoint.pod, Some(uuid::Uuid::from_u128(2)));
}

#[tokio::test]
async fn nothing_is_made_for_a_pod_that_is_gone() {
    let mut c = Cluster::new(1).await;
    let a = gost(1, "a");
    c.pod(&PodChange::Put(pod(1, 1, false)));
    c.replicas[0].connected = false;
    c.register(0, &a);
    c.pass(5, |_, _| {}).await;
    c.pod(&PodChange::Gone(uuid::Uuid::from_u128(1)));
    c.replicas[0].connected = true;
    c.pass(20, |_, _| {}).await;
    assert_eq!(holder(&c, &a).await, "absent");
    assert!(c.replicas[0].core.queue.is_empty());
}

#[tokio::test]
async fn a_slow_tunnel_is_not_released_by_who_takes_it_over() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    let renewing = |at: usize| {
        let a = a.clone();
        move |second: u64, c: &mut Cluster| {
            if second.is_multiple_of(120) {
                c.renew(at, &a);
            }
        }
    };
    c.register(0, &a);
    c.pass(600, renewing(0)).await;
    c.replicas[0].alive = false;
    c.pass(600, renewing(1)).await;
    assert_eq!(holder(&c, &a).await, "r1");
    assert_eq!(c.replicas[1].core.events.counts.released, 0);
}

#[tokio::test]
async fn a_lease_deleted_by_hand_is_made_again() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a").over_http();
    c.register(0, &a);
    c.pass(1, |_, _| {}).await;
    for identity in ["r0", "r1"] {
        let key = crate::record::Key::Replica(identity.into());
        let delete = crate::backend::Write::Delete(key, crate::backend::Revision(0));
        let Err(crate::backend::WriteError::Conflict(Some(stored))) =
            crate::backend::Backend::write(&c.store, delete).await
        else {
            panic!("{identity} has a lease");
        };
        let delete = crate::backend::Write::Delete(stored.record.key(), stored.revision);
        crate::backend::Backend::write(&c.store, delete)
            .await
            .unwrap();
    }
    c.pass(2, |_, c| c.renew(1, &a)).await;
    assert_eq!(holder(&c, &a).await, "r0");
    pass_renewing(&mut c, 60, 0, &a).await;
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
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
    let Record::Endpoint(stored) = c.stored(&a).await.unwrap().record else {
        unreachable!();
    };
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
async fn a_pod_recorded_wrongly_loses_no_registration() {
    let mut c = Cluster::new(1).await;
    let a = gost(1, "a");
    // Its address was another pod's, whose end the watch tells a moment later.
    c.pod(&PodChange::Put(pod(1, 1, true)));
    c.replicas[0].connected = false;
    c.register(0, &a);
    c.pass(5, |_, _| {}).await;
    c.pod(&PodChange::Gone(uuid::Uuid::from_u128(1)));
    c.pod(&PodChange::Put(pod(2, 1, false)));
    c.pass(20, |_, _| {}).await;
    c.replicas[0].connected = true;
    c.pass(10, |_, _| {}).await;
    pass_renewing(&mut c, 60, 0, &a).await;
    assert_eq!(holder(&c, &a).await, "r0", "a live registration was lost");
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
async fn what_is_made_static_by_hand_stays_static() {
    for renewing in [true, false] {
        let mut c = Cluster::new(1).await;
        let a = gost(1, "a");
        c.register(0, &a);
        c.pass(5, |_, _| {}).await;
        let stored = c.stored(&a).await.unwrap();
        let Record::Endpoint(mut kept) = stored.record else {
            unreachable!()
        };
        Arc::make_mut(&mut kept).is_static = true;
        let write = crate::backend::Write::Put(Record::Endpoint(kept), stored.revision);
        crate::backend::Backend::write(&c.store, write)
            .await
            .unwrap();
        match renewing {
            true => pass_renewing(&mut c, 90, 0, &a).await,
            false => c.pass(90, |_, _| {}).await,
        }
        let Record::Endpoint(now) = c.stored(&a).await.unwrap().record else {
            unreachable!()
        };
        assert!(now.is_static, "renewing: {renewing}");
        assert_eq!(c.health(0, &a).unwrap(), "healthy");
    }
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
