//! Pods that end, and others that have their addresses.

use super::*;
use crate::pods::PodChange;
use crate::registry::cluster::pod;

#[tokio::test]
async fn a_pod_that_terminates_goes_last_and_one_that_is_gone_not_at_all() {
    let mut c = Cluster::new(2).await;
    let (a, b) = (gost(1, "a"), gost(2, "b"));
    c.pod(&PodChange::Put(pod(1, 1, false)));
    c.register(0, &a);
    c.register(0, &b);
    c.settle().await;
    let stored = c.record(&a).await;
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
    let stored = c.record(&a).await;
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
