use serde_json::{Value, json};

use super::*;
use crate::session::SessionRecord;
use crate::session::serving::testing::{served, session};
use std::sync::Arc;

const RESPONDER_URL: &str = "http://127.0.0.1:8182";

/// The HTTP part for these sessions, of which the oldest is the first.
fn http(sessions: &[Arc<SessionRecord>]) -> Value {
    let configuration = configuration(&served(sessions), Some(RESPONDER_URL));
    let mut json = serde_json::to_value(configuration).unwrap();
    json["http"].take()
}

/// The only one of a kind, whatever it is called.
fn only(http: &Value, kind: &str) -> Value {
    let all: Vec<&Value> = http[kind].as_object().unwrap().values().collect();
    assert_eq!(all.len(), 1, "{http:#}");
    all[0].clone()
}

/// The middlewares of the only router, in their order.
fn middlewares(http: &Value) -> Vec<Value> {
    let router = only(http, "routers");
    let names = router["middlewares"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    names
        .iter()
        .map(|name| http["middlewares"][name.as_str().unwrap()].clone())
        .collect()
}

#[test]
fn a_route_is_a_router_and_a_service() {
    let sessions = [session("api", 1, &["ROUTE|s|a.com|/v2|http://h:9000"])];
    let http = http(&sessions);
    let name = http["routers"].as_object().unwrap().keys().next().unwrap();
    assert_eq!(
        http,
        json!({
            "routers": { name: {
                "rule": "Host(`a.com`) && (Path(`/v2`) || PathPrefix(`/v2/`))",
                "priority": 522_243,
                "service": name,
            }},
            "services": { name: { "loadBalancer": {
                "servers": [{ "url": "http://h:9000", "weight": 1 }],
                "passHostHeader": true,
            }}},
        })
    );
}

#[test]
fn nothing_served_is_an_empty_document() {
    let empty = configuration(&BTreeMap::new(), Some(RESPONDER_URL));
    assert_eq!(serde_json::to_string(&empty).unwrap(), "{}");
}

#[test]
fn a_name_tells_nothing_of_a_session() {
    let route = ["ROUTE|s|a.com|/|http://h"];
    let names = |http: &Value| -> Vec<String> {
        http["routers"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let before = names(&http(&[session("api", 1, &route)]));
    assert_eq!(before, names(&http(&[session("api", 2, &route)])));
    assert_ne!(before, names(&http(&[session("web", 1, &route)])));
}

#[test]
fn the_url_of_a_server_is_what_traefik_takes() {
    for (backend, server) in [
        ("http://h", json!({ "url": "http://h:80", "weight": 1 })),
        ("ws://h:1/", json!({ "url": "http://h:1", "weight": 1 })),
        (
            "wss://[::1]",
            json!({ "url": "https://[::1]:443", "weight": 1 }),
        ),
        (
            "HTTPS://h/a/b",
            json!({ "url": "https://h:443/a/b", "weight": 1, "preservePath": true }),
        ),
    ] {
        let http = http(&[session("api", 1, &[&format!("ROUTE|s|a.com|/|{backend}")])]);
        let service = only(&http, "services");
        assert_eq!(service["loadBalancer"]["servers"], json!([server]));
    }
}

#[test]
fn sessions_of_a_place_are_servers_by_their_weights() {
    let sessions = [
        session("api", 1, &["ROUTE|s|a.com|/|http://h1"]),
        session(
            "api",
            2,
            &["ROUTE|s|a.com|/|http://h2", "OPTIONS|s|weight|9"],
        ),
        session(
            "api",
            3,
            &["ROUTE|s|a.com|/|http://h3", "OPTIONS|s|weight|0"],
        ),
        // Behind an address that another announces as well.
        session("api", 4, &["ROUTE|s|a.com|/|http://h1"]),
    ];
    let http = http(&sessions);
    let servers = json!([
        { "url": "http://h1:80", "weight": 2 },
        { "url": "http://h2:80", "weight": 9 },
    ]);
    assert_eq!(only(&http, "services")["loadBalancer"]["servers"], servers);
    assert_eq!(middlewares(&http), [json!({ "retry": { "attempts": 4 } })]);
}

#[test]
fn options_become_what_traefik_has_for_them() {
    let lines = [
        "ROUTE|s|a.com|/|https://h",
        "OPTIONS|s|timeout|1m30s",
        "OPTIONS|s|health_check_interval|2s",
        "OPTIONS|s|health_check_path|/healthz",
        "OPTIONS|s|max_body_size|1k",
        "OPTIONS|s|compression|true",
        "OPTIONS|s|websocket|false",
        "OPTIONS|s|http2|false",
        "HEADER|s|X-A|1",
    ];
    let http = http(&[session("api", 1, &lines)]);
    assert_eq!(
        middlewares(&http),
        [
            json!({ "headers": {
                "customRequestHeaders": { "Upgrade": "" },
                "customResponseHeaders": { "X-A": "1" },
            }}),
            json!({ "compress": {} }),
            json!({ "buffering": { "maxRequestBodyBytes": 1024 } }),
        ]
    );
    let balancer = only(&http, "services")["loadBalancer"].clone();
    let check = json!({
        "path": "/healthz",
        "interval": "2000ms",
        // Traefik's own 5 s would overlap.
        "timeout": "2000ms",
        "followRedirects": false,
    });
    assert_eq!(balancer["healthCheck"], check);
    let transports = http["serversTransports"].as_object().unwrap();
    assert!(transports.contains_key(balancer["serversTransport"].as_str().unwrap()));
    let transport = json!({
        "maxIdleConnsPerHost": 200,
        "disableHTTP2": true,
        "forwardingTimeouts": { "dialTimeout": "30000ms", "responseHeaderTimeout": "90000ms" },
    });
    assert_eq!(only(&http, "serversTransports"), transport);
}

#[test]
fn what_changes_nothing_is_left_out() {
    let lines = [
        "ROUTE|s|a.com|/|http://h",
        "OPTIONS|s|timeout|0s",
        "OPTIONS|s|max_body_size|0",
        "OPTIONS|s|compression|false",
        "OPTIONS|s|websocket|true",
        // Over connections without TLS there is none.
        "OPTIONS|s|http2|false",
        "OPTIONS|s|http3|true",
        // Of what is to be checked, nothing is known.
        "OPTIONS|s|health_check_interval|2s",
    ];
    let plain = [session("api", 1, &["ROUTE|s|a.com|/|http://h"])];
    assert_eq!(http(&[session("api", 1, &lines)]), http(&plain));
}

#[test]
fn a_short_timeout_holds_for_connecting_too() {
    let lines = ["ROUTE|s|a.com|/|http://h", "OPTIONS|s|timeout|500ms"];
    let timeouts = json!({ "dialTimeout": "500ms", "responseHeaderTimeout": "500ms" });
    let http = http(&[session("api", 1, &lines)]);
    assert_eq!(
        only(&http, "serversTransports")["forwardingTimeouts"],
        timeouts
    );
}

#[test]
fn the_newest_session_of_a_place_decides() {
    let sessions = [
        session(
            "api",
            1,
            &[
                "ROUTE|s|a.com|/|http://h1",
                "HEADER|s|X-Old|1",
                "HEADER|s|X-Both|old",
                "OPTIONS|s|compression|true",
                "OPTIONS|s|max_body_size|5",
            ],
        ),
        session(
            "api",
            2,
            &[
                "ROUTE|s|a.com|/|http://h2",
                "HEADER|s|x-both|new",
                "OPTIONS|s|compression|false",
            ],
        ),
        // What gets no requests has no say.
        session(
            "api",
            3,
            &[
                "ROUTE|s|a.com|/|http://h3",
                "HEADER|s|X-Both|gone",
                "MAINT_ENTER|s",
            ],
        ),
    ];
    assert_eq!(
        middlewares(&http(&sessions)),
        [
            json!({ "headers": { "customResponseHeaders": { "x-both": "new", "X-Old": "1" } } }),
            json!({ "buffering": { "maxRequestBodyBytes": 5 } }),
            json!({ "retry": { "attempts": 4 } }),
        ]
    );
}

#[test]
fn places_share_what_is_the_same() {
    let lines = [
        "ROUTE|s|a.com,b.com|/|http://h",
        "HEADER|s|X-A|1",
        "OPTIONS|s|timeout|1s",
    ];
    let http = http(&[session("api", 1, &lines)]);
    assert_eq!(http["routers"].as_object().unwrap().len(), 2);
    only(&http, "middlewares");
    only(&http, "serversTransports");
}

#[test]
fn a_place_in_maintenance_goes_to_the_responder() {
    let lines = [
        "ROUTE|s|a.com|/|http://h1",
        "HEADER|s|X-A|1",
        "OPTIONS|s|compression|true",
    ];
    let away: Vec<&str> = lines.into_iter().chain(["MAINT_ENTER|s"]).collect();
    let other = ["ROUTE|s|a.com|/|http://h2"];
    let drained = ["ROUTE|s|a.com|/|http://h2", "OPTIONS|s|weight|0"];
    let servers = |sessions: &[_]| -> Vec<String> {
        let services = only(&http(sessions), "services");
        let servers = services["loadBalancer"]["servers"].as_array().unwrap();
        let url = |server: &Value| server["url"].as_str().unwrap().to_owned();
        servers.iter().map(url).collect()
    };
    let one_away = [session("api", 1, &away), session("api", 2, &other)];
    assert_eq!(servers(&one_away), ["http://h2:80"]);

    for all_away in [
        vec![session("api", 1, &away)],
        vec![session("api", 1, &away), session("api", 2, &drained)],
        vec![session("api", 2, &drained)],
    ] {
        let http = http(&all_away);
        assert_eq!(only(&http, "routers")["service"], "maintenance");
        assert_eq!(servers(&all_away), [RESPONDER_URL]);
    }
    let headers = json!({ "headers": { "customResponseHeaders": { "X-A": "1" } } });
    assert_eq!(middlewares(&http(&[session("api", 1, &away)])), [headers]);

    // Without a responder it is Traefik that answers 503.
    let alone = configuration(&served(&[session("api", 1, &away)]), None);
    let service = alone.http.services.values().next().unwrap();
    assert!(service.load_balancer.servers.is_empty());
}
