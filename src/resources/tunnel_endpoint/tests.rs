//! The schema itself, and conversion both ways.

use std::time::Duration;

use jiff::Timestamp;
use kube::CustomResourceExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::convert::lease_annotations;
use super::*;
use crate::lease::{Lease, Released};
use crate::record::{Address, Endpoint, EndpointKey, EndpointRecord, Name, Network};

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
    let annotations = lease_annotations(&lease).unwrap();
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
        Err(Oversize::Holder(254))
    );
}

/// Every part of a schema that is a schema, with its path.
fn walk<'a>(path: &str, schema: &'a Value, visit: &mut dyn FnMut(&str, &'a Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&format!("{path}.{key}"), &schema[key], visit);
        }
    }
}

#[test]
fn everything_is_bounded_and_described() {
    let crd = serde_json::to_value(TunnelEndpoint::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut seen = 0;
    for part in ["spec", "status"] {
        walk(part, &schema[part], &mut |path, schema| {
            seen += 1;
            let bound = match schema["type"].as_str().unwrap() {
                "string" if schema["enum"].is_array() => "enum",
                "string" => "maxLength",
                "array" => "maxItems",
                "object" if schema["properties"].is_object() => "properties",
                "object" => "maxProperties",
                "integer" => "minimum",
                "boolean" => "type",
                other => panic!("{path}: {other}"),
            };
            assert!(!schema[bound].is_null(), "{path} has no {bound}");
            let inner = path.ends_with("items") || path.ends_with("additionalProperties");
            let described = schema["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(inner || described, "{path} is not described");
        });
    }
    assert_eq!(seen, 2 + 8 + 2 + 1 + 6, "every field is looked at");
}

#[test]
fn the_longest_address_fits() {
    let label = "a".repeat(61);
    let host = format!("{label}.{label}.{label}.{label}.abcde.");
    let address: Address = format!("{host}:65535").parse().unwrap();
    assert_eq!(address.to_string().len(), schema::MAX_ADDRESS);
}

/// More than the API server stores: it leaves out the white space but adds what
/// the next function does.
const MAX_STORED: usize = 2_560;

/// An object as the API server stores it: with uid, times, managed fields of
/// one writer for everything, and a status.
fn as_stored(object: &TunnelEndpoint) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    let metadata = value["metadata"].as_object().unwrap().clone();
    let fields = |map: &Value| -> Value {
        let keys = map.as_object().unwrap().keys();
        keys.map(|key| (format!("f:{key}"), json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let mut labels = fields(&metadata["labels"]);
    labels["."] = json!({});
    let mut annotations = fields(&metadata["annotations"]);
    annotations["."] = json!({});
    let mut spec = fields(&value["spec"]);
    spec["."] = json!({});
    spec["f:static"] = json!({});
    value["spec"]["static"] = false.into();
    value["status"] = json!({
        "observedGeneration": 1,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Renewed", "observedGeneration": 1,
            "lastTransitionTime": "2026-07-01T12:00:00Z",
            "message": "replica-1 hears its renewals",
        }],
    });
    let manager = |fields: Value, subresource: &str| {
        json!({
            "apiVersion": "tunnelregistry.io/v1alpha1", "fieldsType": "FieldsV1",
            "fieldsV1": fields, "manager": "tunnel-registry-controller", "operation": "Update",
            "time": "2026-07-01T12:00:00Z", "subresource": subresource,
        })
    };
    let metadata = value["metadata"].as_object_mut().unwrap();
    metadata.insert("namespace".into(), "n".repeat(63).into());
    metadata.insert("uid".into(), "db670b91-61a5-4f7c-8014-3bbe994446ea".into());
    metadata.insert("creationTimestamp".into(), "2026-07-01T12:00:00Z".into());
    metadata.insert("generation".into(), 1.into());
    metadata.insert(
        "managedFields".into(),
        json!([
            manager(
                json!({
                    "f:metadata": { "f:annotations": annotations, "f:labels": labels },
                    "f:spec": spec,
                }),
                "",
            ),
            manager(
                json!({ "f:status": {
                    ".": {}, "f:observedGeneration": {},
                    "f:conditions": { ".": {}, "k:{\"type\":\"Ready\"}": {
                        ".": {}, "f:type": {}, "f:status": {}, "f:reason": {}, "f:message": {},
                        "f:lastTransitionTime": {}, "f:observedGeneration": {},
                    } },
                } }),
                "status",
            ),
        ]),
    );
    value
}

#[test]
fn an_endpoint_with_uuids_is_small() {
    let mut record = record();
    record.lease.holder = Some("db670b91-61a5-4f7c-8014-3bbe994446ea".into());
    let stored = as_stored(&TunnelEndpoint::from_record(&record).unwrap()).to_string();
    assert!(
        stored.len() <= MAX_STORED,
        "{} bytes: {stored}",
        stored.len()
    );
}

fn name() -> impl Strategy<Value = Name> {
    let text = "[!-~]([ -~]{0,251}[!-~])?";
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    prop_oneof![text, uuid].prop_map(|text| text.parse().unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        "[a-z_]([a-z0-9_-]{0,61}[a-z])?(\\.[a-z]{1,63}){0,2}",
    ];
    (host, 1..=u16::MAX).prop_filter_map("cannot be dialled", |(host, port)| {
        format!("{host}:{port}").parse().ok()
    })
}

/// Microseconds are kept.
fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_102_444_800_000_000_i64).prop_map(|us| Timestamp::from_microsecond(us).unwrap())
}

fn any_record() -> impl Strategy<Value = EndpointRecord> {
    let identity = (name(), name(), name());
    let attributes = proptest::collection::btree_map("\\PC{1,63}", "\\PC{0,253}", 0..=16);
    let holder = proptest::option::of("[!-~]{1,253}");
    let why = proptest::option::of(prop_oneof![
        Just(Released::Silent),
        Just(Released::ConnectionClosed)
    ]);
    let rest = (
        any::<bool>(),
        address(),
        any::<Option<std::net::IpAddr>>(),
        any::<Option<u128>>(),
        attributes,
        any::<bool>(),
    );
    let lease = (holder, time(), any::<u32>(), why, any::<Option<u32>>());
    (identity, rest, lease).prop_map(
        |((tunnel, node, connector), (udp, address, origin, pod, attributes, is_static), lease)| {
            let (holder, renew_time, duration_seconds, released, interval_seconds) = lease;
            EndpointRecord {
                endpoint: Endpoint {
                    key: EndpointKey {
                        tunnel,
                        node,
                        connector,
                    },
                    network: if udp { Network::Udp } else { Network::Tcp },
                    address,
                    origin,
                    pod: pod.map(uuid::Uuid::from_u128),
                    attributes,
                },
                lease: Lease {
                    holder: holder.map(Into::into),
                    renew_time,
                    duration_seconds,
                    released,
                    interval_seconds,
                },
                is_static,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was(record in any_record()) {
        let object = TunnelEndpoint::from_record(&record).unwrap();
        let json = serde_json::to_string(&object).unwrap();
        let back: TunnelEndpoint = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back, &object);
        prop_assert_eq!(back.to_record(), Ok(record));
    }

    #[test]
    fn names_are_dns_labels(record in any_record()) {
        let object = TunnelEndpoint::from_record(&record).unwrap();
        let name = object.metadata.name.unwrap();
        prop_assert!((1..=name::MAX_BYTES).contains(&name.len()) && name::MAX_BYTES <= 63);
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        prop_assert!(name.bytes().all(inner), "{}", name);
        prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{}", name);
    }

    #[test]
    fn no_object_makes_it_panic(
        texts in proptest::array::uniform9("\\PC{0,300}"),
        attributes in proptest::collection::btree_map("\\PC{0,70}", "\\PC{0,260}", 0..20),
    ) {
        let [tunnel, connector, node, network, address, a, b, c, d] = texts;
        let spec = TunnelEndpointSpec {
            tunnel, connector, node, network, address, attributes, is_static: false,
        };
        let mut object = TunnelEndpoint::new("x", spec);
        let annotations = [(RENEW_TIME, a), (LEASE_DURATION, b), (RELEASED, c), (ORIGIN, d)];
        object.metadata.annotations =
            Some(annotations.map(|(key, value)| (key.into(), value)).into());
        // Whatever is accepted can be written again.
        if let Ok(record) = object.to_record() {
            prop_assert!(TunnelEndpoint::from_record(&record).is_ok());
        }
    }
}
