//! What survives: restarts, outages of the store, deletions, late calls.

use super::*;

over_every_store!(
    a_renewal_revives_what_was_collected,
    a_renewal_revives_what_was_deleted_by_hand,
    a_deregister_leaves_no_ghost,
    what_cannot_be_stored_is_kept_and_stored_later,
    what_died_unstored_is_stored_released,
    what_was_deregistered_unstored_never_comes,
    what_was_never_handed_out_needs_no_delete,
    a_deregister_before_the_store_was_read_counts,
    a_restart_forgets_nothing_and_releases_nothing_at_once,
    after_a_restart_the_heard_come_first,
    an_early_renew_claims_what_appears,
);

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
    let everything =
        crate::backend::Change::Reset(Kind::Endpoint, vec![stored.clone()], stored.revision);
    core.apply(w.now, everything);
    let nobody = crate::backend::Change::Reset(Kind::Replica, Vec::new(), stored.revision);
    core.apply(w.now, nobody);
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
