use serde_json::json;

use super::*;
use crate::session::host::HostName;

fn served() -> Standing {
    Standing {
        places: 1,
        routes: vec!["r".into()],
        ..Standing::default()
    }
}

/// `Ready` and `RoutesAccepted`, in short.
fn said(standing: &Standing, verdict: &Verdict, api: Api) -> [String; 2] {
    let words = words(standing, verdict, api);
    [0, 1].map(|at: usize| format!("{}/{}", words[at].status, words[at].reason))
}

#[test]
fn every_standing_has_a_reason_of_its_own() {
    let ready = |change: fn(&mut Standing)| {
        let mut standing = served();
        change(&mut standing);
        let [ready, accepted] = said(&standing, &Verdict::Accepted, Api::Ready);
        assert_eq!(accepted, "True/Accepted");
        ready
    };
    assert_eq!(ready(|_| ()), "True/Served");
    assert_eq!(ready(|it| it.is_static = true), "True/Static");
    assert_eq!(ready(|it| it.places = 0), "False/NoRoutes");
    assert_eq!(ready(|it| it.replaced = true), "False/Superseded");
    assert_eq!(ready(|it| it.maintenance = true), "False/Maintenance");
    assert_eq!(
        ready(|it| it.without_page = true),
        "False/NoMaintenanceService"
    );
    assert_eq!(
        ready(|it| it.unresolved = vec![HostName::parse("h").unwrap()]),
        "False/BackendUnresolved"
    );
    assert_eq!(
        ready(|it| it.unreachable = vec![HostName::parse("h").unwrap()]),
        "False/BackendUnreachable"
    );
    assert_eq!(
        ready(|it| it.other_path = vec!["p".into()]),
        "False/BackendPathDiffers"
    );
    assert_eq!(
        ready(|it| it.too_many = vec!["p".into()]),
        "False/TooManyBackends"
    );
    assert_eq!(
        ready(|it| it.lost = vec![("p".into(), "web".into())]),
        "False/RouteConflict"
    );
}

#[test]
fn what_the_cluster_lacks_comes_before_what_a_session_lacks() {
    let mut standing = served();
    standing.too_many = vec!["p".into()];
    for (api, reason) in [
        (Api::Unset, "False/NoGateway"),
        (Api::Missing, "False/GatewayApiMissing"),
        (Api::Forbidden, "False/Forbidden"),
    ] {
        let both = said(&standing, &Verdict::Nothing, api);
        assert_eq!(both, [reason, reason]);
    }
    let pending = ["False/Pending", "Unknown/Pending"];
    assert_eq!(
        said(&served(), &Verdict::Waiting("web".into()), Api::Ready),
        pending
    );
}

#[test]
fn long_lists_are_cut() {
    let mut standing = served();
    standing.other_path = (0..9).map(|n| format!("p{n}")).collect();
    let words = words(&standing, &Verdict::Accepted, Api::Ready);
    assert!(
        words[0].message.contains("p0, p1, p2 and 6 more"),
        "{}",
        words[0].message
    );
}

#[test]
fn gateways_are_believed_about_the_routes_that_they_have_seen() {
    let gateways = [
        ParentRef::parse("edge/web").unwrap(),
        ParentRef::parse("own").unwrap(),
    ];
    let parent = |gateway: &ParentRef, accepted: &str, resolved: &str, seen: i64| {
        let condition = |type_: &str, status: &str| {
            json!({
                "type": type_, "status": status, "reason": "Because", "message": "",
                "observedGeneration": seen, "lastTransitionTime": "2026-07-01T12:00:00Z",
            })
        };
        let conditions = [
            condition("Accepted", accepted),
            condition("ResolvedRefs", resolved),
        ];
        json!({ "parentRef": gateway, "controllerName": "x/y", "conditions": conditions })
    };
    let of = |parents: &[serde_json::Value]| {
        let status = serde_json::from_value(json!({ "parents": parents })).unwrap();
        verdict(&gateways, "ns", [("r", 2, Some(&status))].into_iter())
    };
    let [first, second] = [&gateways[0], &gateways[1]];
    let own = ParentRef::parse("ns/own").unwrap();
    assert_eq!(of(&[]), Verdict::Waiting("edge/web".into()));
    let both = [
        parent(first, "True", "True", 2),
        parent(&own, "True", "True", 2),
    ];
    assert_eq!(of(&both), Verdict::Accepted);
    let old = [
        parent(first, "True", "True", 1),
        parent(second, "True", "True", 2),
    ];
    assert_eq!(of(&old), Verdict::Waiting("edge/web".into()));
    let refused = Verdict::Refused {
        gateway: "own".into(),
        route: "r".into(),
        reason: "Because".into(),
    };
    let bad = [
        parent(first, "True", "True", 1),
        parent(second, "True", "False", 2),
    ];
    assert_eq!(of(&bad), refused);
    assert_eq!(verdict(&gateways, "ns", [].into_iter()), Verdict::Nothing);
    let unseen = verdict(&gateways, "ns", [("r", 0, None)].into_iter());
    assert_eq!(unseen, Verdict::Waiting("edge/web".into()));
}

#[test]
fn strange_reasons_are_not_repeated() {
    assert_eq!(word("NotAllowedByListeners"), "NotAllowedByListeners");
    for strange in ["", "1x", "a b", &"x".repeat(65)] {
        assert_eq!(word(strange), "Refused");
    }
}

#[test]
fn a_status_is_written_when_it_changes_and_keeps_what_others_say() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let accepted = words(&served(), &Verdict::Accepted, Api::Ready);
    let mut first = conditions(&accepted, &[], 1, at(5)).unwrap();
    assert_eq!(conditions(&accepted, &first, 1, at(9)), None);
    let other = Condition {
        type_: "Theirs".into(),
        ..first[0].clone()
    };
    first.push(other);
    assert_eq!(conditions(&accepted, &first, 1, at(9)), None);
    let moved = conditions(&accepted, &first, 2, at(9)).unwrap();
    assert_eq!(moved[0].last_transition_time.0, at(5));
    assert_eq!(moved.last().unwrap().type_, "Theirs");
    let mut standing = served();
    standing.unsupported = vec!["http3"];
    let with = words(&standing, &Verdict::Waiting("web".into()), Api::Ready);
    let second = conditions(&with, &moved, 2, at(9)).unwrap();
    let types: Vec<_> = second.iter().map(|one| &*one.type_).collect();
    assert_eq!(
        types,
        ["Ready", "RoutesAccepted", "UnsupportedOptions", "Theirs"]
    );
    assert_eq!(second[0].last_transition_time.0, at(9));
    // It is not there when it is not so.
    let third = conditions(&accepted, &second, 2, at(9)).unwrap();
    assert_eq!(third.len(), 3);
}
