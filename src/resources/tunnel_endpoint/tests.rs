//! The schema itself, and conversion both ways.

mod any;
mod bounds;

use std::time::Duration;

use jiff::Timestamp;
use kube::CustomResourceExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::lease::{Lease, Released};
use crate::record::{Address, Endpoint, EndpointKey, EndpointRecord, Name, Network};
use crate::resources::lease::HolderTooLong;

fn record() -> EndpointRecord {
    EndpointRecord {
        endpoint: Endpoint {
            key: EndpointKey {
                tunnel: "c9ef8f8c-d687-4dca-be7a-1467b6565404".parse().unwrap(),
                node: "db670b91-61a5-4f7c-8014-3bbe994446ea".parse().unwrap(),
                connector: "c23d4f42-c892-42b3-8b74-88ab6455d33a".parse().unwrap(),
            },
            network: Network::Tcp,
            address: "10.42.0.100:80".parse().unwrap(),
            origin: Some([10, 42, 0, 100].into()),
            pod: None,
            attributes: BTreeMap::new(),
        },
        lease: Lease::held(
            "replica-1".into(),
            "2026-07-01T12:00:00.000001Z".parse().unwrap(),
            Duration::from_secs(60),
        ),
        is_static: false,
    }
}

fn object() -> TunnelEndpoint {
    TunnelEndpoint::from_record(&record()).unwrap()
}

#[test]
fn an_object_as_it_is_written() {
    assert_eq!(
        serde_json::to_value(object()).unwrap(),
        json!({
            "apiVersion": "tunnelregistry.io/v1alpha1",
            "kind": "TunnelEndpoint",
            "metadata": {
                "name": name::object_name(&record().endpoint.key),
                "labels": { TUNNEL_LABEL: name::tunnel_hash(&record().endpoint.key.tunnel) },
                "annotations": {
                    RENEW_TIME: "2026-07-01T12:00:00.000001Z",
                    LEASE_DURATION: "60",
                    HOLDER: "replica-1",
                    ORIGIN: "10.42.0.100",
                },
            },
            "spec": {
                "tunnel": "c9ef8f8c-d687-4dca-be7a-1467b6565404",
                "connector": "c23d4f42-c892-42b3-8b74-88ab6455d33a",
                "node": "db670b91-61a5-4f7c-8014-3bbe994446ea",
                "network": "tcp",
                "address": "10.42.0.100:80",
            },
        })
    );
}

#[test]
fn a_patch_removes_what_the_record_has_not() {
    let mut record = record();
    record.lease = Lease::released(
        Released::Silent,
        "2026-07-01T12:00:00Z".parse().unwrap(),
        Duration::from_secs(60),
    );
    record.endpoint.origin = None;
    assert_eq!(
        TunnelEndpoint::patch(&record).unwrap(),
        json!({
            "metadata": { "annotations": {
                RENEW_TIME: "2026-07-01T12:00:00.000000Z",
                LEASE_DURATION: "60",
                HOLDER: null,
                RELEASED: "silent",
                RENEW_INTERVAL: null,
                POD_UID: null,
                ORIGIN: null,
            } },
            "spec": {
                "network": "tcp",
                "address": "10.42.0.100:80",
                "attributes": null,
                "static": null,
            },
        })
    );
}

#[test]
fn attributes_that_a_patch_cannot_remove_are_told() {
    let mut object = object();
    object.spec.attributes = [("a", "1"), ("b", "2")]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    let mut record = record();
    record.endpoint.attributes = [("a".into(), "3".into())].into();
    let patch = TunnelEndpoint::patch(&record).unwrap();
    assert_eq!(patch["spec"]["attributes"], json!({ "a": "3" }));
    let surplus = object.surplus(&record).unwrap();
    assert_eq!(surplus, json!({ "spec": { "attributes": { "b": null } } }));
    object.spec.attributes.remove("b");
    assert_eq!(object.surplus(&record), None);
}

#[test]
fn every_annotation_of_an_object_is_in_a_patch() {
    let mut record = record();
    record.endpoint.pod = Some(uuid::Uuid::from_u128(1));
    record.lease.interval_seconds = Some(120);
    record.lease.released = Some(Released::Silent);
    let object = TunnelEndpoint::from_record(&record).unwrap();
    let patch = TunnelEndpoint::patch(&record).unwrap();
    assert_eq!(
        patch["metadata"]["annotations"],
        json!(object.metadata.annotations)
    );
}

#[test]
fn a_released_lease_has_no_holder() {
    let lease = Lease::released(
        Released::ConnectionClosed,
        Timestamp::UNIX_EPOCH,
        Duration::from_secs(60),
    );
    let annotations = crate::resources::lease::annotations(&lease).unwrap();
    assert_eq!(annotations[RELEASED], "connection-closed");
    assert!(!annotations.contains_key(HOLDER));
}

#[test]
fn without_annotations_nobody_holds_it_and_it_is_not_static() {
    let mut object = object();
    object.metadata.annotations = None;
    let created = "2026-07-01T12:00:00Z".parse().unwrap();
    object.metadata.creation_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created),
    );
    let lease = object.to_record().unwrap().lease;
    assert_eq!(lease.holder, None);
    assert_eq!(lease.released, None);
    assert_eq!(lease.renew_time, created);
    assert_eq!(lease.duration(), Duration::from_secs(60));
    assert!(!object.spec.is_static);
    // As `kubectl annotate …/holder-identity=` leaves it.
    object.metadata.annotations = Some([(HOLDER.into(), String::new())].into());
    assert_eq!(object.to_record().unwrap().lease.holder, None);
}

#[test]
fn what_is_malformed_is_named() {
    type Change = fn(&mut TunnelEndpoint);
    fn annotate(object: &mut TunnelEndpoint, key: &str, value: &str) {
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(key.into(), value.into());
    }
    let changes: [(Change, &str); 13] = [
        (|o| o.spec.tunnel.clear(), "spec.tunnel is missing or empty"),
        (|o| o.spec.node = " n".into(), "spec.node begins or ends"),
        (
            |o| o.spec.connector = "é".into(),
            "spec.connector has a character",
        ),
        (
            |o| o.spec.network = "sctp".into(),
            "spec.network must be \"tcp\" or \"udp\"",
        ),
        (|o| o.spec.address = ":80".into(), "spec.address has a host"),
        (
            |o| o.spec.address = "h".into(),
            "spec.address is not host:port",
        ),
        (
            |o| annotate(o, RENEW_TIME, "yesterday"),
            "renew-time must be a time such as 2026-",
        ),
        (
            |o| annotate(o, LEASE_DURATION, "1m"),
            "lease-duration-seconds must be a whole number",
        ),
        (
            |o| annotate(o, RELEASED, "why"),
            "released must be silent or",
        ),
        (
            |o| annotate(o, ORIGIN, "host"),
            "origin must be an IP address",
        ),
        (
            |o| annotate(o, HOLDER, &"x".repeat(254)),
            "holder-identity must be at most 253",
        ),
        (
            |o| o.spec.attributes = (0..17).map(|n| (n.to_string(), String::new())).collect(),
            "spec.attributes has 17 entries; at most 16",
        ),
        (
            |o| o.spec.attributes = [("k".into(), "é".repeat(254))].into(),
            "spec.attributes.k has 254 characters; at most 253",
        ),
    ];
    for (change, expected) in changes {
        let mut object = object();
        change(&mut object);
        let error = object.to_record().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_too_much_for_an_object_is_refused() {
    let mut record = record();
    record.endpoint.attributes = [(String::new(), String::new())].into();
    assert_eq!(TunnelEndpoint::from_record(&record), Err(Oversize::Key(0)));
    record.endpoint.attributes = [("k".repeat(64), String::new())].into();
    assert_eq!(TunnelEndpoint::from_record(&record), Err(Oversize::Key(64)));
    record.endpoint.attributes = [("k".repeat(63), "é".repeat(253))].into();
    assert!(TunnelEndpoint::from_record(&record).is_ok());
    record.lease.holder = Some("x".repeat(254).into());
    assert_eq!(
        TunnelEndpoint::from_record(&record),
        Err(Oversize::Holder(HolderTooLong(254)))
    );
}
