//! The schema itself, and conversion both ways.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::CustomResourceExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::lease::{Lease, Released};
use crate::resources::testing::merge;
use crate::session::options::Options;
use crate::session::record::Routes;
use crate::session::registration::Registration;
use crate::session::{Command, SessionId, SessionKey, SessionRecord};

fn record() -> SessionRecord {
    let registration = Registration::parse("api service", "api-v2", "9000", "9001").unwrap();
    let at: Timestamp = "2026-01-01T00:00:00.000001Z".parse().unwrap();
    let id = SessionId::new(&registration.instance, at, [7; 16]);
    SessionRecord {
        key: id.key(),
        front: id.to_string().into(),
        registration,
        registered: at,
        supersedes: vec![SessionKey::of("a"), SessionKey::of("b")],
        routes: Routes::default(),
        headers: Vec::new(),
        options: Options::default(),
        maintenance: false,
        written_by: "replica-0".into(),
        lease: Lease::held("replica-1".into(), at, Duration::from_secs(60)),
        is_static: false,
    }
}

fn with(mut record: SessionRecord, lines: &[&str]) -> SessionRecord {
    for line in lines {
        let Command::Change(_, change) = Command::parse(line).unwrap() else {
            panic!("{line}");
        };
        record = record.with(&change).unwrap();
    }
    record
}

fn full() -> SessionRecord {
    with(
        record(),
        &[
            "ROUTE|s|a.com,*.b.com|/v2|http://h:9000",
            "ROUTE|s|a.com|/|wss://[::1]/x",
            "HEADER|s|X-B|= \"1\"",
            "HEADER|s|X-A|2",
            "OPTIONS|s|timeout|1m30s",
            "OPTIONS|s|health_check_interval|1500ms",
            "OPTIONS|s|health_check_timeout|1s",
            "OPTIONS|s|health_check_path|/health",
            "OPTIONS|s|max_body_size|10MB",
            "OPTIONS|s|websocket|true",
            "OPTIONS|s|compression|false",
            "OPTIONS|s|http2|true",
            "OPTIONS|s|http3|false",
            "OPTIONS|s|weight|0",
            "MAINT_ENTER|s",
        ],
    )
}

#[test]
fn what_people_read_in_an_object() {
    let object = serde_json::to_value(ProxySession::from_record(&full()).unwrap()).unwrap();
    assert_eq!(
        object["spec"],
        json!({
            "session": full().key.to_string(),
            "service": "api service",
            "hostname": "api-v2",
            "servicePort": 9000,
            "maintenancePort": 9001,
            "routes": [
                { "domains": ["*.b.com", "a.com"], "path": "/v2", "backend": "http://h:9000" },
                { "domains": ["a.com"], "path": "/", "backend": "wss://[::1]/x" },
            ],
            "headers": [
                { "name": "X-B", "value": "= \"1\"" },
                { "name": "X-A", "value": "2" },
            ],
            "options": {
                "timeout": "90s",
                "healthCheckInterval": "1500ms",
                "healthCheckTimeout": "1s",
                "healthCheckPath": "/health",
                "maxBodySize": 10_485_760,
                "websocket": true,
                "compression": false,
                "http2": true,
                "http3": false,
                "weight": 0,
            },
            "maintenance": true,
        })
    );
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations[SESSION], "api-v2-9000-1767225600");
    assert_eq!(
        annotations["tunnelregistry.io/holder-identity"],
        "replica-1"
    );
    let text = object.to_string();
    assert!(
        !text.contains(&"07".repeat(16)),
        "the id is not in it: {text}"
    );
}

#[test]
fn a_record_comes_back_as_it_was() {
    for record in [record(), full()] {
        let object = ProxySession::from_record(&record).unwrap();
        assert_eq!(object.key(), Some(record.key));
        assert_eq!(object.to_record(), Ok(record));
    }
}

#[test]
fn a_patch_makes_an_object_hold_another_record() {
    let mut released = record();
    released.supersedes = Vec::new();
    released.lease = Lease::released(
        Released::ConnectionClosed,
        released.registered,
        Duration::from_secs(60),
    );
    let fewer = with(record(), &["OPTIONS|s|weight|7", "HEADER|s|X-C|1"]);
    let all = [record(), full(), released, fewer];
    for from in &all {
        for to in &all {
            let mut object =
                serde_json::to_value(ProxySession::from_record(from).unwrap()).unwrap();
            merge(&mut object, &ProxySession::patch(to).unwrap());
            let object: ProxySession = serde_json::from_value(object).unwrap();
            assert_eq!(object.to_record().as_ref(), Ok(to));
        }
    }
}

#[test]
fn one_made_by_hand_is_a_static_service() {
    let object: ProxySession = serde_json::from_value(json!({
        "apiVersion": "tunnelregistry.io/v1alpha1",
        "kind": "ProxySession",
        "metadata": { "name": "docs", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": {
            "service": "docs",
            "hostname": "docs.internal",
            "servicePort": 80,
            "routes": [{ "domains": ["docs.example.com"], "path": "/", "backend": "http://docs.internal" }],
        },
    }))
    .unwrap();
    let record = object.to_record().unwrap();
    assert!(record.is_static && !record.lease.is_held());
    assert_eq!(&*record.front, "docs");
    assert_eq!(record.registered.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(object.key(), Some(record.key));
    assert_ne!(record.key, SessionKey::of("docs"), "no client can name it");
    let again = ProxySession::from_record(&record).unwrap();
    assert_eq!(again.metadata.name.as_deref(), Some("docs"));
    assert_eq!(again.to_record(), Ok(record));
}

#[test]
fn what_cannot_be_read_is_named() {
    let object = ProxySession::from_record(&full()).unwrap();
    let wrong = |change: &dyn Fn(&mut ProxySession)| {
        let mut object = object.clone();
        change(&mut object);
        object.to_record().unwrap_err().to_string()
    };
    assert_eq!(
        wrong(&|object| object.spec.routes[1].backend = "ftp://h".into()),
        "spec.routes[1] cannot be used: Invalid route: a backend must be http://, https://, ws:// or wss:// and a host"
    );
    assert!(
        wrong(&|object| object.spec.headers[1].name = "host".into())
            .starts_with("spec.headers[1] ")
    );
    assert!(
        wrong(&|object| object.spec.options.timeout = Some("1d".into()))
            .starts_with("spec.options ")
    );
    assert!(wrong(&|object| object.spec.session = Some("x".into())).starts_with("spec.session "));
    assert!(wrong(&|object| object.spec.service = String::new()).contains("spec.service"));
    let annotations = |object: &mut ProxySession, key: &str, text: &str| {
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(key.into(), text.into());
    };
    for key in [SUPERSEDES, REGISTERED, "tunnelregistry.io/renew-time"] {
        let error = wrong(&|object| annotations(object, key, "x"));
        assert!(
            error.starts_with(&format!("annotation {key} must be ")),
            "{error}"
        );
    }
}

#[test]
fn what_an_object_cannot_hold_is_refused() {
    let mut many = record();
    many.supersedes = (0..=MAX_SUPERSEDES)
        .map(|n| SessionKey::of(&n.to_string()))
        .collect();
    let error = ProxySession::from_record(&many).unwrap_err();
    assert_eq!(error, Oversize::Supersedes(65));
    many.supersedes.pop();
    assert_eq!(
        ProxySession::from_record(&many).unwrap().to_record(),
        Ok(many)
    );
    let mut long = record();
    long.written_by = "x".repeat(254).into();
    assert!(ProxySession::patch(&long).is_err());
}

#[test]
fn every_field_is_described() {
    let crd = serde_json::to_value(ProxySession::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let fields: BTreeMap<String, Value> =
        serde_json::from_value(schema["spec"]["properties"].clone()).unwrap();
    assert_eq!(fields.len(), 9);
    for (name, field) in fields {
        assert!(
            field["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn any_routes_come_back(routes in proptest::collection::vec(
        ("[a-z]{1,3}\\.com", "/[a-z]{0,2}", 1..4_u8), 0..64)
    ) {
        let mut record = record();
        for (domain, path, backend) in routes {
            let line = format!("ROUTE|s|{domain}|{path}|http://h:{backend}");
            record = with(record, &[&line]);
        }
        let object = ProxySession::from_record(&record).unwrap();
        prop_assert_eq!(object.to_record(), Ok(record));
    }
}
