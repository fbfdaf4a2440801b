//! What an account may do, by the manifest, and what it did, by the audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleBinding};
use serde_json::Value;

/// One thing that can be allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Empty for the core group.
    pub group: String,
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        match self.group.as_str() {
            "" => Ok(()),
            group => write!(f, " ({group})"),
        }
    }
}

/// The objects of a manifest.
pub fn objects(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).unwrap()
}

/// What the Roles and ClusterRoles of a manifest let a ServiceAccount do.
///
/// # Panics
/// When one of them grants everything of a kind: what is used cannot be compared
/// with that.
pub fn granted(manifest: &str, account: &str) -> BTreeSet<Right> {
    granted_by(&objects(manifest), account)
}

/// [`granted`], of objects among which may be others.
pub fn granted_by(objects: &[Value], account: &str) -> BTreeSet<Right> {
    let (mut roles, mut bindings) = (BTreeMap::new(), Vec::new());
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        match kind {
            // Both bindings have the same fields, and of both roles the rules
            // are all that matters here.
            "Role" | "ClusterRole" => {
                let rules = object["rules"].clone();
                let rules: Vec<PolicyRule> = serde_json::from_value(rules).unwrap();
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                roles.insert((kind.to_owned(), name), rules);
            }
            "RoleBinding" | "ClusterRoleBinding" => {
                bindings.push(serde_json::from_value::<RoleBinding>(typed(object)).unwrap());
            }
            _ => {}
        }
    }
    let bound = |binding: &RoleBinding| {
        let mut subjects = binding.subjects.iter().flatten();
        subjects.any(|subject| subject.kind == "ServiceAccount" && subject.name == account)
    };
    bindings
        .iter()
        .filter(|binding| bound(binding))
        .flat_map(|binding| {
            let role = &binding.role_ref;
            &roles[&(role.kind.clone(), role.name.clone())]
        })
        .flat_map(rights)
        .collect()
}

/// A binding as if it were one of a namespace.
fn typed(binding: &Value) -> Value {
    let mut binding = binding.clone();
    binding["kind"] = "RoleBinding".into();
    binding
}

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let groups = rule.api_groups.iter().flatten();
    let each = groups.flat_map(|group| {
        let resources = rule.resources.iter().flatten();
        resources
            .flat_map(move |resource| rule.verbs.iter().map(move |verb| (group, resource, verb)))
    });
    let right = |(group, resource, verb): (&String, &String, &String)| {
        assert!(
            ![group, resource, verb]
                .iter()
                .any(|word| word.contains('*')),
            "{rule:?} says '*'"
        );
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Right {
            group: group.clone(),
            resource: resource.into(),
            subresource: subresource.into(),
            verb: verb.clone(),
        }
    };
    each.map(right).collect()
}

/// What an account did in a namespace, by an audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// What it was let do.
    pub used: BTreeSet<Right>,
    /// What it tried and was forbidden, for want of a Role.
    pub forbidden: BTreeSet<Right>,
}

impl Deeds {
    /// Reads an audit log: what `user` did to objects of `namespace`.
    pub fn read(log: &str, user: &str, namespace: &str) -> Self {
        let mut deeds = Self::default();
        // The last line may be in the making.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let name = format!("\"{user}\"");
        for line in whole.lines().filter(|line| line.contains(&name)) {
            let event: Value = serde_json::from_str(line).unwrap();
            let object = &event["objectRef"];
            if event["user"]["username"] != user || object["namespace"] != namespace {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let right = Right {
                group: text(&object["apiGroup"]),
                resource: text(&object["resource"]),
                subresource: text(&object["subresource"]),
                verb: text(&event["verb"]),
            };
            if event["annotations"]["authorization.k8s.io/decision"] != "allow" {
                deeds.forbidden.insert(right);
                continue;
            }
            // To make an object by a patch or an update asks for `create`, too;
            // where that is missing the answer is 403, though the patch itself
            // was allowed.
            if matches!(right.verb.as_str(), "patch" | "update") {
                let create = || Right {
                    verb: "create".into(),
                    ..right.clone()
                };
                match event["responseStatus"]["code"].as_u64() {
                    Some(201) => drop(deeds.used.insert(create())),
                    Some(403) => drop(deeds.forbidden.insert(create())),
                    _ => {}
                }
            }
            deeds.used.insert(right);
        }
        deeds
    }
}

#[cfg(test)]
mod tests;
