//! Requests and their answers.

use serde_json::json;
use tunnel_registry::server::auth::{Access, Tokens};

use super::env::{Env, Plan, failure, instance};
use super::places::{Place, on_every_store};
use crate::testenv::{TUNNEL, service};

on_every_store! {
    a_service_and_its_instances
    all_services_are_listed_by_name
    what_is_wrong_is_refused_with_its_code
    meta_data_is_compared_and_swapped
    a_manual_leader_is_named_and_may_be_absent
    gost_is_told_of_no_service
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn a_service_and_its_instances(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    assert!(env.done("GET", "/ping", "").await.is_null());
    let unknown = code(404, "object_not_found");
    assert_eq!(env.fails("DELETE", "/services/db", "").await, unknown);
    assert_eq!(
        env.fails("GET", "/services/db/instances", "").await,
        unknown
    );
    assert_eq!(env.fails("GET", "/services/db/leader", "").await, unknown);
    assert_eq!(env.fails("GET", "/services/db/meta", "").await, unknown);
    let (path, body) = instance("db", "10.0.0.1:80", "");
    assert_eq!(env.fails("PUT", &path, &body).await, unknown);
    assert_eq!(env.fails("DELETE", &path, "").await, unknown);

    let made = env
        .send("PUT", "/services/db", r#"{"leader_type":"oldest"}"#)
        .await;
    assert_eq!((made.status, made.body.as_str()), (200, ""));
    let again = env.fails("PUT", "/services/db", "{}").await;
    assert_eq!(again, code(409, "object_exists"));
    assert_eq!(
        env.done("GET", "/services/db/instances", "").await,
        json!([])
    );
    let nobody = env.send("GET", "/services/db/leader", "").await;
    assert_eq!(failure(&nobody), unknown);
    assert!(nobody.body.contains("no leader found"), "{}", nobody.body);

    for addr in ["10.0.0.9:80", "10.0.0.1:80", "[::1]:80"] {
        env.register("db", addr, "x").await;
    }
    env.register("db", "10.0.0.9:80", "y").await;
    let all = env.done("GET", "/services/db/instances", "").await;
    let of = |key: &str| -> Vec<_> {
        let all = all.as_array().unwrap().iter();
        all.map(|instance| instance[key].clone()).collect()
    };
    assert_eq!(of("addr"), ["10.0.0.9:80", "10.0.0.1:80", "[::1]:80"]);
    assert_eq!(of("meta")[0], json!({ "k": "y" }));
    let indexes: Vec<_> = of("index").iter().map(|index| index.as_u64()).collect();
    assert!(indexes.is_sorted() && indexes[0] >= Some(1), "{indexes:?}");
    let leader = env.done("GET", "/services/db/leader", "").await;
    assert_eq!(leader, all[0]);
    assert_eq!(leader["proto"], "tcp");

    env.unregister("db", "10.0.0.9:80").await;
    env.unregister("db", "10.0.0.9:80").await;
    let leader = env.done("GET", "/services/db/leader", "").await;
    assert_eq!(leader["addr"], "10.0.0.1:80");
    env.done("DELETE", "/services/db", "").await;
    assert_eq!(
        env.fails("GET", "/services/db/instances", "").await,
        unknown
    );
    env.done("PUT", "/services/db", "{}").await;
    assert!(env.addrs("db").await.is_empty());
}

async fn all_services_are_listed_by_name(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    assert_eq!(env.done("GET", "/services", "").await, json!([]));
    env.done("PUT", "/services/web", r#"{"leader_type":"manual"}"#)
        .await;
    env.done("PUT", "/services/db", "{}").await;
    env.done("PUT", "/services/a", "{}").await;
    for addr in ["b:1", "a:1"] {
        env.register("db", addr, "x").await;
    }
    env.done("DELETE", "/services/a", "").await;
    let leader = env.done("GET", "/services/db/leader", "").await;
    let expected = json!([
        { "service": "db", "leader_type": "oldest", "instances": 2, "leader": leader },
        { "service": "web", "leader_type": "manual", "instances": 0 },
    ]);
    assert_eq!(env.done("GET", "/services", "").await, expected);
    let wrong = env.fails("PUT", "/services", "{}").await;
    assert_eq!(wrong, code(405, "validation_error"));
}

async fn what_is_wrong_is_refused_with_its_code(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", "{}").await;
    let invalid = code(400, "validation_error");
    let syntax = code(400, "syntax_error");
    let long = "a".repeat(64);
    for name in ["Db", "d_b", "d.b", "%20", "%ff", &long] {
        for (method, rest) in [
            ("PUT", ""),
            ("DELETE", ""),
            ("GET", ""),
            ("GET", "/instances"),
        ] {
            let path = format!("/services/{name}{rest}");
            assert_eq!(
                env.fails(method, &path, "{}").await,
                invalid,
                "{method} {path}"
            );
        }
    }
    for body in ["", "{", "[]", "{\"leader_type\":1}"] {
        assert_eq!(
            env.fails("PUT", "/services/x", body).await,
            syntax,
            "{body}"
        );
    }
    let youngest = r#"{"leader_type":"youngest"}"#;
    assert_eq!(env.fails("PUT", "/services/x", youngest).await, invalid);

    let (path, body) = instance("db", "h:80", "x");
    let (other, _) = instance("db", "h:81", "");
    for (path, body) in [
        (&other, body.clone()),
        (&path, body.replace("h:80", "h:81")),
        (&path, body.replace("h:80", "h")),
        (&path, body.replace("tcp", "TCP")),
        (&path, body.replace("\"id\"", "\"no\"")),
        (
            &path,
            body.replace("\"x\"", &format!("\"{}\"", "x".repeat(20_000))),
        ),
    ] {
        assert_eq!(env.fails("PUT", path, &body).await, invalid, "{body:.100}");
    }
    let number = body.replace("\"x\"", "1");
    assert_eq!(env.fails("PUT", &path, &number).await, syntax);
    assert_eq!(
        env.fails("DELETE", "/services/db/instances/x", "").await,
        invalid
    );
    assert_eq!(
        env.fails("PUT", "/services/db/leader", r#"{"id":"x"}"#)
            .await,
        invalid
    );
    assert!(env.addrs("db").await.is_empty());

    let large = env.fails("PUT", "/services/x", &" ".repeat(131_073)).await;
    assert_eq!(large, code(413, "validation_error"));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = env
        .http()
        .await
        .send("PUT", "/services/x", &form, "{}")
        .await;
    assert_eq!(failure(&answer), invalid);
    let verb = env.fails("POST", "/services/db", "{}").await;
    assert_eq!(verb, code(405, "validation_error"));
    for path in ["/services/", "/services/db/x", "/services/db/instances/x/y"] {
        let nothing = env.fails("GET", path, "").await;
        assert_eq!(nothing, code(404, "object_not_found"), "{path}");
    }
}

async fn meta_data_is_compared_and_swapped(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/db", r#"{"leader_type":"manual"}"#)
        .await;
    let path = "/services/db/meta";
    let early = env.fails("PUT", path, r#"{"data":1,"index":5}"#).await;
    assert_eq!(early, code(412, "precondition_failed"));
    let data = json!({ "b": [1.5, null], "a": "x\ny" });
    let first = json!({ "data": data, "index": 0 }).to_string();
    let made = env.done("PUT", path, &first).await;
    assert_eq!(made["data"], data);
    assert_eq!(env.done("GET", path, "").await, made);
    let again = env.fails("PUT", path, &first).await;
    assert_eq!(again, code(409, "object_exists"));
    env.register("db", "h:80", "").await;
    let (_, body) = instance("db", "h:80", "");
    let id = serde_json::from_str::<serde_json::Value>(&body).unwrap()["id"].clone();
    let next = json!({ "data": 2, "index": made["index"], "leader_id": id });
    let next = env.done("PUT", path, &next.to_string()).await;
    assert!(next["index"].as_u64() > made["index"].as_u64());
    let leader = env.done("GET", "/services/db/leader", "").await;
    assert_eq!(leader["addr"], "h:80");
    let stale = json!({ "data": 3, "index": made["index"] }).to_string();
    let stale = env.fails("PUT", path, &stale).await;
    assert_eq!(stale, code(412, "precondition_failed"));
    assert_eq!(env.done("GET", path, "").await, next);
    let unknown = env.fails("PUT", "/services/x/meta", &first).await;
    assert_eq!(unknown, code(404, "object_not_found"));
}

async fn a_manual_leader_is_named_and_may_be_absent(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    env.done("PUT", "/services/old", "{}").await;
    env.done("PUT", "/services/db", r#"{"leader_type":"manual"}"#)
        .await;
    env.register("db", "a:1", "").await;
    let (_, b) = instance("db", "b:1", "");
    let refused = env.fails("PUT", "/services/old/leader", &b).await;
    assert_eq!(refused, code(400, "validation_error"));
    env.done("PUT", "/services/db/leader", &b).await;
    let absent = env.fails("GET", "/services/db/leader", "").await;
    assert_eq!(absent, code(404, "object_not_found"));
    env.register("db", "b:1", "").await;
    let leader = env.done("GET", "/services/db/leader", "").await;
    assert_eq!(leader["addr"], "b:1");
    env.unregister("db", "a:1").await;
    env.unregister("db", "b:1").await;
    assert_eq!(env.fails("GET", "/services/db/leader", "").await, absent);
}

#[tokio::test]
async fn writing_needs_the_token_and_reading_does_not() {
    let tokens = Tokens::from_environment("secret").unwrap();
    let env = Env::one(Plan {
        access: Access::tokens(tokens),
        ..Plan::usual()
    })
    .await;
    let token = [("authorization", "Bearer secret")];
    let made = env
        .http()
        .await
        .send("PUT", "/services/db", &token, "{}")
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    let (path, body) = instance("db", "h:80", "");
    for (method, path) in [
        ("PUT", "/services/x"),
        ("DELETE", "/services/db"),
        ("PUT", "/services/db/meta"),
        ("PUT", "/services/db/leader"),
        ("PUT", &path),
        ("DELETE", &path),
    ] {
        let refused = env.send(method, path, &body).await;
        assert_eq!(
            failure(&refused),
            code(401, "unauthorized"),
            "{method} {path}"
        );
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(
        env.done("GET", "/services/db/instances", "").await,
        json!([])
    );
    env.subscribe("/services/db", None)
        .await
        .are(&["current"])
        .await;
    env.done("GET", "/ping", "").await;
    // gost's paths are as they were.
    assert_eq!(env.send("GET", "/sd?name=db", "").await.status, 401);
    assert_eq!(env.send("GET", "/services-of-others", "").await.status, 401);
}

async fn gost_is_told_of_no_service(place: Place) {
    let env = Env::on(place, Plan::usual()).await;
    let path = format!("/services/{TUNNEL}");
    env.done("PUT", &path, "{}").await;
    env.register(TUNNEL, "10.0.0.66:80", "").await;
    let get = format!("/sd?name={TUNNEL}");
    assert_eq!(env.done("GET", &get, "").await, json!({ "services": [] }));
    env.done("POST", "/sd", &service("tcp", "10.42.0.100:80"))
        .await;
    let found = env.done("GET", &get, "").await;
    assert_eq!(found["services"].as_array().unwrap().len(), 1);
    assert_eq!(found["services"][0]["address"], "10.42.0.100:80");
    assert_eq!(env.addrs(TUNNEL).await, ["10.0.0.66:80"]);
}
