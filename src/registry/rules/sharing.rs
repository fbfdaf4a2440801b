//! Several replicas on one store: who holds what, and what each tells.

use super::*;
use crate::record::Record;
use crate::registry::cluster::Cluster;
use crate::registry::testing::record;

mod answers;
mod pods;

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
async fn a_holder_that_nobody_ever_saw_has_run_out_when_its_lease_does_not_appear() {
    let mut c = Cluster::new(2).await;
    let run_out = |c: &mut Cluster| {
        let holders = ["imported", "r1"].map(std::sync::Arc::from);
        let found = c.replicas[0].core.run_out(holders.into_iter().collect());
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(run_out(&mut c).is_empty());
    c.pass(30, |_, _| {}).await;
    assert!(run_out(&mut c).is_empty());
    c.pass(30, |_, _| {}).await;
    assert_eq!(run_out(&mut c), ["imported"]);
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
    let record = c.record(&gosts[0]).await;
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
        let now = c.record(&a).await;
        assert!(now.is_static, "renewing: {renewing}");
        assert_eq!(c.health(0, &a).unwrap(), "healthy");
    }
}

#[tokio::test]
async fn after_an_outage_leases_are_written_as_fast_as_is_needed_and_no_faster() {
    let mut c = Cluster::new(1).await;
    let gosts: Vec<_> = (0..600).map(|at| gost(1, &at.to_string())).collect();
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
    // Two thirds of the leases, which are of 180 s by now.
    c.replicas[0].connected = false;
    c.pass(120, renewing).await;
    c.replicas[0].connected = true;
    let mut fastest = 0;
    for _ in 0..60 {
        let before = c.replicas[0].writes;
        c.pass(1, renewing).await;
        fastest = fastest.max(c.replicas[0].writes - before);
    }
    assert!((11..=80).contains(&fastest), "{fastest} writes in a second");
    for gost in &gosts {
        let lease = c.record(gost).await.lease.clone();
        let age = c.now.wall.duration_since(lease.renew_time);
        assert!(age.as_secs() < 120, "written {age:?} ago");
    }
}

#[tokio::test]
async fn a_replica_that_cannot_renew_its_lease_shows_by_an_endpoint_that_it_lives() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.register(0, &a);
    let others: Vec<_> = (0..1_000).map(|at| gost(2, &at.to_string())).collect();
    others.iter().for_each(|gost| c.register(1, gost));
    let renewing = |second: u64, c: &mut Cluster| {
        if second.is_multiple_of(15) {
            c.renew(0, &a);
            others.iter().for_each(|gost| c.renew(1, gost));
        }
    };
    let age = async |c: &Cluster| {
        let renew_time = c.record(&a).await.lease.renew_time;
        c.now.wall.duration_since(renew_time).as_secs()
    };
    c.pass(200, renewing).await;
    c.replicas[0].may_vouch = false;
    c.pass(25, renewing).await;
    let mut oldest = 0;
    for _ in 0..60 {
        c.pass(1, renewing).await;
        oldest = oldest.max(age(&c).await);
    }
    assert!(oldest <= 12, "{oldest} s without a sign of life");
    let (ago, why) = c.replicas[0].core.unvouched(c.now).unwrap();
    assert!(
        ago.as_secs() >= 80 && why.contains("quota"),
        "{ago:?} {why}"
    );
    assert_eq!(holder(&c, &a).await, "r0");
    // What else it writes is as little as before.
    c.replicas[0].may_vouch = true;
    c.pass(15, renewing).await;
    assert!(c.replicas[0].core.unvouched(c.now).is_none());
    c.pass(30, renewing).await;
    assert!(age(&c).await >= 30);
    assert_eq!(c.health(1, &a).unwrap(), "healthy");
}

#[tokio::test]
async fn a_lease_that_is_told_late_or_listed_anew_is_not_taken_for_fresh() {
    for relists in [true, false] {
        let mut c = Cluster::new(2).await;
        let a = gost(1, "a");
        c.register(0, &a);
        c.pass(15, |_, _| {}).await;
        assert_eq!(c.health(1, &a).unwrap(), "healthy");
        // The second hears nothing while the first renews its lease, and dies.
        c.replicas[1].connected = false;
        c.pass(30, |_, _| {}).await;
        c.replicas[0].alive = false;
        c.pass(300, |_, _| {}).await;
        assert_eq!(c.health(1, &a).unwrap(), "holder-silent");
        if relists {
            c.relist(1);
        }
        c.replicas[1].connected = true;
        for second in 0..60 {
            c.pass(1, |_, _| {}).await;
            let health = c.health(1, &a).unwrap();
            assert_eq!(health, "holder-silent", "{second} s, relists: {relists}");
        }
    }
}

#[tokio::test]
async fn a_relist_makes_no_living_replica_doubtful() {
    let mut c = Cluster::new(2).await;
    let a = gost(1, "a");
    c.register(0, &a);
    c.pass(15, |_, _| {}).await;
    for second in 0..60 {
        c.relist(1);
        c.pass(1, |_, c| c.renew(0, &a)).await;
        assert_eq!(c.health(1, &a).unwrap(), "healthy", "after {second} s");
    }
}
