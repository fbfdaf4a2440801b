//! Many nodes that fall silent together.

use super::*;

over_every_store!(
    many_nodes_falling_silent_are_braked,
    the_brake_stays_while_nodes_come_back_one_by_one,
    a_frozen_process_does_not_loosen_the_brake,
    nodes_whose_connection_closed_are_not_braked,
);

fn gosts(hosts: std::ops::RangeInclusive<u8>) -> Vec<Gost> {
    hosts.map(|host| gost(host, &host.to_string())).collect()
}

async fn many_nodes_falling_silent_are_braked(mut w: World) {
    let (dead, alive) = (gosts(1..=4), gosts(5..=20));
    for gost in dead.iter().chain(&alive) {
        w.register(gost).await.unwrap();
    }
    // 4 of 20 is more than 15 %.
    w.pass_renewing(10 * MINUTE, &alive, TTL).await;
    assert_eq!(w.stored().await.len(), 20, "they wait");
    assert!(w.plan.braked_for().is_some());
    w.pass_renewing(3 * MINUTE, &alive, TTL).await;
    assert_eq!(w.stored().await.len(), 16, "10 min at most");
    assert!(w.plan.braked_for().is_none());
}

async fn the_brake_stays_while_nodes_come_back_one_by_one(mut w: World) {
    let (dead, alive) = (gosts(1..=4), gosts(5..=20));
    for gost in dead.iter().chain(&alive) {
        w.register(gost).await.unwrap();
    }
    w.pass_renewing(5 * MINUTE, &alive, TTL).await;
    w.renew(&dead[0]).await;
    let heard: Vec<_> = alive.iter().chain(&dead[..1]).cloned().collect();
    w.pass_renewing(MINUTE, &heard, TTL).await;
    assert_eq!(w.stored().await.len(), 20, "the others may follow");
    dead.iter()
        .for_each(|gost| w.core.renew(w.now, &gost.caller, &gost.key));
    let heard: Vec<_> = alive.iter().chain(&dead).cloned().collect();
    w.pass_renewing(MINUTE, &heard, TTL).await;
    assert!(w.plan.braked_for().is_none());
}

async fn a_frozen_process_does_not_loosen_the_brake(mut w: World) {
    let (dead, alive) = (gosts(1..=4), gosts(5..=20));
    for gost in dead.iter().chain(&alive) {
        w.register(gost).await.unwrap();
    }
    w.pass_renewing(3 * MINUTE, &alive, TTL).await;
    w.freeze(12 * MINUTE);
    w.pass_renewing(MINUTE, &alive, TTL).await;
    assert_eq!(w.stored().await.len(), 20);
}

async fn nodes_whose_connection_closed_are_not_braked(mut w: World) {
    let (dead, alive) = (gosts(1..=4), gosts(5..=20));
    for gost in dead.iter().chain(&alive) {
        w.register(gost).await.unwrap();
        w.renew(gost).await;
    }
    dead.iter().for_each(|gost| w.hang_up(gost));
    w.pass_renewing(125 * SECOND, &alive, TTL).await;
    assert_eq!(w.stored().await.len(), 16);
}
