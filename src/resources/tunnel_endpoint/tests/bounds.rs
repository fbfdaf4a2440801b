//! The schema bounds everything, and what is stored is small.

use super::*;

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
