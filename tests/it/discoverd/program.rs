//! The program itself.

use serde_json::json;
use tokio::net::TcpStream;

use super::env::instance;
use crate::process::{Net, Registry, Setup, fetch, folder};
use crate::testenv::{Answer, Http};

async fn send(registry: &Registry, method: &str, path: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(registry.setup.listen).await.unwrap();
    Http(stream).send(method, path, &[], body).await
}

#[tokio::test]
async fn services_outlast_the_program_and_are_counted() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let registry = setup.start().await;
    assert_eq!(
        send(&registry, "PUT", "/services/db", "{}").await.status,
        200
    );
    let (path, body) = instance("db", "10.0.0.1:80", "x");
    assert_eq!(send(&registry, "PUT", &path, &body).await.status, 200);
    let before = send(&registry, "GET", "/services/db/leader", "").await;
    assert_eq!(before.status, 200, "{}", before.body);
    assert_eq!(
        registry.metric("tunnel_registry_service_instances").await,
        1
    );
    let (_, parts) = fetch(setup.admin, "/readyz").await.unwrap();
    assert!(parts.contains("services"), "{parts}");

    // It is killed, and nobody heartbeats meanwhile.
    let setup = registry.kill().await;
    let registry = setup.start().await;
    let after = send(&registry, "GET", "/services/db/leader", "").await;
    assert_eq!((after.status, &after.body), (200, &before.body));
    assert!(after.body.contains(r#""meta":{"k":"x"}"#), "{}", after.body);
    let missing = send(&registry, "GET", "/services/x/instances", "").await;
    let missing: serde_json::Value = serde_json::from_str(&missing.body).unwrap();
    assert_eq!(missing["code"], json!("object_not_found"));
    registry.stop().await;
}
