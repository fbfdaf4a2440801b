//! What the status of a session says: how it stands, in conditions whose texts
//! are the same each time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Standing;
use crate::resources::gateway::{HttpRouteStatus, ParentRef};
use crate::session::SessionRecord;

/// The condition that sums all others up: the session's routes are served.
pub const READY: &str = "Ready";
/// The condition that the Gateways take its HTTPRoutes.
pub const ROUTES_ACCEPTED: &str = "RoutesAccepted";
/// The condition that Gateways cannot be told of some of its options; there only
/// while that is so.
pub const UNSUPPORTED_OPTIONS: &str = "UnsupportedOptions";
/// The conditions that are ours; others' are left as they are.
pub const OURS: [&str; 3] = [READY, ROUTES_ACCEPTED, UNSUPPORTED_OPTIONS];

/// The most conditions in a status.
const MAX_CONDITIONS: usize = 8;
/// How many of several are named.
const NAMED: usize = 3;

/// How the Gateway API is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    /// HTTPRoutes are read.
    Ready,
    /// The API server does not know HTTPRoutes.
    Missing,
    /// This account may not use what is needed.
    Forbidden,
    /// There is no Gateway to name.
    Unset,
}

/// What Gateways say of the HTTPRoutes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has no HTTPRoutes.
    Nothing,
    /// All take all.
    Accepted,
    /// This one has not said anything yet.
    Waiting(String),
    /// This one does not take this HTTPRoute, and why in one word.
    Refused {
        /// The Gateway.
        gateway: String,
        /// The HTTPRoute.
        route: String,
        /// Why.
        reason: String,
    },
}

/// A condition, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Which condition.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why, as one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl Word {
    fn new(condition: &'static str, status: &'static str, reason: &str, message: &str) -> Self {
        Self {
            condition,
            status,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// How a session stands before anybody else is looked at.
#[must_use]
pub fn first(record: &SessionRecord) -> Standing {
    let options = &record.options;
    let size = options.max_body_size.is_some_and(|bytes| bytes != 0);
    let checked = options.health_check_interval_ms.is_some()
        || options.health_check_timeout_ms.is_some()
        || options.health_check_path.is_some();
    let unsupported = [
        ("compression", options.compression == Some(true)),
        ("health_check", checked),
        ("http3", options.http3 == Some(true)),
        ("max_body_size", size),
        ("websocket=false", options.websocket == Some(false)),
    ];
    let unsupported = unsupported.into_iter().filter(|(_, is)| *is);
    Standing {
        places: record.routes.0.len(),
        maintenance: record.maintenance,
        is_static: record.is_static,
        unsupported: unsupported.map(|(name, _)| name).collect(),
        ..Standing::default()
    }
}

/// What all Gateways say of a session's HTTPRoutes: `routes` has each with its
/// namespace, its generation and its status, as far as it is there.
#[must_use]
pub fn verdict<'a>(
    gateways: &[ParentRef],
    namespace: &str,
    routes: impl Iterator<Item = (&'a str, i64, Option<&'a HttpRouteStatus>)>,
) -> Verdict {
    let mut waiting = None;
    let mut count = 0;
    for (route, generation, status) in routes {
        count += 1;
        for gateway in gateways {
            let parents = status.map_or(&[][..], |status| &status.parents);
            let mut said = parents
                .iter()
                .filter(|one| one.parent_ref.is(gateway, namespace));
            let Some(said) = said.next() else {
                waiting.get_or_insert_with(|| gateway.to_string());
                continue;
            };
            let of = |condition: &str| said.conditions.iter().find(|one| one.type_ == condition);
            for condition in ["Accepted", "ResolvedRefs"] {
                match of(condition) {
                    Some(one) if one.status == "False" => {
                        return Verdict::Refused {
                            gateway: gateway.to_string(),
                            route: route.into(),
                            reason: word(&one.reason),
                        };
                    }
                    Some(one)
                        if one.status == "True"
                            && one
                                .observed_generation
                                .is_none_or(|seen| seen >= generation) => {}
                    _ => {
                        waiting.get_or_insert_with(|| gateway.to_string());
                    }
                }
            }
        }
    }
    match (count, waiting) {
        (0, _) => Verdict::Nothing,
        (_, None) => Verdict::Accepted,
        (_, Some(gateway)) => Verdict::Waiting(gateway),
    }
}

/// A reason that a status may have, and is not too long.
fn word(reason: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric();
    match (1..=64).contains(&reason.len())
        && reason.bytes().all(fits)
        && reason.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        true => reason.into(),
        false => "Refused".into(),
    }
}

/// The first of several, and how many more there are.
fn list<T: ToString>(all: &[T]) -> String {
    let named: Vec<_> = all.iter().take(NAMED).map(T::to_string).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What a session's status says.
#[must_use]
pub fn words(standing: &Standing, verdict: &Verdict, api: Api) -> Vec<Word> {
    let mut words = vec![ready(standing, verdict, api), accepted(verdict, api)];
    if !standing.unsupported.is_empty() {
        let names = standing.unsupported.join(", ");
        words.push(Word::new(
            UNSUPPORTED_OPTIONS,
            "True",
            "NotInGatewayApi",
            &format!("Gateways cannot be told of {names}; set that at the Gateway itself"),
        ));
    }
    words
}

fn ready(standing: &Standing, verdict: &Verdict, api: Api) -> Word {
    let no = |reason: &str, message: String| Word::new(READY, "False", reason, &message);
    if standing.places == 0 {
        return no("NoRoutes", "It has announced no route yet".into());
    }
    if standing.replaced {
        let message = "A later session of the same instance serves all its routes";
        return no("Superseded", message.into());
    }
    match api {
        Api::Unset => return no("NoGateway", NO_GATEWAY.into()),
        Api::Missing => return no("GatewayApiMissing", MISSING.into()),
        Api::Forbidden => return no("Forbidden", FORBIDDEN.into()),
        Api::Ready | Api::Unknown => {}
    }
    if let Some((place, winner)) = standing.lost.first() {
        let more = match standing.lost.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more of its routes have others"),
        };
        return no(
            "RouteConflict",
            format!("{place} is served by {winner}, which had it first{more}"),
        );
    }
    if !standing.unresolved.is_empty() {
        let hosts = list(&standing.unresolved);
        return no(
            "BackendUnresolved",
            format!(
                "No address is known for {hosts}; use a name that the cluster's DNS resolves, or an IP address"
            ),
        );
    }
    if !standing.unreachable.is_empty() {
        let hosts = list(&standing.unreachable);
        return no(
            "BackendUnreachable",
            format!(
                "Gateways cannot reach {hosts}: a loopback or link-local address is another one on each host"
            ),
        );
    }
    if !standing.other_path.is_empty() {
        let places = list(&standing.other_path);
        return no(
            "BackendPathDiffers",
            format!(
                "At {places} it is left out: the backend of the newest session has another path, or it is too long, and a route has one"
            ),
        );
    }
    if !standing.too_many.is_empty() {
        let places = list(&standing.too_many);
        return no(
            "TooManyBackends",
            format!(
                "At {places} it is left out: a route has at most 16 kinds of backends, of different weights, protocols, and ports of one address"
            ),
        );
    }
    match verdict {
        Verdict::Refused { reason, .. } => no(reason, accepted(verdict, api).message),
        Verdict::Nothing | Verdict::Waiting(_) => {
            no("Pending", "No Gateway has taken its routes yet".into())
        }
        Verdict::Accepted if standing.without_page => no(
            "NoMaintenanceService",
            "It is in maintenance: Gateways answer 503 without its page; start the controller with --maintenance-service".into(),
        ),
        Verdict::Accepted if standing.maintenance => no(
            "Maintenance",
            "It is in maintenance, and gets no requests".into(),
        ),
        Verdict::Accepted if standing.is_static => Word::new(
            READY,
            "True",
            "Static",
            "It was made by hand, and is served",
        ),
        Verdict::Accepted => Word::new(READY, "True", "Served", "Its routes are served"),
    }
}

const NO_GATEWAY: &str = "The controller has no Gateway; start it with --gateway";
const MISSING: &str =
    "The cluster does not know HTTPRoutes (gateway.networking.k8s.io/v1); install the Gateway API";
const FORBIDDEN: &str = "The controller may not write HTTPRoutes, Services and EndpointSlices; bind a Role that lets it";

fn accepted(verdict: &Verdict, api: Api) -> Word {
    let new =
        |status, reason: &str, message: &str| Word::new(ROUTES_ACCEPTED, status, reason, message);
    match (api, verdict) {
        (Api::Unset, _) => new("False", "NoGateway", NO_GATEWAY),
        (Api::Missing, _) => new("False", "GatewayApiMissing", MISSING),
        (Api::Forbidden, _) => new("False", "Forbidden", FORBIDDEN),
        (_, Verdict::Nothing) => new("Unknown", "NoRoutes", "It has no HTTPRoute"),
        (_, Verdict::Accepted) => new("True", "Accepted", "All Gateways take its HTTPRoutes"),
        (_, Verdict::Waiting(gateway)) => {
            let message = format!(
                "Gateway {gateway} has not taken its HTTPRoutes yet; does it exist, and does its controller run?"
            );
            new("Unknown", "Pending", &message)
        }
        (
            _,
            Verdict::Refused {
                gateway,
                route,
                reason,
            },
        ) => {
            let message = format!(
                "Gateway {gateway} does not serve it ({reason}); see the status of HTTPRoute {route}"
            );
            new("False", reason, &message)
        }
    }
}

/// The conditions that a status should have; none when it says all that already.
/// `observed` are those that it has.
#[must_use]
pub fn conditions(
    words: &[Word],
    observed: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let of = |word: &Word| observed.iter().find(|one| one.type_ == word.condition);
    let says = |word: &Word| {
        of(word).is_some_and(|one| {
            one.status == word.status
                && one.reason == word.reason
                && one.message == word.message
                && one.observed_generation == Some(generation)
        })
    };
    let ours = |one: &&Condition| OURS.contains(&&*one.type_);
    if words.iter().all(says) && observed.iter().filter(ours).count() == words.len() {
        return None;
    }
    let new = words.iter().map(|word| {
        let since = of(word).filter(|one| one.status == word.status);
        Condition {
            type_: word.condition.into(),
            status: word.status.into(),
            reason: word.reason.clone(),
            message: word.message.clone(),
            last_transition_time: Time(since.map_or(now, |one| one.last_transition_time.0)),
            observed_generation: Some(generation),
        }
    });
    let others = observed.iter().filter(|one| !ours(one)).cloned();
    Some(new.chain(others).take(MAX_CONDITIONS).collect())
}

#[cfg(test)]
mod tests;
