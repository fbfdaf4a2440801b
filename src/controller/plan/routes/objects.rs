//! The objects of pools, as they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::pool::{Class, Member, Pool};
use super::{Id, Kind, MAX_ADDRESSES, Session, Settings, Standing, Wanted};
use crate::resources::gateway::{
    self, BackendRef, Filter, HeaderModifier, MAX_HOSTNAMES, MAX_RULES, Match, PathMatch,
    PathModifier, Rule, SetHeader, Timeouts, UrlRewrite, duration,
};
use crate::resources::name::{hash, object_name};
use crate::session::SessionKey;
use crate::session::host::HostName;
use crate::session::place::Domain;

/// The label of all that is made for sessions, with [`MADE_BY_US`].
pub const MADE_BY: &str = "tunnelregistry.io/made-by";
/// The value of [`MADE_BY`].
pub const MADE_BY_US: &str = "controller";
/// What tells whether an object is as this program wants it.
pub const HASH: &str = "tunnelregistry.io/applied-hash";
/// The service that an object is for, for people.
pub const SERVICE: &str = "tunnelregistry.io/service";
/// The host whose addresses a slice has.
pub const HOST: &str = "tunnelregistry.io/host";
/// The port of all Services, and its name. A Gateway never dials it.
pub const PORT: u16 = 80;
/// The name of the port.
pub const PORT_NAME: &str = "http";
/// Which Service a slice is of (Kubernetes).
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who keeps a slice (Kubernetes): its own controllers leave it alone.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGED_BY_US: &str = "controller.tunnelregistry.io";
/// The kind of sessions' objects.
const SESSION_VERSION: &str = "tunnelregistry.io/v1alpha1";
const SESSION_KIND: &str = "ProxySession";
/// The most sessions that own one Service, the newest: as long as one of them
/// lives it stays, and a controller keeps them up to date.
const MAX_OWNERS: usize = 64;

/// All objects of all pools. Notes in the standings which HTTPRoutes are whose.
pub(super) fn all(
    pools: &[Pool],
    sessions: &BTreeMap<SessionKey, &Session>,
    settings: &Settings,
    standings: &mut BTreeMap<SessionKey, Standing>,
) -> BTreeMap<Id, Wanted> {
    let mut wanted = BTreeMap::new();
    // The pools of each session, by domain.
    let mut places: BTreeMap<SessionKey, BTreeMap<&Domain, Vec<usize>>> = BTreeMap::new();
    let mut rules = Vec::with_capacity(pools.len());
    for (at, pool) in pools.iter().enumerate() {
        for (class, members) in &pool.classes {
            let name = service_name(pool, class);
            put(
                &mut wanted,
                Kind::Service,
                &name,
                service(pool, class, &owners(pool, sessions)),
                Vec::new(),
            );
            for member in members {
                let Some(session) = sessions.get(&member.session.key) else {
                    continue;
                };
                for (slice_name, body) in slices(&name, member, session) {
                    put(
                        &mut wanted,
                        Kind::Slice,
                        &slice_name,
                        body,
                        vec![name.clone()],
                    );
                }
            }
        }
        rules.push(rule(pool, settings));
        for key in &pool.sessions {
            let domains = places.entry(*key).or_default();
            for domain in &pool.domains {
                domains.entry(domain).or_default().push(at);
            }
        }
    }
    for (key, domains) in places {
        let Some(session) = sessions.get(&key) else {
            continue;
        };
        for (name, body, needs) in routes(session, domains, pools, &rules, settings) {
            if let Some(standing) = standings.get_mut(&key) {
                standing.routes.push(name.clone());
            }
            put(&mut wanted, Kind::Route, &name, body, needs);
        }
    }
    wanted
}

/// Adds an object with what all have.
fn put(
    wanted: &mut BTreeMap<Id, Wanted>,
    kind: Kind,
    name: &str,
    mut body: Value,
    needs: Vec<String>,
) {
    let version = match kind {
        Kind::Service => "v1".to_owned(),
        Kind::Slice => "discovery.k8s.io/v1".to_owned(),
        Kind::Route => format!("{}/{}", gateway::GROUP, gateway::VERSION),
    };
    body["apiVersion"] = version.into();
    body["kind"] = kind.as_str().into();
    body["metadata"]["name"] = name.into();
    body["metadata"]["labels"][MADE_BY] = MADE_BY_US.into();
    let hash = hash(&[&body.to_string()]);
    body["metadata"]["annotations"][HASH] = hash.as_str().into();
    let id = Id {
        kind,
        name: name.into(),
    };
    wanted.insert(id, Wanted { body, hash, needs });
}

/// The reference to a session that owns an object. It does not hold up the
/// session's own deletion.
fn owner(session: &Session) -> Value {
    json!({
        "apiVersion": SESSION_VERSION,
        "kind": SESSION_KIND,
        "name": session.name,
        "uid": session.uid,
    })
}

/// All sessions of a pool own all its Services, also those that have none of
/// their slices: routes of the ones never send to a Service that went with
/// another.
fn owners(pool: &Pool, sessions: &BTreeMap<SessionKey, &Session>) -> Vec<Value> {
    let newest = pool.sessions.iter().rev().take(MAX_OWNERS);
    let found = newest.filter_map(|key| sessions.get(key));
    found.map(|session| owner(session)).collect()
}

/// Everything that a Service means, but who is in it.
fn service_name(pool: &Pool, class: &Class) -> String {
    let (protocol, weight) = (class.protocol.to_string(), class.weight.to_string());
    let lane = class.lane.to_string();
    let mut identity = vec!["service", &pool.service, pool.path.as_str()];
    identity.extend(pool.domains.iter().map(Domain::as_str));
    // No domain begins so: where they end is plain.
    identity.extend(["/", &protocol, &weight, &lane]);
    object_name(&pool.service, &identity)
}

fn service(pool: &Pool, class: &Class, owners: &[Value]) -> Value {
    let port = json!({
        "name": PORT_NAME,
        "port": PORT,
        "protocol": "TCP",
        "appProtocol": class.protocol.app_protocol(),
    });
    json!({
        "metadata": {
            "annotations": { SERVICE: pool.service },
            "ownerReferences": owners,
        },
        "spec": { "clusterIP": "None", "ports": [port] },
    })
}

/// The slices of a session in a Service: one for IPv4 and one for IPv6, as far as
/// it has addresses. Without any it has an empty one, so that a Gateway answers
/// 503 and not 500.
fn slices<'a>(
    service: &'a str,
    member: &'a Member,
    session: &'a Session,
) -> impl Iterator<Item = (String, Value)> + 'a {
    let families = [("IPv4", true), ("IPv6", false)].into_iter();
    families.filter_map(move |(family, is_ipv4)| {
        let addresses = member.addresses.iter();
        let addresses = addresses
            .filter(|ip| ip.is_ipv4() == is_ipv4)
            .take(MAX_ADDRESSES);
        let is_ready = member.is_active();
        let endpoints: Vec<_> = addresses
            .map(|ip| json!({ "addresses": [ip.to_string()], "conditions": { "ready": is_ready } }))
            .collect();
        let is_needed = !endpoints.is_empty() || (member.addresses.is_empty() && is_ipv4);
        is_needed.then(|| {
            let key = member.session.key.to_string();
            let of = &member.session.registration.instance.service;
            let name = object_name(of.as_str(), &["slice", service, &key, family]);
            let options = &member.session.options;
            let protocol = super::pool::Protocol::of(&member.backend, options);
            let port = json!({
                "name": PORT_NAME,
                "port": member.backend.port(),
                "protocol": "TCP",
                "appProtocol": protocol.app_protocol(),
            });
            let body = json!({
                "metadata": {
                    "labels": { SERVICE_NAME: service, MANAGED_BY: MANAGED_BY_US },
                    "annotations": { HOST: member.backend.host().as_str() },
                    "ownerReferences": [owner(session)],
                },
                "addressType": family,
                "endpoints": endpoints,
                "ports": [port],
            });
            (name, body)
        })
    })
}

/// The host of an observed slice, with its addresses.
#[must_use]
pub fn host_of(slice: &Value) -> Option<(HostName, Vec<IpAddr>)> {
    let host = slice["metadata"]["annotations"][HOST].as_str()?;
    let endpoints = slice["endpoints"].as_array();
    let addresses = endpoints.into_iter().flatten();
    let addresses =
        addresses.filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok());
    Some((HostName::parse(host).ok()?, addresses.collect()))
}

/// What all routes say of a pool's places, and the Services of ours that it needs.
fn rule(pool: &Pool, settings: &Settings) -> (Rule, Vec<String>) {
    let responder = settings.maintenance.as_ref();
    let responder = responder.filter(|_| pool.is_in_maintenance());
    let mut needs = Vec::new();
    let backend_refs = match responder {
        Some(responder) => vec![responder.clone()],
        None => {
            let shares = pool.shares().into_iter();
            let refs = shares.map(|(class, weight)| {
                let name = service_name(pool, &class);
                needs.push(name.clone());
                BackendRef {
                    name,
                    port: PORT,
                    weight,
                }
            });
            refs.collect()
        }
    };
    let mut filters = Vec::new();
    if !pool.headers.is_empty() {
        let headers = pool.headers.iter();
        let set = headers.map(|header| SetHeader {
            name: header.name.to_string(),
            value: header.value.to_string(),
        });
        filters.push(Filter::ResponseHeaderModifier {
            response_header_modifier: HeaderModifier { set: set.collect() },
        });
    }
    // The responder is asked for what the client asked for.
    if let Some(path) = pool
        .rewrite
        .clone()
        .filter(|_| responder.is_none() && !pool.classes.is_empty())
    {
        let path = PathModifier::ReplacePrefixMatch {
            replace_prefix_match: path,
        };
        filters.push(Filter::UrlRewrite {
            url_rewrite: UrlRewrite { path },
        });
    }
    let request = pool.timeout_ms.map(duration);
    let path = PathMatch {
        type_: "PathPrefix".into(),
        value: pool.path.to_string(),
    };
    let rule = Rule {
        matches: vec![Match { path }],
        filters,
        backend_refs,
        timeouts: request.map(|request| Timeouts { request }),
    };
    (rule, needs)
}

/// A session's HTTPRoutes: domains with the same rules are together.
fn routes(
    session: &Session,
    domains: BTreeMap<&Domain, Vec<usize>>,
    pools: &[Pool],
    rules: &[(Rule, Vec<String>)],
    settings: &Settings,
) -> Vec<(String, Value, Vec<String>)> {
    let mut alike: BTreeMap<Vec<usize>, Vec<&Domain>> = BTreeMap::new();
    for (domain, pools) in domains {
        alike.entry(pools).or_default().push(domain);
    }
    let record = &session.record;
    let service = record.registration.instance.service.as_str();
    let key = record.key.to_string();
    let mut routes = Vec::new();
    for (at, domains) in &alike {
        let fits_in_one = at.len() <= MAX_RULES;
        for domains in domains.chunks(MAX_HOSTNAMES) {
            for at in at.chunks(MAX_RULES) {
                let mut identity = vec!["route", &key];
                identity.extend(domains.iter().map(|domain| domain.as_str()));
                if !fits_in_one {
                    // So that no path is missing while they change one by one.
                    identity.extend(at.iter().map(|at| pools[*at].path.as_str()));
                }
                let rules_of: Vec<_> = at.iter().map(|at| &rules[*at].0).collect();
                let needs: BTreeSet<_> = at.iter().flat_map(|at| rules[*at].1.clone()).collect();
                let body = json!({
                    "metadata": {
                        "annotations": { SERVICE: service },
                        "ownerReferences": [owner(session)],
                    },
                    "spec": {
                        "parentRefs": settings.gateways,
                        "hostnames": domains,
                        "rules": rules_of,
                    },
                });
                let name = object_name(service, &identity);
                routes.push((name, body, needs.into_iter().collect()));
            }
        }
    }
    routes
}
