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

#[test]
fn protocols_are_told() {
    let of = |url: &str, more: &[&str]| {
        let url = url.replace("h", "10.0.0.1").replace("10.0.0.1ttp", "http");
        let plan = planned(&[at("api", 1, &format!("a.com|/|{url}"), more)]);
        let [service, slice] = [Kind::Service, Kind::Slice].map(|kind| {
            let port = match kind {
                Kind::Service => plan.of(kind)[0].body["spec"]["ports"][0].clone(),
                _ => plan.of(kind)[0].body["ports"][0].clone(),
            };
            port["appProtocol"].as_str().unwrap_or("none").to_owned()
        });
        assert_eq!(service, slice);
        service
    };
    assert_eq!(of("http://h", &[]), "http");
    assert_eq!(of("https://h", &[]), "https");
    assert_eq!(of("ws://h", &[]), "kubernetes.io/ws");
    assert_eq!(of("wss://h", &[]), "kubernetes.io/wss");
    let http2 = "OPTIONS|s|http2|true";
    let websocket = "OPTIONS|s|websocket|true";
    assert_eq!(of("http://h", &[http2]), "kubernetes.io/h2c");
    assert_eq!(of("https://h", &[http2]), "https");
    assert_eq!(of("http://h", &[websocket]), "kubernetes.io/ws");
    assert_eq!(of("http://h", &[http2, websocket]), "kubernetes.io/ws");
    assert_eq!(of("https://h", &[websocket]), "kubernetes.io/wss");
}

#[test]
fn what_sessions_differ_in_the_newest_decides_and_headers_are_united() {
    let sessions = [
        at(
            "api",
            1,
            "a.com|/|http://10.0.0.1",
            &["HEADER|s|X-A|1", "HEADER|s|X-B|1", "OPTIONS|s|timeout|1s"],
        ),
        at(
            "api",
            2,
            "a.com|/|http://10.0.0.2",
            &["HEADER|s|x-a|2", "OPTIONS|s|timeout|0s"],
        ),
        at("api", 3, "a.com|/|http://10.0.0.3", &[]),
    ];
    let rule = planned(&sessions).rule("a.com", "/").unwrap();
    assert_eq!(rule.timeouts.unwrap().request, "0s");
    let filters = serde_json::to_value(&rule.filters).unwrap();
    assert_eq!(
        filters[0]["responseHeaderModifier"]["set"],
        json!([{ "name": "x-a", "value": "2" }, { "name": "X-B", "value": "1" }])
    );
}

#[test]
fn a_backends_path_comes_before_what_is_asked_for() {
    for (path, backend, expected) in [
        ("/", "http://10.0.0.1/base/", "/base"),
        ("/v2", "http://10.0.0.1/base", "/base/v2"),
    ] {
        let plan = planned(&[at("api", 1, &format!("a.com|{path}|{backend}"), &[])]);
        let filters = plan.rule("a.com", path).unwrap().filters;
        assert_eq!(
            serde_json::to_value(&filters).unwrap(),
            json!([{ "type": "URLRewrite", "urlRewrite": { "path": {
                "type": "ReplacePrefixMatch", "replacePrefixMatch": expected } } }])
        );
    }
    let plan = planned(&[at("api", 1, "a.com|/v2|http://10.0.0.1/", &[])]);
    assert_eq!(plan.rule("a.com", "/v2").unwrap().filters, []);

    let sessions = [
        at("api", 1, "a.com|/|http://10.0.0.1/v1", &[]),
        at("api", 2, "a.com|/|http://10.0.0.2/v2", &[]),
    ];
    let plan = planned(&sessions);
    assert_eq!(plan.targets("a.com", "/"), [("10.0.0.2:80".into(), None)]);
    assert_eq!(plan.standing(&sessions[0]).other_path, ["a.com/"]);
    assert_eq!(plan.standing(&sessions[1]).other_path, [""; 0]);
}

#[test]
fn sessions_in_maintenance_get_no_requests_and_a_place_of_theirs_alone_is_answered() {
    let works = at("api", 1, "a.com|/|http://10.0.0.1/x", &[]);
    let rests = |second| {
        at(
            "api",
            second,
            "a.com|/|http://10.0.0.2/x",
            &["MAINT_ENTER|s"],
        )
    };
    let sessions = [works, rests(2)];
    let plan_of = |sessions: &[Session]| plan(sessions, &addresses(sessions), &with_responder());
    let plan = plan_of(&sessions);
    assert_eq!(plan.targets("a.com", "/"), [("10.0.0.1:80".into(), None)]);
    assert!(plan.standing(&sessions[1]).maintenance);

    let plan = plan_of(&[rests(2), rests(3)]);
    let rule = plan.rule("a.com", "/").unwrap();
    assert_eq!(
        serde_json::to_value(&rule.backend_refs).unwrap(),
        json!([{ "name": "responder", "port": 8080 }])
    );
    assert_eq!(
        rule.filters,
        [],
        "it is asked for what the client asked for"
    );
    assert_eq!(plan.of(Kind::Service).len(), 1, "ready for the end of it");
}

#[test]
fn what_only_drains_is_answered_like_maintenance_and_decides_nothing() {
    let drains = |second| {
        let more = ["OPTIONS|s|weight|0", "OPTIONS|s|timeout|9s"];
        at("api", second, "a.com|/|http://10.0.0.2/x", &more)
    };
    let plan_of = |sessions: &[Session]| plan(sessions, &addresses(sessions), &with_responder());
    let rule = plan_of(&[drains(2)]).rule("a.com", "/").unwrap();
    assert_eq!(rule.backend_refs[0].name, "responder");
    let works = at(
        "api",
        1,
        "a.com|/|http://10.0.0.1",
        &["OPTIONS|s|timeout|1s"],
    );
    let sessions = [works, drains(2)];
    let plan = plan_of(&sessions);
    let rule = plan.rule("a.com", "/").unwrap();
    assert_eq!(rule.timeouts.unwrap().request, "1s");
    assert_eq!(plan.targets("a.com", "/"), [("10.0.0.1:80".into(), None)]);
    assert_eq!(plan.standing(&sessions[1]).other_path, ["a.com/"]);
}

#[test]
fn without_a_responder_maintenance_is_a_service_without_ready_backends() {
    let rests = at("api", 1, "a.com|/|http://10.0.0.1", &["MAINT_ENTER|s"]);
    let plan = planned(std::slice::from_ref(&rests));
    assert_eq!(plan.rule("a.com", "/").unwrap().backend_refs.len(), 1);
    let slice = &plan.of(Kind::Slice)[0].body;
    assert_eq!(slice["endpoints"][0]["conditions"]["ready"], false);
    assert!(plan.standing(&rests).without_page);
}

#[test]
fn names_become_the_addresses_that_they_have() {
    let one = at("api", 1, "a.com|/|http://backend:9000", &[]);
    let sessions = std::slice::from_ref(&one);
    let with = |ips: &[&str]| {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let host = HostName::parse("backend").unwrap();
        plan(
            sessions,
            &[(host, ips.into())].into_iter().collect(),
            &settings(),
        )
    };
    let both = with(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
    let families: Vec<_> = both
        .of(Kind::Slice)
        .iter()
        .map(|it| it.body["addressType"].clone())
        .collect();
    assert_eq!(families.len(), 2);
    assert!(families.contains(&json!("IPv4")) && families.contains(&json!("IPv6")));
    assert_eq!(both.targets("a.com", "/").len(), 3);

    let host = [HostName::parse("backend").unwrap()];
    let never = plan(sessions, &Addresses::default(), &settings());
    assert_eq!(never.standing(&one).unresolved, host);
    assert_eq!(never.targets("a.com", "/"), []);
    assert_eq!(
        never.of(Kind::Slice).len(),
        1,
        "an empty one: 503 and not 500"
    );
    for loopback in [
        "127.0.0.1",
        "::1",
        "169.254.1.1",
        "fe80::1",
        "::ffff:127.0.0.1",
    ] {
        let plan = with(&[loopback]);
        assert_eq!(plan.standing(&one).unreachable, host, "{loopback}");
        assert_eq!(plan.targets("a.com", "/"), []);
    }
}

#[test]
fn who_cannot_be_reached_gets_no_share() {
    let sessions = [
        at("api", 1, "a.com|/|http://10.0.0.1", &[]),
        at("api", 2, "a.com|/|ws://nowhere", &[]),
    ];
    let plan = planned(&sessions);
    assert_eq!(plan.targets("a.com", "/"), [("10.0.0.1:80".into(), None)]);
    assert_eq!(plan.rule("a.com", "/").unwrap().backend_refs.len(), 1);
}

#[test]
fn the_oldest_service_has_a_place_and_the_others_are_told() {
    let sessions = [
        at("web", 2, "a.com,b.com|/|http://10.0.0.2", &[]),
        at("api", 1, "a.com|/|http://10.0.0.1", &[]),
    ];
    let plan = planned(&sessions);
    assert_eq!(plan.targets("a.com", "/"), [("10.0.0.1:80".into(), None)]);
    assert_eq!(plan.targets("b.com", "/"), [("10.0.0.2:80".into(), None)]);
    assert_eq!(
        plan.standing(&sessions[0]).lost,
        [("a.com/".into(), "api".into())]
    );
    assert_eq!(plan.standing(&sessions[1]).lost, []);
}

#[test]
fn a_superseded_session_serves_what_its_successor_does_not() {
    let old = at("api", 1, "a.com,b.com|/|http://10.0.0.1", &[]);
    let mut new = at("api", 2, "a.com|/|http://10.0.0.2", &[]);
    let mut record = (*new.record).clone();
    record.registration = old.record.registration.clone();
    record.supersedes = vec![old.record.key];
    new.record = record.into();
    let sessions = [old, new];
    let plan = planned(&sessions);
    assert_eq!(plan.targets("a.com", "/"), [("10.0.0.2:80".into(), None)]);
    assert_eq!(plan.targets("b.com", "/"), [("10.0.0.1:80".into(), None)]);
    assert!(!plan.standing(&sessions[0]).replaced);
    let mut record = (*sessions[1].record).clone();
    record.routes = sessions[0].record.routes.clone();
    let [old, mut new] = sessions;
    new.record = record.into();
    let sessions = [old, new];
    let plan = planned(&sessions);
    assert!(plan.standing(&sessions[0]).replaced && !plan.standing(&sessions[1]).replaced);
    assert_eq!(plan.of(Kind::Route).len(), 1);
}

#[test]
fn without_a_gateway_nothing_is_made() {
    let sessions = [at("api", 1, "a.com|/|http://10.0.0.1", &[])];
    let plan = plan(&sessions, &addresses(&sessions), &Settings::default());
    assert!(plan.wanted.is_empty());
    assert_eq!(plan.standing(&sessions[0]).routes, [""; 0]);
}

mod any {
    use proptest::prelude::*;

    use super::*;

    fn any_session() -> impl Strategy<Value = Session> {
        let service = prop_oneof![Just("api"), Just("web")];
        let domain = "[a-d]\\.com(,[a-d]\\.com)?";
        let route = (
            domain,
            "/[xy]?",
            prop_oneof![Just("http"), Just("wss")],
            1..4,
            80..83,
        );
        let routes = proptest::collection::vec(route, 1..4);
        let options = (0..3, any::<bool>(), any::<bool>());
        (service, 1..40_i64, routes, options).prop_map(|(service, second, routes, options)| {
            let (weight, maintenance, header) = options;
            let mut lines: Vec<_> = routes
                .iter()
                .map(|(domains, path, scheme, host, port)| {
                    format!("ROUTE|s|{domains}|{path}|{scheme}://10.0.0.{host}:{port}")
                })
                .collect();
            lines.push(format!("OPTIONS|s|weight|{weight}"));
            lines.extend(maintenance.then(|| "MAINT_ENTER|s".to_owned()));
            lines.extend(header.then(|| format!("HEADER|s|X-A|{second}")));
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            session(service, second, &lines)
        })
    }

    proptest! {
        #[test]
        fn routes_agree_and_never_send_to_what_is_not_there(
            mut sessions in proptest::collection::vec(any_session(), 1..8),
            gone in any::<prop::sample::Index>(),
        ) {
            sessions.sort_by_key(|it| (it.record.registered, it.record.key));
            sessions.dedup_by_key(|it| it.record.key);
            let plan = plan(&sessions, &addresses(&sessions), &with_responder());
            // Every place that somebody announces is served, by one rule.
            for session in &sessions {
                for place in session.record.routes.0.keys() {
                    let rule = plan.rule(place.domain.as_str(), place.path.as_str());
                    prop_assert!(rule.is_some_and(|rule| !rule.backend_refs.is_empty()));
                }
            }
            // What goes with any one session is missed by nobody else.
            let gone = &sessions[gone.index(sessions.len())].uid;
            let stays = |wanted: &&Wanted| {
                let owners = wanted.body["metadata"]["ownerReferences"].as_array().unwrap();
                owners.iter().any(|owner| owner["uid"] != **gone)
            };
            let left: BTreeSet<_> = plan.wanted.iter().filter(|(_, it)| stays(it)).map(|(id, _)| id).collect();
            for id in &left {
                for need in &plan.wanted[*id].needs {
                    let service = Id { kind: Kind::Service, name: need.clone() };
                    prop_assert!(left.contains(&service));
                }
            }
            for route in plan.routes() {
                prop_assert!((1..=16).contains(&route.spec.hostnames.len()));
                prop_assert!((1..=16).contains(&route.spec.rules.len()));
            }
        }
    }
}
