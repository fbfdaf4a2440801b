//! What the four calls promise.

use super::*;

over_every_store!(
    a_registration_is_offered_and_stored,
    a_deregistered_endpoint_is_gone_at_once,
    a_late_renew_does_not_revive,
    a_deregister_that_overtook_its_register_absorbs_it,
    a_second_deregister_absorbs_no_more_than_the_first,
    a_moved_endpoint_is_offered_at_its_new_address,
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

async fn a_second_deregister_absorbs_no_more_than_the_first(mut w: World) {
    let a = gost(1, "a");
    w.register(&a).await.unwrap();
    w.deregister(&a).await;
    w.deregister(&a).await;
    assert_eq!(w.register(&a).await, Ok(Registered::Queued));
    assert_eq!(w.told_to(2), ["a"]);
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
