mod any;
mod rules;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::lease::Lease;
use crate::resources::gateway::HttpRoute;
use crate::session::Command;
use crate::session::id::SessionId;
use crate::session::options::Options;
use crate::session::record::Routes;
use crate::session::registration::Registration;

/// The session that its service opened at this second, with what these lines say.
fn session(service: &str, second: i64, lines: &[&str]) -> Session {
    let host = format!("h{second}");
    let registration = Registration::parse(service, &host, "9000", "0").unwrap();
    let at = Timestamp::from_second(second).unwrap();
    let id = SessionId::new(&registration.instance, at, [7; 16]);
    let mut record = SessionRecord {
        key: id.key(),
        front: id.to_string().into(),
        registration,
        registered: at,
        supersedes: Vec::new(),
        routes: Routes::default(),
        headers: Vec::new(),
        options: Options::default(),
        maintenance: false,
        lease: Lease::held("me".into(), at, Duration::from_secs(60)),
        written_by: "me".into(),
        is_static: false,
    };
    for line in lines {
        match Command::parse(line).unwrap() {
            Command::Change(_, change) => record = record.with(&change).unwrap(),
            command => panic!("{command:?}"),
        }
    }
    Session {
        record: record.into(),
        name: format!("{service}-{second}"),
        uid: format!("uid-{service}-{second}"),
    }
}

/// One that serves a place at an address.
fn at(service: &str, second: i64, route: &str, more: &[&str]) -> Session {
    let route = format!("ROUTE|s|{route}");
    let mut lines = vec![&*route];
    lines.extend(more);
    session(service, second, &lines)
}

fn settings() -> Settings {
    Settings {
        gateways: vec![ParentRef::parse("edge/web").unwrap()],
        maintenance: None,
    }
}

fn with_responder() -> Settings {
    Settings {
        maintenance: Some(BackendRef {
            name: "responder".into(),
            port: 8080,
            weight: None,
        }),
        ..settings()
    }
}

/// IP addresses are known, names are not.
fn addresses(sessions: &[Session]) -> Addresses {
    let backends = sessions.iter().flat_map(|it| it.record.routes.0.values());
    let hosts = backends.map(|backend| backend.host());
    let known = hosts.filter_map(|host| {
        let ip: IpAddr = host.as_str().parse().ok()?;
        Some((host.clone(), [ip].into()))
    });
    known.collect()
}

fn planned(sessions: &[Session]) -> Plan {
    plan(sessions, &addresses(sessions), &settings())
}

impl Plan {
    fn of(&self, kind: Kind) -> Vec<&Wanted> {
        let all = self.wanted.iter().filter(|(id, _)| id.kind == kind);
        all.map(|(_, wanted)| wanted).collect()
    }

    fn routes(&self) -> Vec<HttpRoute> {
        let routes = self.of(Kind::Route).into_iter();
        routes
            .map(|it| serde_json::from_value(it.body.clone()).unwrap())
            .collect()
    }

    /// The rule for a place, which must be the same in all routes that have it.
    fn rule(&self, domain: &str, path: &str) -> Option<crate::resources::gateway::Rule> {
        let mut found = None;
        for route in self.routes() {
            if route.spec.hostnames.iter().any(|name| name == domain) {
                for rule in route.spec.rules {
                    if rule.matches[0].path.value == path {
                        assert!(found.is_none() || found.as_ref() == Some(&rule));
                        found = Some(rule);
                    }
                }
            }
        }
        found
    }

    /// The addresses that requests to a place go to, with their weights.
    fn targets(&self, domain: &str, path: &str) -> Vec<(String, Option<u32>)> {
        let mut targets = Vec::new();
        for backend in self
            .rule(domain, path)
            .map(|it| it.backend_refs)
            .unwrap_or_default()
        {
            for slice in self.of(Kind::Slice) {
                let body = &slice.body;
                if body["metadata"]["labels"]["kubernetes.io/service-name"] == *backend.name {
                    for endpoint in body["endpoints"].as_array().unwrap() {
                        if endpoint["conditions"]["ready"] == true {
                            let ip = endpoint["addresses"][0].as_str().unwrap();
                            let target = format!("{ip}:{}", body["ports"][0]["port"]);
                            targets.push((target, backend.weight));
                        }
                    }
                }
            }
        }
        targets.sort();
        targets
    }

    fn standing(&self, session: &Session) -> &Standing {
        &self.standings[&session.record.key]
    }
}

#[test]
fn a_session_becomes_a_route_a_service_and_a_slice() {
    let one = at(
        "api-service",
        1,
        "api.example.com,www.example.com|/v2|http://10.0.0.5:9000",
        &["HEADER|s|X-API-Version|2.0", "OPTIONS|s|timeout|90s"],
    );
    let plan = planned(std::slice::from_ref(&one));
    let [route] = &plan.of(Kind::Route)[..] else {
        panic!("{:?}", plan.wanted.keys())
    };
    let [service] = &plan.of(Kind::Service)[..] else {
        panic!("{:?}", plan.wanted.keys())
    };
    let [slice] = &plan.of(Kind::Slice)[..] else {
        panic!("{:?}", plan.wanted.keys())
    };
    let name = |wanted: &Wanted| wanted.body["metadata"]["name"].clone();
    let owner = json!([{
        "apiVersion": "tunnelregistry.io/v1alpha1", "kind": "ProxySession",
        "name": "api-service-1", "uid": "uid-api-service-1",
    }]);
    assert_eq!(
        route.body,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {
                "name": name(route),
                "labels": { "tunnelregistry.io/made-by": "controller" },
                "annotations": {
                    "tunnelregistry.io/service": "api-service",
                    "tunnelregistry.io/applied-hash": route.hash,
                },
                "ownerReferences": owner,
            },
            "spec": {
                "parentRefs": [{ "name": "web", "namespace": "edge" }],
                "hostnames": ["api.example.com", "www.example.com"],
                "rules": [{
                    "matches": [{ "path": { "type": "PathPrefix", "value": "/v2" } }],
                    "filters": [{
                        "type": "ResponseHeaderModifier",
                        "responseHeaderModifier": {
                            "set": [{ "name": "X-API-Version", "value": "2.0" }],
                        },
                    }],
                    "backendRefs": [{ "name": name(service), "port": 80 }],
                    "timeouts": { "request": "1m30s" },
                }],
            },
        })
    );
    assert_eq!(
        service.body,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name(service),
                "labels": { "tunnelregistry.io/made-by": "controller" },
                "annotations": {
                    "tunnelregistry.io/service": "api-service",
                    "tunnelregistry.io/applied-hash": service.hash,
                },
                "ownerReferences": owner,
            },
            "spec": {
                "clusterIP": "None",
                "ports": [{
                    "name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http",
                }],
            },
        })
    );
    assert_eq!(
        slice.body,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name(slice),
                "labels": {
                    "tunnelregistry.io/made-by": "controller",
                    "kubernetes.io/service-name": name(service),
                    "endpointslice.kubernetes.io/managed-by": "controller.tunnelregistry.io",
                },
                "annotations": {
                    "tunnelregistry.io/host": "10.0.0.5",
                    "tunnelregistry.io/applied-hash": slice.hash,
                },
                "ownerReferences": owner,
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.0.0.5"], "conditions": { "ready": true } }],
            "ports": [{
                "name": "http", "port": 9000, "protocol": "TCP", "appProtocol": "http",
            }],
        })
    );
    assert_eq!(plan.standing(&one).routes, [name(route).as_str().unwrap()]);
}

#[test]
fn the_same_sessions_make_the_same_objects_in_any_order() {
    let mut sessions = vec![
        at("api", 1, "a.com|/|http://10.0.0.1:1", &["HEADER|s|X-A|1"]),
        at("api", 2, "a.com|/|http://10.0.0.2:1", &["HEADER|s|X-B|1"]),
        at("web", 3, "a.com|/web|http://10.0.0.3:1", &[]),
    ];
    let one = planned(&sessions);
    sessions.reverse();
    assert_eq!(planned(&sessions), one);
}

#[test]
fn a_session_that_joins_or_leaves_changes_nothing_of_the_others_but_the_owners() {
    let first = at("api", 1, "a.com,b.com|/|http://10.0.0.1:9000", &[]);
    let second = at("api", 2, "a.com,b.com|/|http://10.0.0.2:9001", &[]);
    let alone = planned(std::slice::from_ref(&first));
    let both = planned(&[first, second]);
    for (id, wanted) in &alone.wanted {
        let after = &both.wanted[id];
        match id.kind {
            Kind::Service => {
                let owners = after.body["metadata"]["ownerReferences"]
                    .as_array()
                    .unwrap();
                assert_eq!(owners.len(), 2);
                assert_eq!(after.body["spec"], wanted.body["spec"]);
            }
            Kind::Slice | Kind::Route => assert_eq!(after, wanted),
        }
    }
    assert_eq!(both.of(Kind::Service).len(), 1, "both ports are in it");
    assert_eq!(
        both.targets("b.com", "/"),
        [
            ("10.0.0.1:9000".into(), None),
            ("10.0.0.2:9001".into(), None)
        ]
    );
}

#[test]
fn a_service_never_comes_to_mean_other_places() {
    let first = at("api", 1, "a.com,b.com|/|http://10.0.0.1:9000", &[]);
    let second = at("api", 2, "a.com|/|http://10.0.0.2:9000", &[]);
    let alone = planned(std::slice::from_ref(&first));
    let both = planned(&[first, second]);
    let names = |plan: &Plan| -> BTreeSet<String> {
        let services = plan.wanted.keys().filter(|id| id.kind == Kind::Service);
        services.map(|id| id.name.clone()).collect()
    };
    assert!(names(&alone).is_disjoint(&names(&both)));
    assert_eq!(both.targets("a.com", "/").len(), 2);
    assert_eq!(both.targets("b.com", "/"), [("10.0.0.1:9000".into(), None)]);
}

#[test]
fn domains_with_the_same_rules_share_routes_within_the_bounds() {
    let domains: Vec<_> = (0..20).map(|n| format!("d{n:02}.com")).collect();
    let route = format!("{}|/|http://10.0.0.1", domains.join(","));
    let one = at("api", 1, &route, &["ROUTE|s|other.com|/x|http://10.0.0.1"]);
    let plan = planned(&[one]);
    let mut counts: Vec<_> = plan
        .routes()
        .iter()
        .map(|it| it.spec.hostnames.len())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 4, 16]);
    assert_eq!(plan.of(Kind::Service).len(), 2);

    let paths: Vec<_> = (0..40)
        .map(|n| format!("ROUTE|s|a.com|/{n}|http://10.0.0.1"))
        .collect();
    let lines: Vec<_> = paths.iter().map(String::as_str).collect();
    let plan = planned(&[session("api", 1, &lines)]);
    let mut counts: Vec<_> = plan.routes().iter().map(|it| it.spec.rules.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [8, 16, 16]);
    for n in 0..40 {
        assert!(plan.rule("a.com", &format!("/{n}")).is_some());
    }
}

#[test]
fn weights_are_shares_of_sessions() {
    let weighted = |second: i64, weight: &str| {
        let option = format!("OPTIONS|s|weight|{weight}");
        let route = format!("a.com|/|http://10.0.0.{second}");
        at("api", second, &route, &[&option])
    };
    let target = |second: i64, weight| (format!("10.0.0.{second}:80"), weight);
    let plan = planned(&[weighted(1, "3"), weighted(2, "3"), weighted(3, "1")]);
    assert_eq!(
        plan.targets("a.com", "/"),
        [target(1, Some(6)), target(2, Some(6)), target(3, Some(1))]
    );
    let plan = planned(&[weighted(1, "3"), weighted(2, "3")]);
    assert_eq!(
        plan.targets("a.com", "/"),
        [target(1, None), target(2, None)]
    );
    let plan = planned(&[weighted(1, "0"), weighted(2, "5")]);
    assert_eq!(
        plan.targets("a.com", "/"),
        [target(1, Some(0)), target(2, Some(5))]
    );
    let plan = planned(&[weighted(1, "0")]);
    assert_eq!(plan.targets("a.com", "/"), [target(1, Some(0))]);
}

#[test]
fn a_weight_is_never_larger_than_a_gateway_takes() {
    let mut sessions: Vec<_> = (1..=1_100)
        .map(|n| {
            let route = format!("a.com|/|http://10.0.{}.{}", n / 250, n % 250 + 1);
            at("api", n, &route, &["OPTIONS|s|weight|1000"])
        })
        .collect();
    sessions.push(at("api", 2_000, "a.com|/|http://10.1.0.1", &[]));
    let plan = planned(&sessions);
    let weights: BTreeSet<_> = plan
        .targets("a.com", "/")
        .into_iter()
        .map(|it| it.1)
        .collect();
    assert_eq!(weights, [Some(1), Some(1_000_000)].into());
    let service = plan.of(Kind::Service)[0];
    let owners = service.body["metadata"]["ownerReferences"]
        .as_array()
        .unwrap();
    assert_eq!(owners.len(), 64);
}

#[test]
fn ports_of_one_address_are_in_services_of_their_own() {
    let sessions = [
        at("api", 1, "a.com|/|http://10.0.0.1:9000", &[]),
        at("api", 2, "a.com|/|http://10.0.0.1:9001", &[]),
        at("api", 3, "a.com|/|http://10.0.0.2:9002", &[]),
    ];
    let plan = planned(&sessions);
    assert_eq!(plan.of(Kind::Service).len(), 2);
    assert_eq!(
        plan.targets("a.com", "/"),
        [
            ("10.0.0.1:9000".into(), Some(2)),
            ("10.0.0.1:9001".into(), Some(1)),
            ("10.0.0.2:9002".into(), Some(2)),
        ]
    );
}

#[test]
fn a_rule_has_no_more_backends_than_it_may() {
    let sessions: Vec<_> = (1..=18)
        .map(|n| at("api", n, &format!("a.com|/|http://10.0.0.1:{n}"), &[]))
        .collect();
    let plan = planned(&sessions);
    assert_eq!(plan.targets("a.com", "/").len(), 16);
    assert_eq!(plan.standing(&sessions[15]).too_many, [""; 0]);
    assert_eq!(plan.standing(&sessions[17]).too_many, ["a.com/"]);
}
