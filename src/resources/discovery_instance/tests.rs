//! The schema itself, and conversion both ways.

use std::time::Duration;

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::*;
use crate::backend::contract::instance;
use crate::discoverd::InstanceRecord;
use crate::lease::{Lease, Released};
use crate::record::Record;
use crate::resources::lease::HolderTooLong;
use crate::resources::testing::merge;

fn record(version: u8) -> InstanceRecord {
    match instance("db", "10.42.0.100", version) {
        Record::Instance(record) => (*record).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_people_read_in_an_object() {
    let record = record(2);
    let object = serde_json::to_value(DiscoveryInstance::from_record(&record).unwrap()).unwrap();
    assert_eq!(
        object,
        json!({
            "apiVersion": "tunnelregistry.io/v1alpha1",
            "kind": "DiscoveryInstance",
            "metadata": {
                // It never changes between releases.
                "name": "db-u0e693u28e0offeaeocqg5nj2s",
                "labels": { "tunnelregistry.io/service": "db" },
                "annotations": {
                    "tunnelregistry.io/renew-time": "2026-01-01T00:00:00.000000Z",
                    "tunnelregistry.io/lease-duration-seconds": "10",
                    "tunnelregistry.io/holder-identity": "replica 2",
                },
            },
            "spec": {
                "service": "db",
                "id": record.instance.id.to_string(),
                "addr": "10.42.0.100:80",
                "proto": "http",
                "meta": [{ "name": "k 1\n", "value": "= \"2\"" }],
                "index": "18446744073709551613",
                "born": "2",
            },
        })
    );
}

#[test]
fn a_patch_makes_an_object_hold_another_record() {
    let mut released = record(3);
    let at = released.lease.renew_time;
    released.lease = Lease::released(Released::Silent, at, Duration::from_secs(10));
    let all = [record(1), record(2), record(3), released];
    for from in &all {
        for to in &all {
            let object = DiscoveryInstance::from_record(from).unwrap();
            assert_eq!(object.to_record().as_ref(), Ok(from));
            let mut object = serde_json::to_value(object).unwrap();
            merge(&mut object, &DiscoveryInstance::patch(to).unwrap());
            let object: DiscoveryInstance = serde_json::from_value(object).unwrap();
            assert_eq!(object.to_record().as_ref(), Ok(to));
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let object = DiscoveryInstance::from_record(&record(2)).unwrap();
    let wrong = |change: &dyn Fn(&mut DiscoveryInstance)| {
        let mut object = object.clone();
        change(&mut object);
        object.to_record().unwrap_err().to_string()
    };
    assert!(wrong(&|object| object.spec.service = String::new()).starts_with("spec.service "));
    assert!(wrong(&|object| object.spec.id = "x".into()).starts_with("spec.id "));
    let other = wrong(&|object| object.spec.id = "0".repeat(32));
    assert!(
        other.contains(&record(2).instance.id.to_string()),
        "{other}"
    );
    assert!(wrong(&|object| object.spec.addr = "h".into()).contains("`addr`"));
    assert!(wrong(&|object| object.spec.proto = "T".into()).contains("`proto`"));
    let long = "x".repeat(16_384);
    assert!(wrong(&|object| object.spec.meta[0].value.clone_from(&long)).contains("`meta`"));
    assert!(wrong(&|object| object.spec.index = "x".into()).starts_with("spec.index "));
    assert!(wrong(&|object| object.spec.born = "x".into()).starts_with("spec.born "));
    let key = "tunnelregistry.io/renew-time";
    let error = wrong(&|object| {
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(key.into(), "x".into());
    });
    assert!(error.starts_with(&format!("annotation {key} ")), "{error}");
    let mut long = record(1);
    long.lease.holder = Some("x".repeat(254).into());
    assert_eq!(DiscoveryInstance::patch(&long), Err(HolderTooLong(254)));
}

#[test]
fn every_field_is_described() {
    let crd = serde_json::to_value(DiscoveryInstance::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let Value::Object(fields) = &schema["properties"]["spec"]["properties"] else {
        panic!("{schema}");
    };
    assert_eq!(fields.len(), 7);
    for (name, field) in fields {
        let text = field["description"].as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{name}");
    }
}
