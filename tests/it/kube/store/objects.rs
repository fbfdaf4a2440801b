//! What writes make of objects, and what is made of objects by others' hands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tunnel_registry::backend::kubernetes::{Kubernetes, Owner, Settings};
use tunnel_registry::backend::{Backend as _, Change, Revision, Stored, Write, WriteError};
use tunnel_registry::lease::{Lease, Released};
use tunnel_registry::record::{EndpointRecord, Key, Kind, Record};
use tunnel_registry::resources::TunnelEndpoint;
use tunnel_registry::resources::replica_lease::lease_name;
use tunnel_registry::resources::tunnel_endpoint::name::object_name;
use tunnel_registry::resources::tunnel_endpoint::{
    HOLDER, ORIGIN, POD_UID, RELEASED, RENEW_INTERVAL,
};
use uuid::Uuid;

use super::contract::{Following, everything, next, record, replica};
use super::{client, store};
use crate::kube::env::Env;

fn endpoint(record: &Record) -> EndpointRecord {
    match record {
        Record::Endpoint(record) => (**record).clone(),
        other => panic!("{}", other.key()),
    }
}

fn full() -> EndpointRecord {
    let mut full = endpoint(&record("t", "c", 1));
    full.endpoint.pod = Some(Uuid::from_u128(7));
    full.endpoint.origin = Some([10, 0, 0, 1].into());
    full.endpoint.attributes = [("a", "1"), ("b", "2")]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    full.lease.interval_seconds = Some(120);
    full
}

async fn apply(env: &Env, name: &str, patch: Value) {
    let patch = Patch::Merge(patch);
    let params = PatchParams::default();
    env.endpoints().patch(name, &params, &patch).await.unwrap();
}

#[tokio::test]
async fn a_release_removes_what_a_takeover_puts_back() {
    let env = Env::start().await;
    let store = store(&env).await;
    let mut record = full();
    let name = object_name(&record.endpoint.key);
    let write = Write::Create(Record::Endpoint(Arc::new(record.clone())));
    let created = store.write(write).await.unwrap();
    let object = env.endpoints().get(&name).await.unwrap();
    assert_eq!(object.to_record().unwrap(), record);
    let managers = object
        .managed_fields()
        .iter()
        .map(|one| one.manager.clone());
    assert_eq!(
        managers.collect::<Vec<_>>(),
        [Some("tunnel-registry-plugin".to_owned())]
    );
    // Somebody else's are not touched.
    let theirs =
        json!({ "metadata": { "labels": { "mine": "1" }, "annotations": { "mine": "2" } } });
    apply(&env, &name, theirs).await;
    let stale = store.write(Write::Delete(
        Record::Endpoint(Arc::new(record.clone())).key(),
        created,
    ));
    let Err(WriteError::Conflict(Some(current))) = stale.await else {
        panic!("it had changed");
    };

    let time = "2026-02-02T00:00:00Z".parse().unwrap();
    record.lease = Lease::released(Released::Silent, time, Duration::from_secs(60));
    record.endpoint.origin = None;
    record.endpoint.pod = None;
    record.endpoint.attributes = [("b".into(), "3".into())].into();
    let put = Write::Put(Record::Endpoint(Arc::new(record.clone())), current.revision);
    let released = store.write(put).await.unwrap();
    let object = env.endpoints().get(&name).await.unwrap();
    assert_eq!(object.to_record().unwrap(), record);
    assert_eq!(object.resource_version(), Some(released.to_string()));
    for gone in [HOLDER, ORIGIN, POD_UID, RENEW_INTERVAL] {
        assert!(!object.annotations().contains_key(gone), "{gone}");
    }
    assert_eq!(object.annotations()["mine"], "2");
    assert_eq!(object.labels()["mine"], "1");

    record.lease = Lease::held("other".into(), time, Duration::from_secs(60));
    record.endpoint.attributes = [].into();
    let put = Write::Put(Record::Endpoint(Arc::new(record.clone())), released);
    store.write(put).await.unwrap();
    let object = env.endpoints().get(&name).await.unwrap();
    assert_eq!(object.to_record().unwrap(), record);
    assert!(!object.annotations().contains_key(RELEASED));
}

/// What a replica does with its lease: once, and again should it have been changed.
async fn vouch(store: &Kubernetes, lease: &Record, known: Option<Revision>) -> Revision {
    let mut write = match known {
        None => Write::Create(lease.clone()),
        Some(revision) => Write::Put(lease.clone(), revision),
    };
    for _ in 0..2 {
        write = match store.write(write).await {
            Ok(revision) => return revision,
            Err(WriteError::Conflict(Some(stored))) => Write::Put(lease.clone(), stored.revision),
            Err(why) => panic!("{why}"),
        };
    }
    panic!("it was changed again");
}

#[tokio::test]
async fn a_lease_that_was_mangled_by_hand_is_restored_by_its_replica() {
    let env = Env::start().await;
    let store = store(&env).await;
    let leases = env.api::<LeaseObject>();
    let (lease, name) = (replica("r", 3), lease_name("r"));
    let component = "tunnelregistry.io/component";
    let identity = "tunnelregistry.io/identity";
    // Its name was taken before it came.
    let other = json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "x" } });
    let other = serde_json::from_value(other).unwrap();
    leases.create(&PostParams::default(), &other).await.unwrap();
    let mut known = None;
    for mangled in [
        json!({}),
        json!({ "metadata": { "labels": { component: null } } }),
        json!({ "metadata": { "annotations": { identity: null } } }),
        json!({ "metadata": { "annotations": { identity: "other" } } }),
        json!({ "metadata": { "annotations": { "tunnelregistry.io/suspects": "none" } } }),
        json!({ "spec": { "holderIdentity": "other", "renewTime": null } }),
        json!({ "spec": null, "metadata": { "labels": null, "annotations": null } }),
    ] {
        let patch = Patch::Merge(mangled.clone());
        let params = PatchParams::default();
        leases.patch(&name, &params, &patch).await.unwrap();
        // Whether or not the watch has told that it is gone.
        let revision = match known {
            Some(known) => vouch(&store, &lease, Some(known)).await,
            None => vouch(&store, &lease, None).await,
        };
        let object = leases.get(&name).await.unwrap();
        assert_eq!(object.labels()[component], "replica", "{mangled}");
        let stored = tunnel_registry::resources::replica_lease::to_record(&object);
        assert_eq!(Record::Replica(Arc::new(stored.unwrap())), lease);
        assert_eq!(object.resource_version(), Some(revision.to_string()));
        known = match known {
            Some(_) => None,
            None => Some(revision),
        };
    }
}

#[tokio::test]
async fn a_stopped_replica_has_no_holder() {
    let env = Env::start().await;
    let store = store(&env).await;
    let (alive, stopped) = (replica("r", 3), replica("r", 2));
    let created = store.write(Write::Create(alive.clone())).await.unwrap();
    let leases = Api::<LeaseObject>::namespaced(env.client.clone(), &env.namespace);
    let holder = async || {
        let lease = leases.get(&lease_name("r")).await.unwrap();
        lease.spec.unwrap().holder_identity
    };
    assert_eq!(holder().await.as_deref(), Some("r"));
    store.write(Write::Put(stopped, created)).await.unwrap();
    assert_eq!(holder().await.as_deref(), Some(""));

    // Leases of others are none of ours.
    let other = json!({ "metadata": { "name": "other" }, "spec": { "holderIdentity": "x" } });
    let other = serde_json::from_value(other).unwrap();
    leases.create(&PostParams::default(), &other).await.unwrap();
    let broken = json!({ "metadata": {
        "name": "broken", "labels": { "tunnelregistry.io/component": "replica" },
    } });
    let broken = serde_json::from_value(broken).unwrap();
    leases
        .create(&PostParams::default(), &broken)
        .await
        .unwrap();
    let all = everything(&store).await;
    assert_eq!(all.len(), 1);
    let Record::Replica(replica) = &all[&Key::Replica("r".into())].record else {
        panic!("{all:?}")
    };
    assert!(replica.stopped);
    let problems = store.problems();
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert_eq!(
        (&*problem.name, problem.kind),
        ("broken", Some(Kind::Replica))
    );
    assert!(problem.uid.is_some());
}

#[tokio::test]
async fn a_pod_owns_what_it_registered_in_its_namespace() {
    let env = Env::start().await;
    let uid = Uuid::from_u128(7);
    for (namespace, owned) in [(&*env.namespace, true), ("elsewhere", false)] {
        let store = Kubernetes::new(Settings {
            client: client(&env).await,
            namespace: env.namespace.clone(),
            owner: Some(Owner {
                namespace: namespace.into(),
                name: "gost-0".into(),
                uid,
            }),
            sessions: false,
            services: false,
        });
        let mine = Record::Endpoint(Arc::new(full()));
        let name = object_name(&full().endpoint.key);
        let created = store.write(Write::Create(mine.clone())).await.unwrap();
        let owners = env
            .endpoints()
            .get(&name)
            .await
            .unwrap()
            .owner_references()
            .to_vec();
        assert_eq!(owners.len(), usize::from(owned));
        if let [owner] = &owners[..] {
            assert_eq!((&*owner.kind, &*owner.name), ("Pod", "gost-0"));
            assert_eq!(owner.uid, uid.to_string());
            assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));
        }
        store
            .write(Write::Delete(mine.key(), created))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn another_object_of_the_same_name_is_not_deleted() {
    let env = Env::start().await;
    let store = store(&env).await;
    let record = record("t", "c", 1);
    let mut watch = Following::begin(&store, store.watch()).await;
    let first = store.write(Write::Create(record.clone())).await.unwrap();
    watch.change().await;
    let api = env.endpoints();
    let name = object_name(&endpoint(&record).endpoint.key);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    let object = TunnelEndpoint::from_record(&endpoint(&record)).unwrap();
    let again = api.create(&PostParams::default(), &object).await.unwrap();
    let revision = Revision(again.resource_version().unwrap().parse().unwrap());
    let delete = store.write(Write::Delete(record.key(), first)).await;
    let stored = Stored {
        record: record.clone(),
        revision,
    };
    assert_eq!(delete, Err(WriteError::Conflict(Some(Box::new(stored)))));
    // Whatever the watch knew of the one before.
    store
        .write(Write::Delete(record.key(), revision))
        .await
        .unwrap();
    assert!(api.get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn what_waits_for_a_finalizer_is_gone_and_in_the_way() {
    let env = Env::start().await;
    let store = store(&env).await;
    let record = record("t", "c", 1);
    let name = object_name(&endpoint(&record).endpoint.key);
    let mut watch = Following::begin(&store, store.watch()).await;
    store.write(Write::Create(record.clone())).await.unwrap();
    apply(
        &env,
        &name,
        json!({ "metadata": { "finalizers": ["example.com/wait"] } }),
    )
    .await;
    watch.change().await;
    let Change::Put(held) = watch.change().await else {
        panic!("the finalizer was not told")
    };
    store
        .write(Write::Delete(record.key(), held.revision))
        .await
        .unwrap();
    assert!(matches!(watch.change().await, Change::Delete(..)));
    assert!(everything(&store).await.is_empty());
    let put = store.write(Write::Put(record.clone(), held.revision)).await;
    let Err(WriteError::Refused(why)) = put else {
        panic!("{put:?}")
    };
    assert!(why.contains(&name) && why.contains("finalizer"), "{why}");
    let created = store.write(Write::Create(record.clone())).await;
    assert_eq!(created, Err(WriteError::Refused(why)));
    store
        .write(Write::Delete(record.key(), held.revision))
        .await
        .unwrap();

    apply(&env, &name, json!({ "metadata": { "finalizers": null } })).await;
    store.write(Write::Create(record)).await.unwrap();
    let told = watch.change().await;
    assert!(matches!(told, Change::Put(_)), "{told:?}");
}

#[tokio::test]
async fn objects_made_by_hand_are_served_under_any_name() {
    let env = Env::start().await;
    let store = store(&env).await;
    let record = record("t", "c", 1);
    let api = env.endpoints();
    let by_hand = async |name: &str, port: u16| {
        let mut object =
            TunnelEndpoint::from_record(&endpoint(&super::contract::record("t", "c", port)));
        let object = object.as_mut().unwrap();
        object.metadata.name = Some(name.into());
        object.metadata.annotations = None;
        api.create(&PostParams::default(), object).await.unwrap();
    };
    // Not a `Following`: what reappears has an old revision.
    let mut watch = store.watch();
    let mut told = async || next(&mut watch).await.unwrap().unwrap();
    for _ in Kind::ALL.into_iter().filter(|kind| store.keeps(*kind)) {
        assert!(matches!(told().await, Change::Reset(..)));
    }
    by_hand("b", 1).await;
    let Change::Put(first) = told().await else {
        panic!("it was not told")
    };
    assert_eq!(endpoint(&first.record).lease.holder, None);
    // Whoever registers the same meets it, and takes it over in its place.
    let created = store.write(Write::Create(record.clone())).await;
    assert_eq!(
        created,
        Err(WriteError::Conflict(Some(Box::new(first.clone()))))
    );
    let put = store
        .write(Write::Put(record.clone(), first.revision))
        .await
        .unwrap();
    assert_eq!(
        api.get("b").await.unwrap().to_record(),
        Ok(endpoint(&record))
    );
    let taken = Stored {
        record: record.clone(),
        revision: put,
    };
    assert_eq!(told().await, Change::Put(taken.clone()));

    // A second one by hand: the least name is served.
    by_hand("a", 2).await;
    assert!(matches!(told().await, Change::Put(stored) if stored.revision > put));
    let problems = store.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].name, "b");
    assert!(
        problems[0].text.contains("same identity as a"),
        "{problems:?}"
    );
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(matches!(told().await, Change::Delete(..)));
    assert_eq!(told().await, Change::Put(taken));
    assert_eq!(store.problems(), []);

    store.write(Write::Delete(record.key(), put)).await.unwrap();
    assert!(api.get_opt("b").await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_read_is_skipped_and_told() {
    let env = Env::start().await;
    let store = store(&env).await;
    let [good, bad] = ["good", "bad"].map(|connector| record("t", connector, 1));
    let mut revisions = HashMap::new();
    for record in [&good, &bad] {
        let revision = store.write(Write::Create(record.clone())).await.unwrap();
        revisions.insert(record.key(), revision);
    }
    let mut watch = Following::begin(&store, store.watch()).await;
    let name = object_name(&endpoint(&bad).endpoint.key);
    let annotate = async |value: &str| {
        let annotations = json!({ "tunnelregistry.io/renew-time": value });
        apply(
            &env,
            &name,
            json!({ "metadata": { "annotations": annotations } }),
        )
        .await;
    };
    annotate("yesterday").await;
    let told = watch.change().await;
    assert!(matches!(told, Change::Delete(key, _) if key == bad.key()));
    let left = everything(&store).await;
    assert!(left.contains_key(&good.key()) && left.len() == 1);
    let problems = store.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].name, name);
    assert!(
        problems[0].text.contains("renew-time must be a time"),
        "{problems:?}"
    );
    // It is in the way, and named.
    for write in [
        Write::Create(bad.clone()),
        Write::Put(bad.clone(), revisions[&bad.key()]),
    ] {
        let written = store.write(write).await;
        let Err(WriteError::Refused(why)) = written else {
            panic!("{written:?}")
        };
        assert!(why.contains(&name) && why.contains("renew-time"), "{why}");
    }
    annotate("2026-02-02T00:00:00Z").await;
    assert!(matches!(watch.change().await, Change::Put(_)));
    assert_eq!(everything(&store).await.len(), 2);
    assert_eq!(store.problems(), []);
}
