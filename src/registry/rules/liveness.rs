//! Who counts as alive, and what silence leads to.

use super::*;

over_every_store!(
    silence_releases_then_collects,
    a_slow_tunnel_ttl_is_learnt,
    a_ttl_longer_than_the_base_time_is_learnt_from_a_ghost,
    what_was_learnt_outlives_a_restart,
    an_outage_is_not_learnt,
    a_renewal_takes_a_released_endpoint_back,
    a_closed_connection_makes_its_node_suspect,
    a_suspect_is_never_sent_to_its_own_host,
    over_http_a_node_on_the_own_host_must_have_been_heard_lately,
    a_suspect_elsewhere_is_offered_to_whoever_announced_it,
    loopback_is_one_host,
    a_frozen_process_releases_nothing,
);

async fn silence_releases_then_collects(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.pass(59 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    w.pass(SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
    assert_eq!(
        w.told_to(2),
        ["a"],
        "released: offered until it is collected"
    );
    w.pass(59 * SECOND).await;
    assert_eq!(w.stored().await.len(), 1);
    w.pass(2 * SECOND).await;
    assert!(w.stored().await.is_empty());
    assert!(w.told_to(2).is_empty());
}

async fn a_slow_tunnel_ttl_is_learnt(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    // Released, but renewed before it is collected.
    w.pass_renewing(4 * MINUTE, &[a], 110 * SECOND).await;
    // From now on four times 110 s.
    w.pass(4 * 110 * SECOND - 20 * SECOND - SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    w.pass(SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
}

async fn a_ttl_longer_than_the_base_time_is_learnt_from_a_ghost(mut w: World) {
    let a = gost(1, "a");
    let ttl = 5 * MINUTE;
    w.register(&a).await.unwrap();
    // Released after 1 min, collected after 2, brought back after 5: and from
    // then on it is known.
    w.pass_renewing(ttl, std::slice::from_ref(&a), ttl).await;
    assert_eq!(w.core.events.counts.restored, 1);
    w.pass_renewing(6 * ttl, std::slice::from_ref(&a), ttl)
        .await;
    assert_eq!(w.core.events.counts.restored, 1);
    assert_eq!(w.core.events.counts.released, 1);
}

async fn what_was_learnt_outlives_a_restart(mut w: World) {
    let a = gost(1, "a");
    let ttl = 4 * MINUTE;
    w.register(&a).await.unwrap();
    w.pass_renewing(3 * ttl, std::slice::from_ref(&a), ttl)
        .await;
    w.restart_after(SECOND).await;
    w.pass(ttl - SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
}

async fn an_outage_is_not_learnt(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.pass_renewing(MINUTE, std::slice::from_ref(&a), TTL).await;
    w.pass(9 * MINUTE).await;
    w.pass_renewing(40 * MINUTE, std::slice::from_ref(&a), TTL)
        .await;
    w.pass(61 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
}

async fn a_renewal_takes_a_released_endpoint_back(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.pass(100 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
    w.renew(&a).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    w.pass_renewing(10 * MINUTE, &[a], TTL).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
}

async fn a_closed_connection_makes_its_node_suspect(mut w: World) {
    let (a, b) = (gost(1, "a"), gost(2, "b"));
    w.register(&a).await.unwrap();
    w.register(&b).await.unwrap();
    w.renew(&a).await;
    w.hang_up(&a);
    for _ in 0..20 {
        assert_eq!(w.told_to(3), ["b", "a"], "suspect: still offered, last");
    }
    w.renew(&a.clone().over(11)).await;
    let first: std::collections::BTreeSet<_> = (0..50).map(|_| w.told_to(3).remove(0)).collect();
    assert_eq!(first.len(), 2, "healthy again, load spreads");
    w.hang_up(&a.over(11));
    assert_eq!(w.told_to(3).len(), 2);
    w.pass_renewing(10 * MINUTE, &[b], TTL).await;
    assert_eq!(w.told_to(3), ["b"]);
}

async fn a_suspect_is_never_sent_to_its_own_host(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.renew(&a).await;
    assert_eq!(
        w.told_to(1),
        ["a"],
        "its connection is open: another node of the host may ask"
    );
    w.hang_up(&a);
    assert!(w.told_to(1).is_empty());
    assert_eq!(w.told_to(2), ["a"]);
}

async fn over_http_a_node_on_the_own_host_must_have_been_heard_lately(mut w: World) {
    let a = gost(1, "a").over_http();
    w.register(&a).await.unwrap();
    w.hang_up(&a);
    assert_eq!(
        w.told_to(1),
        ["a"],
        "over HTTP a closed connection says nothing"
    );
    w.pass(30 * SECOND).await;
    assert_eq!(w.told_to(1), ["a"]);
    w.pass(SECOND).await;
    assert!(w.told_to(1).is_empty());
    assert_eq!(w.told_to(2), ["a"]);
}

async fn a_suspect_elsewhere_is_offered_to_whoever_announced_it(mut w: World) {
    let mut a = gost(1, "a");
    a.address = "10.42.0.100:80".into();
    w.register(&a).await.unwrap();
    w.renew(&a).await;
    w.hang_up(&a);
    assert_eq!(w.told_to(1), ["a"], "its address is another host's");
}

async fn loopback_is_one_host(mut w: World) {
    let mut a = gost(1, "a");
    a.caller.peer = [127, 0, 0, 1].into();
    a.caller.host = a.caller.peer;
    a.address = "127.0.0.11:80".into();
    w.register(&a).await.unwrap();
    w.renew(&a).await;
    assert_eq!(w.told_to_peer([127, 0, 0, 12].into()), ["a"]);
    w.hang_up(&a);
    assert!(w.told_to_peer([127, 0, 0, 12].into()).is_empty());
}

async fn a_frozen_process_releases_nothing(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.pass(50 * SECOND).await;
    w.freeze(60 * MINUTE);
    w.pass(5 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    w.pass(10 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
}
