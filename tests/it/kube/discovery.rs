//! What the API server makes of a `DiscoveryService` and a `DiscoveryInstance`, and
//! what a person sees of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tunnel_registry::backend::{Backend as _, Change, Write, WriteError};
use tunnel_registry::discoverd::meta::Json;
use tunnel_registry::discoverd::record::ServiceMeta;
use tunnel_registry::discoverd::{
    Instance, InstanceId, InstanceRecord, LeaderType, ServiceName, ServiceRecord,
};
use tunnel_registry::lease::Lease;
use tunnel_registry::record::{Kind, Record};
use tunnel_registry::resources::{
    DiscoveryInstance, DiscoveryService, discovery_instance, discovery_service,
};

use super::env::Env;
use super::kubectl::{kubectl, words};
use super::objects::answer;
use super::store;
use super::tools::{exists, say};
use crate::contract::{Following, everything, instance, next, service};

fn raw<K: kube::Resource<DynamicType = ()>>(env: &Env) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

fn object<K: kube::Resource<DynamicType = ()>>(name: &str, spec: Value) -> DynamicObject {
    let resource = ApiResource::erase::<K>(&());
    DynamicObject::new(name, &resource).data(json!({ "spec": spec }))
}

/// Creates an object; returns what the API server says against it.
async fn refused<K: kube::Resource<DynamicType = ()>>(env: &Env, spec: Value) -> String {
    let (api, object) = (raw::<K>(env), object::<K>("x", spec));
    answer(api.create(&PostParams::default(), &object).await).unwrap_err()
}

/// The largest service that there may be.
fn largest_service(name: &str) -> ServiceRecord {
    let data = format!("\"{}\"", "ä".repeat(32_767));
    let data = RawValue::from_string(data).unwrap();
    ServiceRecord {
        name: ServiceName::parse(name).unwrap(),
        born: u64::MAX,
        counter: u64::MAX,
        leader_type: LeaderType::Manual,
        leader: Some(InstanceId::of("tcp", "h:1")),
        meta: Some(ServiceMeta {
            data: Json::new(&data).unwrap(),
            index: u64::MAX,
        }),
    }
}

/// An instance with this many bytes of attributes.
fn instance_with(name: &str, meta: BTreeMap<String, String>) -> InstanceRecord {
    let addr = format!("{}:65535", "h".repeat(255));
    InstanceRecord {
        service: ServiceName::parse(name).unwrap(),
        born: u64::MAX,
        index: u64::MAX,
        instance: Instance::new(addr, "p".repeat(62), meta).unwrap(),
        lease: Lease::held(
            "h".repeat(253).into(),
            "2026-01-01T00:00:00Z".parse().unwrap(),
            Duration::from_secs(3_600),
        ),
    }
}

#[tokio::test]
async fn whatever_a_client_may_say_the_api_server_takes() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    let long = "a".repeat(63);
    let one = BTreeMap::from([(String::new(), "\u{0}".repeat(16_384))]);
    // As many as there may be: the shortest names that differ.
    let letters = || (0..128_u8).map(char::from);
    let pairs = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
    let short = letters().map(String::from).chain([String::new()]);
    let many: BTreeMap<_, _> = short
        .chain(pairs.take((16_384 - 128) / 2))
        .map(|name| (name, String::new()))
        .collect();
    assert_eq!(many.len(), 8_257);
    for record in [
        Record::Service(Arc::new(largest_service(&long))),
        Record::Service(Arc::new(largest_service("-"))),
        Record::Instance(Arc::new(instance_with(&long, one))),
        Record::Instance(Arc::new(instance_with("-", many))),
    ] {
        let made = store.write(Write::Create(record.clone())).await.unwrap();
        let all = everything(&store).await;
        assert_eq!(all[&record.key()].record, record);
        let put = store.write(Write::Put(record.clone(), made)).await.unwrap();
        let delete = Write::Delete(record.key(), put);
        store.write(delete).await.unwrap();
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let env = Env::start().await;
    let id = InstanceId::of("tcp", "h:1").to_string();
    let usual = json!({
        "service": "db", "leaderType": "manual", "leader": id, "born": "1", "counter": "1",
        "meta": { "data": "1", "index": "1" },
    });
    for (pointer, value, text) in [
        (
            "/service",
            json!("Db"),
            "lower-case letters, digits and dashes only",
        ),
        ("/service", json!("a".repeat(64)), "may not be more than 63"),
        ("/leaderType", json!("any"), "\"oldest\", \"manual\""),
        ("/leader", json!("me"), "spec.leader"),
        ("/born", json!(1), "spec.born"),
        ("/counter", json!("01"), "spec.counter"),
        ("/meta/data", json!({}), "spec.meta.data"),
        ("/meta/index", json!(null), "spec.meta.index"),
    ] {
        let mut spec = usual.clone();
        *spec.pointer_mut(pointer).unwrap() = value;
        let told = refused::<DiscoveryService>(&env, spec).await;
        assert!(told.contains(text), "{pointer}: {told}");
    }
    let usual = json!({
        "service": "db", "id": id, "addr": "h:1", "proto": "tcp", "index": "1", "born": "1",
        "meta": [{ "name": "a", "value": "1" }],
    });
    for (pointer, value, text) in [
        ("/id", json!("me"), "must be 32 hexadecimal digits"),
        ("/addr", json!("h"), "must be host:port"),
        ("/proto", json!("TCP"), "lower-case letters and digits only"),
        ("/meta/0/value", json!(1), "spec.meta[0].value"),
        (
            "/meta",
            json!([{ "name": "a", "value": "1" }, { "name": "a", "value": "2" }]),
            "Duplicate value",
        ),
    ] {
        let mut spec = usual.clone();
        *spec.pointer_mut(pointer).unwrap() = value;
        let told = refused::<DiscoveryInstance>(&env, spec).await;
        assert!(told.contains(text), "{pointer}: {told}");
    }
}

#[tokio::test]
async fn which_it_is_cannot_be_changed() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    for record in [service("db", 1), instance("db", "h", 1)] {
        store.write(Write::Create(record)).await.unwrap();
    }
    let params = PatchParams::default();
    let patch = |spec: Value| Patch::Merge(json!({ "spec": spec }));
    let services = raw::<DiscoveryService>(&env);
    let renamed = patch(json!({ "service": "other" }));
    let told = answer(services.patch("db", &params, &renamed).await).unwrap_err();
    assert!(told.contains("cannot be changed"), "{told}");
    let instances = raw::<DiscoveryInstance>(&env);
    let all = instances.list(&ListParams::default()).await.unwrap();
    let name = all.items[0].name_any();
    for (field, value) in [
        ("service", "other"),
        ("id", "00000000000000000000000000000000"),
        ("addr", "other:1"),
        ("proto", "other"),
    ] {
        let moved = patch(json!({ field: value }));
        let told = answer(instances.patch(&name, &params, &moved).await).unwrap_err();
        assert!(told.contains("cannot be changed"), "{field}: {told}");
    }
}

#[tokio::test]
async fn writes_leave_what_others_put_there() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    let theirs = Patch::Merge(json!({ "metadata": {
        "labels": { "mine": "1" }, "annotations": { "mine": "2" },
    } }));
    let mut watch = Following::begin(&store, store.watch()).await;
    for (api, versions) in [
        (
            raw::<DiscoveryService>(&env),
            [1, 2].map(|version| service("db", version)),
        ),
        (
            raw::<DiscoveryInstance>(&env),
            [3, 1].map(|version| instance("db", "h", version)),
        ),
    ] {
        let [before, after] = versions;
        store.write(Write::Create(before)).await.unwrap();
        watch.change().await;
        let all = api.list(&ListParams::default()).await.unwrap();
        let name = all.items[0].name_any();
        api.patch(&name, &PatchParams::default(), &theirs)
            .await
            .unwrap();
        let Change::Put(met) = watch.change().await else {
            panic!("the change was not told");
        };
        // One write, whatever it removes: nothing in between is ever told.
        let put = Write::Put(after.clone(), met.revision);
        let put = store.write(put).await.unwrap();
        let Change::Put(told) = watch.change().await else {
            panic!("the write was not told");
        };
        assert_eq!((&told.record, told.revision), (&after, put));
        let object = api.get(&name).await.unwrap();
        assert_eq!(object.labels()["mine"], "1");
        assert_eq!(object.annotations()["mine"], "2");
        assert!(object.owner_references().is_empty());
    }
}

#[tokio::test]
async fn what_was_spoilt_by_hand_is_not_served_and_told() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    let mut watch = store.watch();
    for _ in Kind::ALL {
        let reset = next(&mut watch).await.unwrap().unwrap();
        assert!(matches!(reset, Change::Reset(..)), "{reset:?}");
    }
    let create = PostParams::default();
    // Two of one service: the one with the usual name is served.
    let services = raw::<DiscoveryService>(&env);
    for name in ["other", "db"] {
        let spec = json!({ "service": "db", "meta": { "data": "{}", "index": "1" } });
        let object = object::<DiscoveryService>(name, spec);
        services.create(&create, &object).await.unwrap();
        let told = next(&mut watch).await.unwrap().unwrap();
        assert!(matches!(told, Change::Put(_)), "{told:?}");
    }
    // An id that is not that of the address.
    let id = InstanceId::of("tcp", "h:2").to_string();
    let spec = json!({
        "service": "db", "id": id, "addr": "h:1", "proto": "tcp", "index": "1", "born": "1",
    });
    let record = Record::Instance(Arc::new(InstanceRecord {
        instance: Instance::new("h:2".into(), "tcp".into(), BTreeMap::new()).unwrap(),
        ..instance_with("db", BTreeMap::new())
    }));
    let Record::Instance(expected) = &record else {
        panic!("{record:?}");
    };
    let name = discovery_instance::object_name(&expected.key());
    let object = object::<DiscoveryInstance>(&name, spec);
    let instances = raw::<DiscoveryInstance>(&env);
    instances.create(&create, &object).await.unwrap();
    let spoilt = Patch::Merge(json!({ "spec": { "meta": { "data": "{" } } }));
    let params = PatchParams::default();
    services.patch("db", &params, &spoilt).await.unwrap();
    // The other one is served instead.
    let told = [
        next(&mut watch).await.unwrap().unwrap(),
        next(&mut watch).await.unwrap().unwrap(),
    ];
    assert!(
        matches!(told, [Change::Delete(..), Change::Put(_)]),
        "{told:?}"
    );
    let left = everything(&store).await;
    assert_eq!(left.len(), 1, "{left:?}");
    let problems = store.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    let text = |kind| {
        let mut of = problems.iter().filter(|problem| problem.kind == Some(kind));
        of.next().map(|problem| problem.text.as_str()).unwrap()
    };
    assert!(text(Kind::Service).starts_with("spec.meta.data must be JSON"));
    assert!(text(Kind::Instance).contains("the id of this instance is"));
    // It is in the way, and named.
    let made = store.write(Write::Create(record)).await;
    let Err(WriteError::Refused(why)) = made else {
        panic!("{made:?}");
    };
    assert!(
        why.contains(&format!("kubectl delete discoveryinstance {name}")),
        "{why}"
    );
}

#[tokio::test]
async fn get_tells_who_is_there_and_how_to_find_them() {
    if !exists("kubectl") {
        say("skipped: there is no kubectl on the PATH");
        return;
    }
    let env = Env::start().await;
    let store = store::store(&env).await;
    let dashed = ServiceName::parse("-db").unwrap();
    for record in [
        service("db", 2),
        service("-db", 1),
        instance("db", "10.42.0.100", 2),
        instance("-db", "h", 1),
    ] {
        store.write(Write::Create(record)).await.unwrap();
    }
    let text = kubectl(&env, &["get", "dsvc"]).await.unwrap();
    let header = ["NAME", "SERVICE", "TYPE", "LEADER", "META", "AGE"];
    assert_eq!(words(&text, "NAME"), header);
    let leader = InstanceId::of("tcp", "h:1").to_string();
    assert_eq!(
        words(&text, "manual")[..5],
        ["db", "db", "manual", &leader, "2"]
    );
    let text = kubectl(&env, &["get", "discoveryinstances"]).await.unwrap();
    let header = [
        "NAME", "SERVICE", "ADDR", "PROTO", "INDEX", "HOLDER", "RENEWED", "AGE",
    ];
    assert_eq!(words(&text, "NAME"), header);
    let line = words(&text, "10.42.0.100:80");
    let expected = [
        "db",
        "10.42.0.100:80",
        "http",
        "18446744073709551613",
        "replica",
        "2",
    ];
    assert_eq!(line[1..7], expected);
    for selected in [
        ["--field-selector", "spec.service=-db"],
        [
            "-l",
            &format!(
                "{}={}",
                discovery_instance::SERVICE_LABEL,
                discovery_service::object_name(&dashed)
            ),
        ],
    ] {
        let arguments = ["get", "dinst", "--no-headers", selected[0], selected[1]];
        let text = kubectl(&env, &arguments).await.unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("h:80"), "{text}");
    }
    let text = kubectl(&env, &["get", "tunnels", "--no-headers"])
        .await
        .unwrap();
    assert_eq!(
        text.lines().filter(|line| !line.is_empty()).count(),
        4,
        "{text}"
    );
}
