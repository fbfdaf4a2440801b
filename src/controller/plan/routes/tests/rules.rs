//! What a place is told to do, and who serves it.

use serde_json::json;

use super::*;

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
