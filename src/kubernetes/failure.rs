//! What a failed request means for whoever made it. Pure.

use std::time::Duration;

use kube::core::Status;

use crate::causes::chain;

/// What a failed request means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no object of that name.
    #[error("there is no such object")]
    Absent,
    /// An object of that name is there already, or is not as the request said.
    #[error("the object was made or changed by somebody else")]
    Conflict,
    /// What was asked for is too long ago, or the server has not seen it yet:
    /// list again.
    #[error("the API server does not have that version any more")]
    Expired,
    /// Nobody could connect, or the connection was lost.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// The request may be answered later, or once somebody has done what the
    /// text says.
    #[error("{0}")]
    Unavailable(String),
    /// The request will not be answered as it is; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// Causes and reasons that the API server names (`metav1.StatusReason`,
/// `metav1.CauseType`).
const TOO_LARGE: &str = "ResourceVersionTooLarge";
const TERMINATING: &str = "NamespaceTerminating";

impl Failure {
    /// Not answered in time.
    #[must_use]
    pub fn late(limit: Duration) -> Self {
        Self::Unavailable(format!("the API server did not answer within {limit:?}"))
    }

    /// An answer that is not what the API server usually says.
    #[must_use]
    pub fn unreadable(why: &dyn std::error::Error) -> Self {
        Self::Unavailable(format!(
            "the API server's answer cannot be read: {}",
            chain(why)
        ))
    }

    /// What the client met.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::unreadable(error),
            kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
                Self::Refused(format!("no request can be made: {}", chain(error)))
            }
            kube::Error::Auth(_) => Self::Unavailable(format!(
                "there are no credentials for the API server: {}",
                chain(error)
            )),
            error => Self::Unreachable(chain(error)),
        }
    }

    /// What the API server said.
    #[must_use]
    pub fn of_status(status: &Status) -> Self {
        let message = match status.message.trim() {
            "" => "no reason given",
            message => message,
        };
        let answered = || format!("the API server answered {}: {message}", status.code);
        match status.code {
            _ if has_cause(status, TOO_LARGE) => Self::Expired,
            401 => Self::Unavailable(format!(
                "the API server does not accept the credentials ({message}); renew the token or the kubeconfig"
            )),
            403 if message.contains(" cannot ") && message.contains(" resource ") => {
                // `… cannot list resource "discoveryservices" in API group …`
                let manifest = match message.contains(" resource \"discovery") {
                    true => "services.yaml",
                    false => "rbac.yaml",
                };
                Self::Unavailable(format!(
                    "{message}; bind the Role of manifests/{manifest} to that account"
                ))
            }
            403 if has_cause(status, TERMINATING) => Self::Unavailable(format!(
                "{message}; the namespace is being deleted: create it anew, or name another one"
            )),
            404 => Self::not_found(status),
            409 => Self::Conflict,
            410 => Self::Expired,
            408 | 429 | 500.. => Self::Unavailable(answered()),
            _ => Self::Refused(answered()),
        }
    }

    fn not_found(status: &Status) -> Self {
        let details = status.details.as_ref();
        let (kind, name) = details.map_or(("", ""), |details| (&*details.kind, &*details.name));
        match (kind, name) {
            (_, "") => Self::Unavailable(
                "the API server does not know objects of this kind; install the definitions: tunnel-registry crd | kubectl apply -f -".into(),
            ),
            ("namespaces", name) => Self::Unavailable(format!(
                "there is no namespace {name}; create it (kubectl create namespace {name}), or name another one"
            )),
            _ => Self::Absent,
        }
    }
}

fn has_cause(status: &Status, reason: &str) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == reason)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: Value) -> Failure {
        Failure::of_status(&serde_json::from_value(status).unwrap())
    }

    fn unavailable(failure: Failure) -> String {
        match failure {
            Failure::Unavailable(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let text = unavailable(of(json!({ "code": 404, "message": "404 page not found" })));
        assert!(
            text.ends_with("tunnel-registry crd | kubectl apply -f -"),
            "{text}"
        );
        let text = unavailable(of(json!({
            "code": 404, "reason": "NotFound", "message": "namespaces \"gost\" not found",
            "details": { "kind": "namespaces", "name": "gost" },
        })));
        assert!(text.contains("kubectl create namespace gost"), "{text}");
        let text = unavailable(of(json!({
            "code": 403, "reason": "Forbidden",
            "message": "tunnelendpoints.tunnelregistry.io is forbidden: User \"u\" cannot create resource \"tunnelendpoints\" in API group \"tunnelregistry.io\" in the namespace \"n\"",
        })));
        assert!(text.contains("cannot create resource"), "{text}");
        assert!(text.contains("manifests/rbac.yaml"), "{text}");
        let text = unavailable(of(json!({
            "code": 403, "reason": "Forbidden",
            "message": "discoveryservices.tunnelregistry.io is forbidden: User \"u\" cannot list resource \"discoveryservices\" in API group \"tunnelregistry.io\" in the namespace \"n\"",
        })));
        assert!(text.contains("manifests/services.yaml"), "{text}");
        let text = unavailable(of(json!({
            "code": 403, "reason": "Forbidden", "message": "unable to create new content",
            "details": { "causes": [{ "reason": "NamespaceTerminating" }] },
        })));
        assert!(text.contains("is being deleted"), "{text}");
    }

    #[test]
    fn a_server_that_cannot_just_now_is_not_a_refusal() {
        for code in [408, 429, 500, 503, 504] {
            let text = unavailable(of(json!({ "code": code, "message": "later" })));
            assert_eq!(text, format!("the API server answered {code}: later"));
        }
        let text = unavailable(of(json!({ "code": 401, "message": "Unauthorized" })));
        assert!(text.contains("renew the token"), "{text}");
    }

    #[test]
    fn what_is_wrong_with_a_record_is_a_refusal() {
        for code in [400, 403, 405, 413, 422] {
            let failure = of(json!({ "code": code, "message": "exceeded quota" }));
            let text = format!("the API server answered {code}: exceeded quota");
            assert_eq!(failure, Failure::Refused(text));
        }
    }

    #[test]
    fn conditions_and_versions() {
        let absent = json!({ "code": 404, "details": { "kind": "leases", "name": "x" } });
        assert_eq!(of(absent), Failure::Absent);
        for reason in ["AlreadyExists", "Conflict"] {
            assert_eq!(
                of(json!({ "code": 409, "reason": reason })),
                Failure::Conflict
            );
        }
        assert_eq!(
            of(json!({ "code": 410, "reason": "Expired" })),
            Failure::Expired
        );
        let ahead = json!({
            "code": 504, "reason": "Timeout",
            "details": { "causes": [{ "reason": "ResourceVersionTooLarge" }] },
        });
        assert_eq!(of(ahead), Failure::Expired);
    }
}
