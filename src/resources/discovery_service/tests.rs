//! The schema itself, and conversion both ways.

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::*;
use crate::backend::contract::service;
use crate::discoverd::{ServiceName, ServiceRecord};
use crate::record::Record;
use crate::resources::testing::merge;

fn record(version: u8) -> ServiceRecord {
    match service("db", version) {
        Record::Service(record) => (*record).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_people_read_in_an_object() {
    let object = serde_json::to_value(DiscoveryService::from_record(&record(2))).unwrap();
    assert_eq!(
        object,
        json!({
            "apiVersion": "tunnelregistry.io/v1alpha1",
            "kind": "DiscoveryService",
            "metadata": { "name": "db" },
            "spec": {
                "service": "db",
                "leaderType": "manual",
                "leader": record(2).leader.unwrap().to_string(),
                "meta": { "data": "{\"a\":[2,\"=\"]}", "index": "2" },
                "born": "18446744073709551613",
                "counter": "2",
            },
        })
    );
}

#[test]
fn a_patch_makes_an_object_hold_another_record() {
    for from in 1..=3 {
        for to in 1..=3 {
            let object = DiscoveryService::from_record(&record(from));
            assert_eq!(object.to_record(), Ok(record(from)));
            let mut object = serde_json::to_value(object).unwrap();
            merge(&mut object, &DiscoveryService::patch(&record(to)));
            let object: DiscoveryService = serde_json::from_value(object).unwrap();
            assert_eq!(object.to_record(), Ok(record(to)));
        }
    }
}

#[test]
fn every_service_has_an_object_of_its_own_name() {
    let name = |service: &str| object_name(&ServiceName::parse(service).unwrap());
    let long = "a".repeat(63);
    for plain in ["db", "0", "a-b--c", &long] {
        assert_eq!(name(plain), plain);
    }
    // They never change between releases.
    let dashed = "db-81ngfldl16r5o20e6cssrp7jak.dashed";
    assert_eq!(name("-db"), dashed);
    assert_ne!(name("db-"), dashed);
    assert!(name("-").ends_with(".dashed"));
    let long = name(&format!("{}-", "a".repeat(62)));
    assert!(long.len() <= 63, "{long} fits a label");
}

#[test]
fn one_made_by_hand_needs_a_name_only() {
    let object: DiscoveryService = serde_json::from_value(json!({
        "apiVersion": "tunnelregistry.io/v1alpha1",
        "kind": "DiscoveryService",
        "metadata": { "name": "any", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "service": "db" },
    }))
    .unwrap();
    let record = object.to_record().unwrap();
    assert_eq!(record.name.as_str(), "db");
    assert_eq!(
        (record.born, record.counter),
        (1_767_225_600, 1_767_225_600)
    );
    assert_eq!((record.leader, record.meta), (None, None));
}

#[test]
fn what_cannot_be_read_is_named() {
    let object = DiscoveryService::from_record(&record(2));
    let wrong = |change: &dyn Fn(&mut DiscoveryServiceSpec)| {
        let mut object = object.clone();
        change(&mut object.spec);
        object.to_record().unwrap_err().to_string()
    };
    assert!(wrong(&|spec| spec.service = "Db".into()).starts_with("spec.service "));
    assert!(wrong(&|spec| spec.leader = Some("x".into())).starts_with("spec.leader "));
    assert!(wrong(&|spec| spec.born = Some("-1".into())).starts_with("spec.born "));
    assert!(wrong(&|spec| spec.counter = Some("x".into())).starts_with("spec.counter "));
    let meta = |data: &str, index: &str| {
        let (data, index) = (data.to_owned(), index.to_owned());
        Some(ServiceMeta { data, index })
    };
    assert!(wrong(&|spec| spec.meta = meta("1", "x")).starts_with("spec.meta.index "));
    let long = format!("\"{}\"", "x".repeat(65_535));
    for data in ["{", "", &long] {
        let error = wrong(&|spec| spec.meta = meta(data, "1"));
        assert!(error.starts_with("spec.meta.data "), "{error}");
    }
}

#[test]
fn every_field_is_described() {
    let crd = serde_json::to_value(DiscoveryService::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let Value::Object(fields) = &schema["properties"]["spec"]["properties"] else {
        panic!("{schema}");
    };
    assert_eq!(fields.len(), 6);
    for (name, field) in fields {
        let text = field["description"].as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{name}");
    }
}
