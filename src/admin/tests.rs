use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower_service::Service as _;

use super::*;
use crate::listing::tests::Fixed;

/// An admin port where all is well.
pub(super) fn admin(listing: Fixed) -> Admin {
    Admin {
        alive: Arc::new(|| Ok(())),
        parts: Arc::new(Vec::new),
        metrics: Arc::new(|| Ok("# EOF\n".into())),
        listing: Arc::new(listing),
        sessions: Arc::new(|| Ok(Vec::new())),
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) body: String,
}

/// Asks without a socket.
pub(super) async fn ask(admin: &Admin, path: &str, accept: &str) -> Answer {
    let request = Request::get(path)
        .header(ACCEPT, accept)
        .body(Body::empty())
        .unwrap();
    let answer = router(admin.clone()).call(request).await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers().get(CONTENT_TYPE);
    let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status, kind, body }
}

#[tokio::test]
async fn it_lives_while_its_work_is_done() {
    let mut admin = admin(Fixed::default());
    let answer = ask(&admin, "/livez", "*/*").await;
    assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
    admin.alive = Arc::new(|| Err("no tick for 12 s".into()));
    let answer = ask(&admin, "/livez", "*/*").await;
    assert_eq!((answer.status, &*answer.body), (503, "no tick for 12 s\n"));
}

#[tokio::test]
async fn it_is_ready_when_every_part_is() {
    let part = |name, ready| Part {
        name,
        ready,
        note: None,
    };
    let mut admin = admin(Fixed::default());
    admin.parts = Arc::new(move || vec![part("store", Ok(())), part("server", Ok(()))]);
    let answer = ask(&admin, "/readyz", "*/*").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, "store: ready\nserver: ready\n")
    );
    let waiting = || Err("not read yet".to_owned());
    admin.parts = Arc::new(move || vec![part("store", waiting()), part("server", Ok(()))]);
    let answer = ask(&admin, "/readyz", "*/*").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "store: not ready: not read yet\nserver: ready\n"
    );
    let answer = ask(&admin, "/readyz", "text/html;q=0.5, application/json").await;
    assert_eq!((answer.status, &*answer.kind), (503, "application/json"));
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "ready": false, "parts": [
            { "name": "store", "ready": false, "reason": "not read yet" },
            { "name": "server", "ready": true },
        ]})
    );
}

#[tokio::test]
async fn a_part_that_is_ready_may_have_something_to_tell() {
    let mut admin = admin(Fixed::default());
    admin.parts = Arc::new(|| {
        vec![Part {
            name: "lease",
            ready: Ok(()),
            note: Some("not renewed for 63 s: exceeded quota".into()),
        }]
    });
    let answer = ask(&admin, "/readyz", "*/*").await;
    let text = "lease: ready, but not renewed for 63 s: exceeded quota\n";
    assert_eq!((answer.status, &*answer.body), (200, text));
    let json = ask(&admin, "/readyz", "application/json").await.body;
    assert!(json.contains(r#""note":"not renewed"#), "{json}");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let mut admin = admin(Fixed::default());
    let answer = ask(&admin, "/metrics", "*/*").await;
    assert_eq!((answer.status, &*answer.body), (200, "# EOF\n"));
    assert_eq!(
        answer.kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    admin.metrics = Arc::new(|| Err(fmt::Error));
    assert_eq!(ask(&admin, "/metrics", "*/*").await.status, 500);
}

#[tokio::test]
async fn the_index_names_every_path() {
    let admin = admin(Fixed::default());
    let index = ask(&admin, "/", "*/*").await.body;
    for path in ["/livez", "/readyz", "/metrics", "/endpoints", "/sessions"] {
        assert!(index.contains(path), "{path}");
        assert_eq!(ask(&admin, path, "*/*").await.status, 200, "{path}");
    }
    assert_eq!(ask(&admin, "/else", "*/*").await.status, 404);
}
