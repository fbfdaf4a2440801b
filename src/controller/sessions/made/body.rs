//! What is in an object.

use serde_json::Value;

use crate::controller::plan::routes::{Id, Kind};
use crate::resources::name::hash;

/// What of an object is not its content.
const NOT_CONTENT: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// The uids of the owners of an object.
pub(super) fn owners(body: &Value) -> impl Iterator<Item = &str> {
    let owners = body["metadata"]["ownerReferences"].as_array();
    let owners = owners.into_iter().flatten();
    owners.filter_map(|owner| owner["uid"].as_str())
}

/// The Services that an observed HTTPRoute sends to.
pub(super) fn backends(route: &Value) -> impl Iterator<Item = &str> {
    let rules = route["spec"]["rules"].as_array().into_iter().flatten();
    let backends = rules.filter_map(|rule| rule["backendRefs"].as_array());
    backends
        .flatten()
        .filter_map(|backend| backend["name"].as_str())
}

/// A hash of all that is neither metadata nor status.
pub(super) fn content(body: &Value) -> String {
    let fields = body.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| !NOT_CONTENT.contains(&name.as_str()));
    let texts: Vec<_> = fields
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    hash(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether an observed value has all that is wanted: fields may be added, by
/// defaults of the API server or by others, elements of lists may not. Owners may
/// be added, too.
pub(super) fn has(observed: &Value, wanted: &Value) -> bool {
    match (observed, wanted) {
        (Value::Object(observed), Value::Object(wanted)) => {
            wanted
                .iter()
                .all(|(name, wanted)| match (name.as_str(), observed.get(name)) {
                    ("apiVersion" | "kind", None) => true,
                    ("name", None) => wanted.is_string(),
                    ("ownerReferences", Some(Value::Array(observed))) => {
                        let wanted = wanted.as_array();
                        wanted
                            .into_iter()
                            .flatten()
                            .all(|wanted| observed.iter().any(|observed| has(observed, wanted)))
                    }
                    (_, Some(observed)) => has(observed, wanted),
                    (_, None) => wanted.as_array().is_some_and(Vec::is_empty),
                })
        }
        (Value::Array(observed), Value::Array(wanted)) => {
            observed.len() == wanted.len()
                && observed
                    .iter()
                    .zip(wanted)
                    .all(|(observed, wanted)| has(observed, wanted))
        }
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (observed, wanted) => observed == wanted,
    }
}

/// The Service that a slice is of.
pub(super) fn service(slice: &Value) -> Option<Id> {
    let label = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
    label.as_str().map(|name| Id {
        kind: Kind::Service,
        name: name.to_owned(),
    })
}
