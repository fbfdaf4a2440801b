use serde_json::json;

use super::*;

const USER: &str = "system:serviceaccount:ns:one";

/// Rights as they print, sorted by that.
fn texts(rights: &BTreeSet<Right>) -> Vec<String> {
    let mut texts: Vec<_> = rights.iter().map(Right::to_string).collect();
    texts.sort();
    texts
}

const ROLES: &str = "
# A comment.
apiVersion: v1
kind: ServiceAccount
metadata: {name: one}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r}
rules:
- apiGroups: ['a', 'b']
  resources: ['x', 'y/status']
  verbs: ['get', 'patch']
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: s}
rules:
- apiGroups: ['']
  resources: ['pods']
  verbs: ['list']
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: r}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: one}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: s}
subjects: [{kind: ServiceAccount, name: two}, {kind: ServiceAccount, name: one}]
";

#[test]
fn a_manifest_grants_what_its_bindings_bind() {
    assert_eq!(
        texts(&granted(ROLES, "one")),
        [
            "get x (a)",
            "get x (b)",
            "get y/status (a)",
            "get y/status (b)",
            "list pods",
            "patch x (a)",
            "patch x (b)",
            "patch y/status (a)",
            "patch y/status (b)",
        ]
    );
    assert_eq!(texts(&granted(ROLES, "two")), ["list pods"]);
    assert!(granted(ROLES, "three").is_empty());
}

#[test]
fn a_role_of_the_cluster_is_one_of_its_own() {
    let two = ROLES.replace(
        "name: s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role",
        "name: s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole",
    );
    let of_the_cluster = "
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: s}
rules:
- apiGroups: ['']
  resources: ['nodes']
  verbs: ['list']
";
    let rights = granted(&(two + of_the_cluster), "two");
    assert_eq!(texts(&rights), ["list nodes"]);
}

#[test]
#[should_panic(expected = "says '*'")]
fn everything_is_too_much() {
    granted(&ROLES.replace("['list']", "['*']"), "one");
}

/// A line of the log, changed.
fn line(change: impl FnOnce(&mut Value)) -> String {
    let mut event = json!({
        "kind": "Event", "stage": "ResponseComplete", "verb": "list",
        "user": { "username": USER, "groups": ["system:serviceaccounts"] },
        "objectRef": {
            "resource": "tunnelendpoints", "namespace": "ns",
            "apiGroup": "tunnelregistry.io", "apiVersion": "v1alpha1",
        },
        "responseStatus": { "code": 200 },
        "annotations": { "authorization.k8s.io/decision": "allow" },
    });
    change(&mut event);
    event.to_string() + "\n"
}

#[test]
fn a_log_tells_what_was_used_and_what_was_forbidden() {
    let log = [
        line(|_| {}),
        line(|event| event["verb"] = "watch".into()),
        line(|event| {
            event["verb"] = "patch".into();
            event["objectRef"]["subresource"] = "status".into();
        }),
        line(|event| {
            event["objectRef"] = json!({ "resource": "pods", "namespace": "ns" });
            event["annotations"]["authorization.k8s.io/decision"] = "forbid".into();
            event["responseStatus"]["code"] = 403.into();
        }),
        // Somebody else's, somewhere else, nowhere.
        line(|event| event["user"]["username"] = "system:serviceaccount:ns:other".into()),
        line(|event| event["objectRef"]["namespace"] = "other".into()),
        line(|event| drop(event.as_object_mut().unwrap().remove("objectRef"))),
        // Mentioned, but not the one who does it.
        line(|event| {
            event["user"]["username"] = "admin".into();
            event["impersonatedUser"] = json!({ "username": USER });
        }),
    ];
    let deeds = Deeds::read(&log.concat(), USER, "ns");
    assert_eq!(
        texts(&deeds.used),
        [
            "list tunnelendpoints (tunnelregistry.io)",
            "patch tunnelendpoints/status (tunnelregistry.io)",
            "watch tunnelendpoints (tunnelregistry.io)",
        ]
    );
    assert_eq!(texts(&deeds.forbidden), ["list pods"]);
}

#[test]
fn a_patch_that_makes_an_object_uses_create() {
    let patch = |code: u16| {
        let log = line(|event| {
            event["verb"] = "patch".into();
            event["responseStatus"]["code"] = code.into();
        });
        Deeds::read(&log, USER, "ns")
    };
    let create = "create tunnelendpoints (tunnelregistry.io)";
    let patched = "patch tunnelendpoints (tunnelregistry.io)";
    assert_eq!(texts(&patch(200).used), [patched]);
    assert_eq!(texts(&patch(201).used), [create, patched]);
    assert_eq!(texts(&patch(403).forbidden), [create]);
}

#[test]
fn a_line_in_the_making_waits() {
    let whole = line(|_| {});
    let log = whole.clone() + &whole[..40];
    assert_eq!(Deeds::read(&log, USER, "ns").used.len(), 1);
    assert_eq!(Deeds::read(&whole[..40], USER, "ns"), Deeds::default());
}
