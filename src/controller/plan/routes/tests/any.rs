//! What holds for any sessions.

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
