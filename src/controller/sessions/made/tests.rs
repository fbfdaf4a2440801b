use serde_json::json;

use super::*;
use crate::resources::name::hash;
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);

/// What is wanted: a Service, a slice of it, and an HTTPRoute that sends to it.
fn wanted(route: &str, service: &str) -> BTreeMap<Id, Wanted> {
    let slice = format!("{service}-slice");
    let spec = json!({ "rules": [{ "backendRefs": [{ "name": service }] }] });
    let label = json!({ "kubernetes.io/service-name": service });
    [
        one(
            Kind::Service,
            service,
            json!({ "spec": { "clusterIP": "None" } }),
            &[],
        ),
        one(
            Kind::Slice,
            &slice,
            json!({ "metadata": { "labels": label }, "endpoints": [] }),
            &[service],
        ),
        one(Kind::Route, route, json!({ "spec": spec }), &[service]),
    ]
    .into()
}

fn one(kind: Kind, name: &str, mut body: Value, needs: &[&str]) -> (Id, Wanted) {
    let hash = hash(&[&body.to_string()]);
    body["metadata"]["annotations"][HASH] = hash.as_str().into();
    body["metadata"]["ownerReferences"] = json!([{ "uid": "owner" }]);
    let needs = needs.iter().map(|need| (*need).to_owned()).collect();
    (id(kind, name), Wanted { body, hash, needs })
}

fn id(kind: Kind, name: &str) -> Id {
    Id {
        kind,
        name: name.into(),
    }
}

/// An object as the API server tells it.
fn object(name: &str, version: u64, body: &Value) -> DynamicObject {
    let mut body = body.clone();
    body["apiVersion"] = "v1".into();
    body["kind"] = "X".into();
    body["metadata"]["name"] = name.into();
    body["metadata"]["uid"] = format!("uid-{name}").into();
    body["metadata"]["resourceVersion"] = version.to_string().into();
    for owner in body["metadata"]["ownerReferences"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        owner["apiVersion"] = "v1".into();
        owner["kind"] = "X".into();
        owner["name"] = "x".into();
    }
    serde_json::from_value(body).unwrap()
}

fn empty() -> Made {
    let mut made = Made::default();
    for kind in Kind::ALL {
        made.begin(kind);
        made.listed(kind);
    }
    made
}

/// All steps of all stages until nothing is left, each done when it comes, in short.
fn run(made: &mut Made, wanted: &BTreeMap<Id, Wanted>, version: &mut u64) -> Vec<String> {
    let now = Now::read().mono;
    let mut done = round(made, wanted, version, now);
    done.extend(round(made, wanted, version, now + LINGER));
    done
}

/// The same once.
fn round(
    made: &mut Made,
    wanted: &BTreeMap<Id, Wanted>,
    version: &mut u64,
    now: Instant,
) -> Vec<String> {
    let mut done = Vec::new();
    for stage in Stage::ALL {
        for step in made.steps(stage, wanted, now) {
            *version += 1;
            match &step {
                Step::Apply(id) => {
                    let wanted = &wanted[id];
                    made.applied(id.kind, object(&id.name, *version, &wanted.body), wanted);
                    done.push(format!("+{}", id.name));
                }
                Step::Delete(id, uid) => {
                    assert_eq!(*uid, format!("uid-{}", id.name));
                    made.gone(id.kind, &id.name, Some(uid));
                    done.push(format!("-{}", id.name));
                }
            }
        }
    }
    done
}

#[test]
fn backends_come_first_and_go_last() {
    let (mut made, mut version) = (empty(), 0);
    let first = wanted("r", "a");
    assert_eq!(
        run(&mut made, &first, &mut version),
        ["+a", "+a-slice", "+r"]
    );
    assert_eq!(run(&mut made, &first, &mut version), [""; 0]);
    let second = wanted("r", "b");
    assert_eq!(
        run(&mut made, &second, &mut version),
        ["+b", "+b-slice", "+r", "-a-slice", "-a"]
    );
    assert_eq!(
        run(&mut made, &BTreeMap::new(), &mut version),
        ["-r", "-b-slice", "-b"]
    );
}

#[test]
fn backends_outlast_the_routes_that_sent_to_them() {
    let (mut made, mut version) = (empty(), 0);
    run(&mut made, &wanted("r", "a"), &mut version);
    let (now, next) = (Now::read().mono, wanted("r", "b"));
    let mut round = |wanted: &_, now| round(&mut made, wanted, &mut version, now);
    assert_eq!(round(&next, now), ["+b", "+b-slice", "+r"]);
    let almost = LINGER - Duration::from_millis(1);
    assert_eq!(round(&next, now + almost), [""; 0]);
    // Wanted again, and not: the time begins anew.
    let both: BTreeMap<_, _> = wanted("r", "b")
        .into_iter()
        .chain(wanted("q", "a"))
        .collect();
    assert_eq!(round(&both, now + almost), ["+q"]);
    assert_eq!(round(&next, now + LINGER), ["-q"]);
    assert_eq!(round(&next, now + LINGER + almost), [""; 0]);
    assert_eq!(round(&next, now + LINGER * 2), ["-a-slice", "-a"]);
    // A session that left a Service which stays is to get no more requests.
    let mut fewer = wanted("r", "b");
    fewer.remove(&id(Kind::Slice, "b-slice"));
    assert_eq!(round(&fewer, now + LINGER * 2), ["-b-slice"]);
}

#[test]
fn a_route_waits_for_what_it_sends_to_and_holds_what_it_still_sends_to() {
    let (mut made, mut version) = (empty(), 0);
    run(&mut made, &wanted("r", "a"), &mut version);
    let next = wanted("r", "b");
    let now = Now::read().mono;
    // The slice could not be written.
    let steps = made.steps(Stage::Backends, &next, now);
    let service = &next[&id(Kind::Service, "b")];
    made.applied(Kind::Service, object("b", 50, &service.body), service);
    assert_eq!(steps.len(), 2);
    made.failed(&id(Kind::Slice, "b-slice"), now);
    assert_eq!(made.steps(Stage::Routes, &next, now), []);
    assert_eq!(
        made.steps(Stage::StaleBackends, &next, now),
        [],
        "r still sends to a"
    );
    assert_eq!(made.steps(Stage::Backends, &next, now), [], "it waits");
    let later = now + SECOND;
    assert_eq!(
        made.steps(Stage::Backends, &next, later),
        [Step::Apply(id(Kind::Slice, "b-slice"))]
    );
}

#[test]
fn an_old_route_stays_until_the_new_ones_of_its_owner_are_there() {
    let (mut made, mut version) = (empty(), 0);
    run(&mut made, &wanted("old", "a"), &mut version);
    let next = wanted("new", "a");
    let now = Now::read().mono;
    made.failed(&id(Kind::Route, "new"), now);
    assert_eq!(made.steps(Stage::StaleRoutes, &next, now), []);
    assert_eq!(
        run(&mut made, &BTreeMap::new(), &mut version).len(),
        3,
        "nobody wants it"
    );
}

#[test]
fn what_cannot_be_written_waits_ever_longer() {
    let mut made = empty();
    let wanted = wanted("r", "a");
    let mut now = Now::read().mono;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        for step in made.steps(Stage::Backends, &wanted, now) {
            made.failed(step.id(), now);
        }
        now += seconds * SECOND - Duration::from_millis(1);
        assert_eq!(made.steps(Stage::Backends, &wanted, now), []);
        now += Duration::from_millis(1);
        assert_eq!(made.steps(Stage::Backends, &wanted, now).len(), 2);
    }
}

#[test]
fn nothing_is_done_before_it_is_known_what_there_is() {
    let mut made = Made::default();
    let now = Now::read().mono;
    for stage in Stage::ALL {
        assert_eq!(made.steps(stage, &wanted("r", "a"), now), []);
    }
    made.begin(Kind::Service);
    made.put(Kind::Service, object("left", 1, &json!({})));
    made.listed(Kind::Service);
    assert_eq!(
        made.steps(Stage::StaleBackends, &BTreeMap::new(), now),
        [],
        "a route may use it"
    );
    made.listed(Kind::Slice);
    made.none(Kind::Route);
    assert_eq!(
        made.steps(Stage::StaleBackends, &BTreeMap::new(), now),
        [],
        "a Gateway may not know yet"
    );
    assert_eq!(
        made.steps(Stage::StaleBackends, &BTreeMap::new(), now + LINGER)
            .len(),
        1
    );
}

#[test]
fn what_a_list_does_not_have_is_gone() {
    let (mut made, mut version) = (empty(), 0);
    let wanted = wanted("r", "a");
    run(&mut made, &wanted, &mut version);
    made.begin(Kind::Service);
    made.begin(Kind::Slice);
    let slice = &wanted[&id(Kind::Slice, "a-slice")].body;
    made.put(Kind::Slice, object("a-slice", 2, slice));
    made.listed(Kind::Slice);
    assert_eq!(made.count(Kind::Service), 1, "its list is not at its end");
    made.listed(Kind::Service);
    assert_eq!(made.count(Kind::Service), 0);
    assert_eq!(made.count(Kind::Slice), 1, "the same version again");
    assert_eq!(run(&mut made, &wanted, &mut version), ["+a"]);
}

#[test]
fn a_change_by_hand_is_mended_and_what_others_add_is_not_ours() {
    let (mut made, mut version) = (empty(), 0);
    let wanted = wanted("r", "a");
    run(&mut made, &wanted, &mut version);
    let body = &wanted[&id(Kind::Service, "a")].body;
    let mut change = |made: &mut Made, change: &dyn Fn(&mut Value)| {
        let mut body = body.clone();
        change(&mut body);
        version += 10;
        made.put(Kind::Service, object("a", version, &body));
        run(made, &wanted, &mut version)
    };
    assert_eq!(change(&mut made, &|_| ()), [""; 0]);
    let label = |body: &mut Value| body["metadata"]["labels"]["theirs"] = "x".into();
    assert_eq!(change(&mut made, &label), [""; 0]);
    let owner = |body: &mut Value| {
        let owners = body["metadata"]["ownerReferences"].as_array_mut().unwrap();
        owners.insert(0, json!({ "uid": "theirs" }));
    };
    assert_eq!(change(&mut made, &owner), [""; 0]);
    let lost = |body: &mut Value| body["metadata"]["ownerReferences"] = json!([]);
    assert_eq!(change(&mut made, &lost), ["+a"]);
    let other = |body: &mut Value| body["spec"]["clusterIP"] = "10.0.0.1".into();
    assert_eq!(change(&mut made, &other), ["+a"]);
    let more = |body: &mut Value| body["spec"]["ports"] = json!([1]);
    assert_eq!(
        change(&mut made, &more),
        ["+a"],
        "an addition to what is ours"
    );
    let hash = |body: &mut Value| body["metadata"]["annotations"][HASH] = "x".into();
    assert_eq!(change(&mut made, &hash), ["+a"]);
}

#[test]
fn what_was_there_before_the_start_is_taken_as_it_is_when_it_agrees() {
    let wanted = wanted("r", "a");
    let (mut made, mut version) = (empty(), 100);
    for (id, wanted) in &wanted {
        let mut body = wanted.body.clone();
        // A default of the API server.
        body["spec"]["type"] = "ClusterIP".into();
        made.put(id.kind, object(&id.name, 1, &body));
    }
    assert_eq!(run(&mut made, &wanted, &mut version), [""; 0]);
}

#[test]
fn an_older_state_is_no_news_and_another_object_of_the_name_is_not_gone() {
    let (mut made, mut version) = (empty(), 10);
    let wanted = wanted("r", "a");
    run(&mut made, &wanted, &mut version);
    let old = object("a", 5, &json!({ "spec": {} }));
    assert!(!made.put(Kind::Service, old));
    assert!(!made.gone(Kind::Service, "a", Some("another")));
    assert_eq!(run(&mut made, &wanted, &mut version), [""; 0]);
    assert!(made.gone(Kind::Service, "a", Some("uid-a")));
    assert_eq!(run(&mut made, &wanted, &mut version), ["+a"]);
}
