//! The promises to gost, each as a story, told over every store.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::file::File;
use crate::backend::memory::Memory;
use crate::registry::core::Registered;
use crate::registry::testing::setup;
use crate::registry::world::{Gost, World, gost};
use crate::registry::{Limits, Refusal};
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// gost's default renewal interval.
const TTL: Duration = Duration::from_secs(15);

/// Runs each of these stories over each store.
macro_rules! over_every_store {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::World::new(super::Arc::new(super::Memory::new())).await).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $story() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::File::open(folder.path().join("store")).unwrap();
                super::$story(super::World::new(super::Arc::new(store)).await).await;
            })*
        }
    };
}

over_every_store!(
    a_registration_is_offered_and_stored,
    a_deregistered_endpoint_is_gone_at_once,
    silence_releases_then_collects,
    a_slow_tunnel_ttl_is_learnt,
    a_ttl_longer_than_the_base_time_is_learnt_from_a_ghost,
    what_was_learnt_outlives_a_restart,
    an_outage_is_not_learnt,
    a_renewal_takes_a_released_endpoint_back,
    a_renewal_revives_what_was_collected,
    a_renewal_revives_what_was_deleted_by_hand,
    a_deregister_leaves_no_ghost,
    a_late_renew_does_not_revive,
    a_deregister_that_overtook_its_register_absorbs_it,
    a_closed_connection_makes_its_node_suspect,
    a_suspect_is_never_sent_to_its_own_host,
    over_http_a_node_on_the_own_host_must_have_been_heard_lately,
    loopback_is_one_host,
    a_restarted_gost_supersedes_its_previous_life,
    two_nodes_behind_one_address_both_stay,
    a_connected_node_is_no_previous_life,
    a_slow_node_is_not_taken_for_a_previous_life,
    several_nodes_of_one_host_have_addresses_of_their_own,
    what_cannot_be_stored_is_kept_and_stored_later,
    what_died_unstored_is_stored_released,
    what_was_deregistered_unstored_never_comes,
    a_restart_forgets_nothing_and_releases_nothing_at_once,
    after_a_restart_the_heard_come_first,
    a_frozen_process_releases_nothing,
    an_early_renew_claims_what_appears,
    a_moved_endpoint_is_offered_at_its_new_address,
    what_was_never_handed_out_needs_no_delete,
    a_deregister_before_the_store_was_read_counts,
    a_second_deregister_absorbs_no_more_than_the_first,
    many_nodes_falling_silent_are_braked,
    the_brake_stays_while_nodes_come_back_one_by_one,
    a_frozen_process_does_not_loosen_the_brake,
    nodes_whose_connection_closed_are_not_braked,
    a_full_registry_refuses_only_the_new,
);

async fn a_registration_is_offered_and_stored(mut w: World) {
    let a = gost(1, "a");
    assert_eq!(w.register(&a).await, Ok(Registered::Queued));
    assert_eq!(w.told_to(2), ["a"]);
    assert_eq!(w.stored().await, [("a".into(), true)]);
    assert_eq!(
        w.register(&a).await,
        Ok(Registered::Known),
        "once more changes nothing"
    );
}

async fn a_deregistered_endpoint_is_gone_at_once(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.store_up = false;
    w.deregister(&a).await;
    assert!(w.told_to(2).is_empty(), "also while the store is away");
    w.store_up = true;
    w.pass(6 * SECOND).await;
    assert!(w.stored().await.is_empty());
}

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

async fn a_renewal_revives_what_was_collected(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.pass(10 * MINUTE).await;
    assert!(w.stored().await.is_empty());
    w.renew(&a).await;
    assert_eq!(w.told_to(2), ["a"]);
    assert_eq!(w.stored().await, [("a".into(), true)]);
    assert_eq!(w.core.events.counts.restored, 1);
}

async fn a_renewal_revives_what_was_deleted_by_hand(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.delete_by_hand(&a).await;
    assert!(w.told_to(2).is_empty());
    w.renew(&a).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
}

async fn a_deregister_leaves_no_ghost(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.delete_by_hand(&a).await;
    w.deregister(&a).await;
    w.pass(6 * SECOND).await;
    w.renew(&a).await;
    assert!(w.told_to(2).is_empty());
    assert!(w.stored().await.is_empty());
}

async fn a_late_renew_does_not_revive(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.deregister(&a).await;
    w.renew(&a).await;
    w.pass(10 * SECOND).await;
    w.renew(&a).await;
    assert!(w.stored().await.is_empty());
    assert!(w.told_to(2).is_empty());
}

async fn a_deregister_that_overtook_its_register_absorbs_it(mut w: World) {
    let a = gost(1, "a");
    w.deregister(&a).await;
    assert_eq!(w.register(&a).await, Ok(Registered::Absorbed));
    w.renew(&a).await;
    assert!(w.told_to(2).is_empty());
    w.pass(5 * SECOND).await;
    assert_eq!(
        w.register(&a).await,
        Ok(Registered::Queued),
        "5 s later it is a new one"
    );
    // One that was there may come back at once.
    w.deregister(&a).await;
    assert_eq!(w.register(&a).await, Ok(Registered::Queued));
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

async fn what_cannot_be_stored_is_kept_and_stored_later(mut w: World) {
    let a = gost(1, "a");
    w.store_up = false;
    assert_eq!(w.register(&a).await, Ok(Registered::Queued));
    assert_eq!(w.told_to(2), ["a"]);
    w.pass_renewing(5 * MINUTE, std::slice::from_ref(&a), TTL)
        .await;
    assert_eq!(w.told_to(2), ["a"]);
    assert_eq!(w.core.queue.len(), 1);
    w.store_up = true;
    w.pass_renewing(10 * SECOND, &[a], TTL).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    assert!(w.core.queue.is_empty());
}

async fn what_died_unstored_is_stored_released(mut w: World) {
    let a = gost(1, "a");
    w.store_up = false;
    w.register(&a).await.unwrap();
    w.pass(2 * MINUTE).await;
    w.store_up = true;
    w.pass(10 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
    w.pass(MINUTE).await;
    assert!(w.stored().await.is_empty());
}

async fn what_was_deregistered_unstored_never_comes(mut w: World) {
    let a = gost(1, "a");
    w.store_up = false;
    w.register(&a).await.unwrap();
    w.pass(10 * SECOND).await;
    w.deregister(&a).await;
    w.store_up = true;
    w.pass(MINUTE).await;
    assert!(w.stored().await.is_empty());
    assert!(w.told_to(2).is_empty());
    assert!(w.core.queue.is_empty());
}

async fn a_restart_forgets_nothing_and_releases_nothing_at_once(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.restart_after(30 * SECOND).await;
    assert_eq!(w.told_to(2), ["a"]);
    w.pass(149 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    w.renew(&a).await;
    w.pass(59 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), true)]);
    w.pass(2 * SECOND).await;
    assert_eq!(
        w.stored().await,
        [("a".into(), false)],
        "silent for its base time again"
    );
}

async fn after_a_restart_the_heard_come_first(mut w: World) {
    let (a, b) = (gost(1, "a"), gost(2, "b"));
    w.register(&a).await.unwrap();
    w.register(&b).await.unwrap();
    w.restart_after(SECOND).await;
    w.renew(&b).await;
    for _ in 0..20 {
        assert_eq!(w.told_to(3), ["b", "a"]);
    }
    assert!(
        w.told_to(1) == ["b"],
        "nobody knows whether 10.0.0.1 still runs node-1"
    );
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

async fn an_early_renew_claims_what_appears(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.pass(70 * SECOND).await;
    assert_eq!(w.stored().await, [("a".into(), false)]);
    // A registry that has not read its store yet hears of it first.
    let mut next = World::just_started(Arc::new(Memory::new()), setup(), w.now).await;
    next.core.renew(next.now, &a.caller, &a.key);
    assert!(next.told_to(2).is_empty());
    let entry = w.core.index.get(&a.key).unwrap();
    let stored = crate::backend::Stored {
        record: crate::record::Record::Endpoint(Arc::clone(&entry.record)),
        revision: crate::backend::Revision(99),
    };
    next.core
        .apply(next.now, crate::backend::Change::Put(stored));
    assert_eq!(next.told_to(2), ["a"]);
    let (_, write) = next.core.next_write(next.now).unwrap();
    let crate::backend::Write::Put(crate::record::Record::Endpoint(record), _) = write else {
        panic!("{write:?}");
    };
    assert!(record.lease.is_held(), "taken over");
}

async fn a_moved_endpoint_is_offered_at_its_new_address(mut w: World) {
    let mut a = gost(1, "a");
    w.register(&a).await.unwrap();
    a.address = ":8080".into();
    assert_eq!(w.register(&a).await, Ok(Registered::Queued));
    let caller = gost(2, "x").caller;
    let told = w.core.get(w.now, &caller, &a.key.tunnel).unwrap();
    assert_eq!(told[0].endpoint.address.to_string(), "10.0.0.1:8080");
    assert_eq!(told.len(), 1);
    assert_eq!(w.stored().await.len(), 1);
}

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

async fn what_was_never_handed_out_needs_no_delete(mut w: World) {
    w.store_up = false;
    w.register(&gost(1, "first")).await.unwrap();
    for at in 0..50 {
        let a = gost(1, &at.to_string());
        w.announce(&a).unwrap();
        w.core.deregister(w.now, &a.caller, &a.key);
    }
    assert_eq!(w.core.queue.len(), 1, "the queue is not filled by churn");
}

async fn a_deregister_before_the_store_was_read_counts(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    let entry = w.core.index.get(&a.key).unwrap();
    let stored = crate::backend::Stored {
        record: crate::record::Record::Endpoint(Arc::clone(&entry.record)),
        revision: entry.revision.unwrap(),
    };
    let mut core = crate::registry::core::Core::new(setup(), w.now);
    core.deregister(w.now, &a.caller, &a.key);
    let everything = crate::backend::Change::Reset(vec![stored.clone()], stored.revision);
    core.apply(w.now, everything);
    assert!(
        core.get(w.now, &a.caller, &a.key.tunnel)
            .unwrap()
            .is_empty()
    );
    let (_, write) = core.next_write(w.now).unwrap();
    assert_eq!(
        write,
        crate::backend::Write::Delete(stored.record.key(), stored.revision)
    );
}

async fn a_second_deregister_absorbs_no_more_than_the_first(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.deregister(&a).await;
    w.deregister(&a).await;
    assert_eq!(w.register(&a).await, Ok(Registered::Queued));
    assert_eq!(w.told_to(2), ["a"]);
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

async fn a_full_registry_refuses_only_the_new(mut w: World) {
    w.core.setup.limits = Limits {
        endpoints: 4,
        per_tunnel: 3,
        per_node: 2,
        queue: 100,
    };
    let (a, b) = (gost(1, "a"), gost(1, "b"));
    w.register(&a).await.unwrap();
    w.register(&b).await.unwrap();
    assert_eq!(w.register(&gost(1, "c")).await, Err(Refusal::NodeFull(2)));
    w.register(&gost(2, "d")).await.unwrap();
    assert_eq!(w.register(&gost(3, "e")).await, Err(Refusal::TunnelFull(3)));
    let mut other = gost(3, "f");
    other.key.tunnel = "u".parse().unwrap();
    w.register(&other).await.unwrap();
    other.key.connector = "g".parse().unwrap();
    assert_eq!(w.register(&other).await, Err(Refusal::Full(4)));
    assert_eq!(
        w.register(&a).await,
        Ok(Registered::Known),
        "the known are renewed"
    );
    assert_eq!(w.stored().await.len(), 4);

    w.core.setup.limits = Limits {
        queue: 1,
        ..Limits::default()
    };
    w.store_up = false;
    w.register(&gost(4, "h")).await.unwrap();
    assert_eq!(w.register(&gost(4, "i")).await, Err(Refusal::QueueFull(1)));
    assert_eq!(w.told_to(9).len(), 4, "what waits is offered");
}

#[tokio::test]
async fn before_the_store_was_read_get_refuses() {
    let mut core = crate::registry::core::Core::new(setup(), Now::read());
    let a = gost(1, "a");
    let tunnel = a.key.tunnel.clone();
    assert_eq!(
        core.get(Now::read(), &a.caller, &tunnel).unwrap_err(),
        Refusal::NotReady
    );
}
