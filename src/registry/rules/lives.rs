//! gosts that restart, and gosts that share an address.

use super::*;

over_every_store!(
    a_restarted_gost_supersedes_its_previous_life,
    two_nodes_behind_one_address_both_stay,
    a_connected_node_is_no_previous_life,
    a_slow_node_is_not_taken_for_a_previous_life,
    several_nodes_of_one_host_have_addresses_of_their_own,
);

async fn a_restarted_gost_supersedes_its_previous_life(mut w: World) {
    let old = gost(1, "old").over_http();
    let new = gost(1, "new").at_node("next").over(7);
    w.register(&old).await.unwrap();
    w.pass_renewing(MINUTE, std::slice::from_ref(&old), TTL)
        .await;
    w.register(&new).await.unwrap();
    assert_eq!(w.told_to(2), ["new", "old"]);
    w.pass_renewing(29 * SECOND, std::slice::from_ref(&new), TTL)
        .await;
    assert_eq!(w.told_to(2), ["new", "old"]);
    w.pass_renewing(2 * SECOND, &[new], SECOND).await;
    assert_eq!(w.told_to(2), ["new"]);
    assert_eq!(w.stored().await, [("new".into(), true)]);
    assert_eq!(w.core.events.counts.superseded, 1);
}

async fn two_nodes_behind_one_address_both_stay(mut w: World) {
    let one = gost(1, "one");
    let two = gost(1, "two").at_node("other").over(7);
    w.register(&one).await.unwrap();
    w.register(&two).await.unwrap();
    let both = [one, two.clone()];
    w.pass_renewing(5 * MINUTE, &both, TTL).await;
    assert_eq!(w.stored().await.len(), 2);
    // Known to share the address, the one does not challenge the other again.
    let mut third = two;
    third.key.connector = "third".parse().unwrap();
    w.register(&third).await.unwrap();
    let first: std::collections::BTreeSet<_> = (0..80).map(|_| w.told_to(2).remove(0)).collect();
    assert_eq!(first.len(), 3);
}

async fn a_connected_node_is_no_previous_life(mut w: World) {
    let slow = gost(1, "slow");
    let quick = gost(1, "quick").at_node("other").over(7);
    w.register(&slow).await.unwrap();
    w.pass(5 * SECOND).await;
    w.register(&quick).await.unwrap();
    w.pass_renewing(50 * SECOND, &[quick], TTL).await;
    assert_eq!(w.stored().await.len(), 2);
    assert_eq!(w.core.events.counts.superseded, 0);
}

async fn a_slow_node_is_not_taken_for_a_previous_life(mut w: World) {
    let slow = gost(1, "slow").over_http();
    let quick = gost(1, "quick").at_node("other").over(7).over_http();
    w.register(&slow).await.unwrap();
    w.pass(5 * SECOND).await;
    w.register(&quick).await.unwrap();
    // Its interval is not known yet: it has the base time.
    w.pass_renewing(54 * SECOND, std::slice::from_ref(&quick), TTL)
        .await;
    w.renew(&slow).await;
    w.pass_renewing(55 * SECOND, &[quick], TTL).await;
    assert_eq!(w.core.events.counts.superseded, 0);
    assert_eq!(w.stored().await.len(), 2);
}

async fn several_nodes_of_one_host_have_addresses_of_their_own(mut w: World) {
    let one = gost(1, "one");
    let mut two = gost(1, "two").at_node("other").over(7);
    two.address = ":81".into();
    w.register(&one).await.unwrap();
    w.register(&two).await.unwrap();
    w.pass(31 * SECOND).await;
    assert_eq!(
        w.stored().await.len(),
        2,
        "neither is the other's previous life"
    );
}
