//! What the API server makes of a `ProxySession`, and what a person sees of it.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tunnel_registry::backend::{Backend as _, Change, Write};
use tunnel_registry::lease::Lease;
use tunnel_registry::record::Record;
use tunnel_registry::resources::ProxySession;
use tunnel_registry::session::{Command, SessionId, SessionRecord};

use super::env::Env;
use super::kubectl::{kubectl, words};
use super::store;
use super::tools::{exists, say};
use crate::contract::{Following, session};

fn raw(env: &Env) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<ProxySession>(&());
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

fn object(name: &str, spec: Value) -> DynamicObject {
    let resource = ApiResource::erase::<ProxySession>(&());
    DynamicObject::new(name, &resource).data(json!({ "spec": spec }))
}

fn by_hand() -> Value {
    json!({
        "service": "docs",
        "hostname": "docs.internal",
        "servicePort": 80,
        "routes": [{
            "domains": ["docs.example.com"],
            "path": "/",
            "backend": "http://docs.internal",
        }],
    })
}

/// Creates an object; returns what the API server says against it.
async fn refused(env: &Env, spec: Value) -> String {
    let (api, object) = (raw(env), object("x", spec));
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("{other:?}"),
    }
}

fn with(record: &SessionRecord, line: &str) -> SessionRecord {
    match Command::parse(line) {
        Ok(Command::Change(_, change)) => record.with(&change).unwrap(),
        other => panic!("{line}: {other:?}"),
    }
}

/// The largest session that there may be.
fn largest() -> SessionRecord {
    let register = format!(
        "REGISTER|{}|{}|65535|65535",
        "~".repeat(253),
        "h".repeat(63)
    );
    let Ok(Command::Register(registration)) = Command::parse(&register) else {
        panic!("{register}");
    };
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    let id = SessionId::new(&registration.instance, at, [1; 16]);
    let mut record = SessionRecord {
        key: id.key(),
        front: id.to_string().into(),
        registration,
        registered: at,
        supersedes: Vec::new(),
        routes: Default::default(),
        headers: Vec::new(),
        options: Default::default(),
        maintenance: true,
        written_by: "w".repeat(253).into(),
        lease: Lease::held("h".repeat(253).into(), at, Duration::from_secs(60)),
        is_static: false,
    };
    for name in 'a'..='l' {
        record = with(&record, &format!("HEADER|s|{name}|{}", "~".repeat(4_096)));
    }
    for number in 10..74 {
        let line = format!("ROUTE|s|*.{number}.example.com|/{number}|http://h:65535/{number}");
        record = with(&record, &line);
    }
    for option in [
        "timeout|24h",
        "health_check_interval|86399999ms",
        "weight|1000",
    ] {
        record = with(&record, &format!("OPTIONS|s|{option}"));
    }
    record
}

#[tokio::test]
async fn whatever_a_client_may_announce_the_api_server_takes() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    for record in [
        Record::Session(Arc::new(largest())),
        session("odd_name.example", 9),
    ] {
        let made = store.write(Write::Create(record.clone())).await.unwrap();
        let all = Following::begin(&store, store.watch()).await.all;
        assert_eq!(all[&record.key()].record, record);
        store
            .write(Write::Delete(record.key(), made))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let env = Env::start().await;
    for (pointer, value, text) in [
        ("/service", json!("a|b"), "without |"),
        (
            "/hostname",
            json!("a b"),
            "must be a DNS name or an IP address",
        ),
        ("/servicePort", json!(0), "greater than or equal to 1"),
        (
            "/routes/0/domains/0",
            json!("a b"),
            "spec.routes[0].domains[0]",
        ),
        ("/routes/0/path", json!("v2"), "spec.routes[0].path"),
        (
            "/routes/0/backend",
            json!("ftp://h"),
            "spec.routes[0].backend",
        ),
        (
            "/options",
            json!({ "timeout": "60" }),
            "spec.options.timeout",
        ),
        (
            "/options",
            json!({ "weight": 1_001 }),
            "spec.options.weight",
        ),
        (
            "/headers",
            json!([{ "name": "a b", "value": "c" }]),
            "spec.headers[0].name",
        ),
        ("/session", json!("short"), "spec.session"),
    ] {
        let mut spec = by_hand();
        match spec.pointer_mut(pointer) {
            Some(field) => *field = value,
            None => spec[&pointer[1..]] = value,
        }
        let told = refused(&env, spec).await;
        assert!(told.contains(text), "{pointer}: {told}");
    }
}

#[tokio::test]
async fn who_registered_cannot_be_changed_and_the_rest_can() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    let record = session("h", 1);
    store.write(Write::Create(record.clone())).await.unwrap();
    let Record::Session(session) = &record else {
        panic!("{record:?}");
    };
    let name = ProxySession::from_record(session)
        .unwrap()
        .metadata
        .name
        .unwrap();
    let patch = async |spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        raw(&env)
            .patch(&name, &PatchParams::default(), &patch)
            .await
    };
    for spec in [
        json!({ "session": null }),
        json!({ "session": "0".repeat(52) }),
        json!({ "service": "other" }),
        json!({ "servicePort": 1 }),
    ] {
        let error = patch(spec.clone()).await.unwrap_err().to_string();
        assert!(error.contains("cannot be changed"), "{spec}: {error}");
    }
    let mut watch = Following::begin(&store, store.watch()).await;
    patch(json!({ "maintenance": true })).await.unwrap();
    match watch.change().await {
        Change::Put(stored) => match stored.record {
            Record::Session(session) => assert!(session.maintenance),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_made_by_hand_is_met_and_may_change() {
    let env = Env::start().await;
    let store = store::store(&env).await;
    let api = raw(&env);
    let made = object("docs", by_hand());
    api.create(&PostParams::default(), &made).await.unwrap();
    let all = Following::begin(&store, store.watch()).await.all;
    let records: Vec<&Record> = all.values().map(|stored| &stored.record).collect();
    let [Record::Session(session)] = records[..] else {
        panic!("{all:?}");
    };
    assert!(
        session.is_static && session.routes.0.len() == 1,
        "{session:?}"
    );
    let patch = Patch::Merge(json!({ "spec": { "service": "manual" } }));
    api.patch("docs", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn get_tells_what_is_routed_where() {
    if !exists("kubectl") {
        say("skipped: there is no kubectl on the PATH");
        return;
    }
    let env = Env::start().await;
    let store = store::store(&env).await;
    store
        .write(Write::Create(session("api-v2", 1)))
        .await
        .unwrap();
    let api = raw(&env);
    let made = object("docs", by_hand());
    api.create(&PostParams::default(), &made).await.unwrap();
    let text = kubectl(&env, &["get", "proxysessions"]).await.unwrap();
    assert_eq!(
        words(&text, "NAME"),
        [
            "NAME",
            "SERVICE",
            "HOSTNAME",
            "DOMAINS",
            "PATH",
            "BACKEND",
            "MAINTENANCE",
            "HOLDER",
            "READY",
            "AGE"
        ]
    );
    assert_eq!(
        words(&text, "api-v2")[1..8],
        [
            "api",
            "api-v2",
            r#"["*.b1.com","a.com"]"#,
            "/v0",
            "http://api-v2:9000",
            "false",
            "replica"
        ]
    );
    let line = words(&text, "docs");
    assert_eq!(
        line[..7],
        [
            "docs",
            "docs",
            "docs.internal",
            r#"["docs.example.com"]"#,
            "/",
            "http://docs.internal",
            "false"
        ]
    );
}
