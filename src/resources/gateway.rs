//! What of the Gateway API (gateway.networking.k8s.io/v1) the product writes and
//! reads: an `HTTPRoute`, as far as it is needed.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The version that is written.
pub const VERSION: &str = "v1";
/// The most host names of one `HTTPRoute`.
pub const MAX_HOSTNAMES: usize = 16;
/// The most rules of one `HTTPRoute`.
pub const MAX_RULES: usize = 16;
/// The most backends of one rule.
pub const MAX_BACKENDS: usize = 16;
/// The most Gateways that an `HTTPRoute` may name.
pub const MAX_PARENTS: usize = 32;
/// The largest weight of a backend.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// The longest path to put in the place of another, in bytes.
pub const MAX_PATH: usize = 1_024;

/// Which requests go where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// Name, owner and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: HttpRouteSpec,
    /// What the Gateways say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HttpRouteStatus>,
}

impl Resource for HttpRoute {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "HTTPRoute".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "httproutes".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What an `HTTPRoute` is to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The Gateways that are to serve it; at most [`MAX_PARENTS`].
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// For which hosts all the rules are; at most [`MAX_HOSTNAMES`].
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// At most [`MAX_RULES`].
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Its name.
    pub name: String,
    /// Its namespace; none for the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The listener; none for all that take the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// A text that names no Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be NAME, NAMESPACE/NAME or NAMESPACE/NAME/LISTENER")]
pub struct ParentError;

impl ParentRef {
    /// Parses `NAME`, `NAMESPACE/NAME` or `NAMESPACE/NAME/LISTENER`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, ParentError> {
        let parts: Vec<_> = text.split('/').collect();
        let (namespace, name, listener) = match parts.as_slice() {
            [name] => (None, *name, None),
            [namespace, name] => (Some(*namespace), *name, None),
            [namespace, name, listener] => (Some(*namespace), *name, Some(*listener)),
            _ => return Err(ParentError),
        };
        let is_namespace =
            namespace.is_none_or(|text| is_name(text) && !text.contains('.') && text.len() <= 63);
        if is_namespace && is_name(name) && listener.is_none_or(is_name) {
            Ok(Self {
                name: name.into(),
                namespace: namespace.map(Into::into),
                section_name: listener.map(Into::into),
            })
        } else {
            Err(ParentError)
        }
    }

    /// Whether both are the same for routes in `namespace`.
    #[must_use]
    pub fn is(&self, other: &Self, namespace: &str) -> bool {
        let of = |one: &Self| {
            one.namespace
                .clone()
                .unwrap_or_else(|| namespace.to_owned())
        };
        self.name == other.name && of(self) == of(other) && self.section_name == other.section_name
    }
}

impl fmt::Display for ParentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        match &self.section_name {
            Some(listener) => write!(f, "/{listener}"),
            None => Ok(()),
        }
    }
}

/// Whether this is the name of an object (RFC 1123).
pub fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// What becomes of the requests that match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which requests.
    #[serde(default)]
    pub matches: Vec<Match>,
    /// What is changed about requests and responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where they go; at most [`MAX_BACKENDS`].
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    /// How long they may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// Which requests a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Their path.
    pub path: PathMatch,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    /// `PathPrefix` in what is written here.
    #[serde(rename = "type")]
    pub type_: String,
    /// The front of the path.
    pub value: String,
}

/// One change of requests or responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Filter {
    /// Headers of the response.
    #[serde(rename_all = "camelCase")]
    ResponseHeaderModifier {
        /// What is set.
        response_header_modifier: HeaderModifier,
    },
    /// The request's path.
    #[serde(rename_all = "camelCase")]
    #[serde(rename = "URLRewrite")]
    UrlRewrite {
        /// What takes its place.
        url_rewrite: UrlRewrite,
    },
}

/// Which headers are set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderModifier {
    /// At most 16, each name once whatever its case.
    pub set: Vec<SetHeader>,
}

/// A header that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What takes the place of a request's path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlRewrite {
    /// The path.
    pub path: PathModifier,
}

/// What takes the place of the front of a path that was matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum PathModifier {
    /// Another front.
    #[serde(rename_all = "camelCase")]
    ReplacePrefixMatch {
        /// At most [`MAX_PATH`] bytes.
        replace_prefix_match: String,
    },
}

/// A Service that requests go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRef {
    /// Its name, in the route's namespace.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its share, at most [`MAX_WEIGHT`]; none is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// How long requests may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// From the request to the whole response, as [`duration`] writes it.
    pub request: String,
}

/// What the Gateways say of an `HTTPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpRouteStatus {
    /// Each Gateway's word, from each controller that looked at it.
    #[serde(default)]
    pub parents: Vec<ParentStatus>,
}

/// What one Gateway says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// Which Gateway.
    pub parent_ref: ParentRef,
    /// `Accepted`, `ResolvedRefs` and others.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A time as the Gateway API writes it (GEP-2257): whole hours, minutes, seconds
/// and milliseconds. Up to 99,999 h.
#[must_use]
pub fn duration(milliseconds: u64) -> String {
    let mut text = String::new();
    let parts = [
        (milliseconds / 3_600_000, "h"),
        (milliseconds / 60_000 % 60, "m"),
        (milliseconds / 1_000 % 60, "s"),
        (milliseconds % 1_000, "ms"),
    ];
    for (number, unit) in parts {
        if number != 0 {
            text.push_str(&number.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_as_the_gateway_api_writes_them() {
        for (milliseconds, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1_500, "1s500ms"),
            (60_000, "1m"),
            (3_600_000, "1h"),
            (86_399_999, "23h59m59s999ms"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn gateways_are_named_in_three_ways() {
        for text in [
            "web",
            "edge/web",
            "edge/web/https",
            "edge/web.internal/https",
        ] {
            assert_eq!(ParentRef::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "", "/web", "web/", "a/b/c/d", "Web", "a.b/web", "-web", "a b",
        ] {
            assert_eq!(ParentRef::parse(text), Err(ParentError), "{text:?}");
        }
    }

    #[test]
    fn a_gateway_of_the_own_namespace_is_the_same_with_and_without_it() {
        let parse = |text| ParentRef::parse(text).unwrap();
        assert!(parse("web").is(&parse("own/web"), "own"));
        assert!(!parse("web").is(&parse("edge/web"), "own"));
        assert!(!parse("own/web/http").is(&parse("own/web"), "own"));
    }

    #[test]
    fn it_is_written_and_read_as_the_gateway_api_has_it() {
        let value = json!({
            "metadata": { "name": "x" },
            "spec": {
                "parentRefs": [{ "name": "web", "sectionName": "https" }],
                "hostnames": ["a.example.com"],
                "rules": [{
                    "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
                    "filters": [
                        { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                            "set": [{ "name": "X-A", "value": "1" }] } },
                        { "type": "URLRewrite", "urlRewrite": { "path": {
                            "type": "ReplacePrefixMatch", "replacePrefixMatch": "/base" } } },
                    ],
                    "backendRefs": [{ "name": "s", "port": 80, "weight": 2 }],
                    "timeouts": { "request": "60s" },
                }],
            },
        });
        let route: HttpRoute = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&route).unwrap(), value);
    }
}
