//! One program of a client, which means the same on every store.

use serde_json::json;
use tunnel_registry::client::{Client, Instance, LeaderType, ServiceMeta, instance_id};

use super::told::{are, next};
use super::{on_etcd, on_kubernetes};
use crate::kube::env::Env;
use crate::process::{Net, Setup, folder};

/// Whatever a client does, once, at a registry without services.
async fn runs_at(server: &str) {
    let client = Client::new(server).unwrap();
    client.ping().await.unwrap();
    assert_eq!(client.services().await, Ok(Vec::new()));
    for error in [
        client.instances("db").await.unwrap_err(),
        client.remove("db").await.unwrap_err(),
        client
            .register_once("db", &Instance::new("a:1"))
            .await
            .unwrap_err(),
        client
            .register("db", Instance::new("a:1"))
            .await
            .unwrap_err(),
    ] {
        assert!(error.is_not_found() && !error.is_temporary(), "{error:?}");
    }
    assert_eq!(client.leader("db").await, Ok(None));
    assert_eq!(client.meta("db").await, Ok(None));

    // One may watch what is not there yet.
    let mut watch = client.watch("db");
    are(&mut watch, &["current"]).await;
    let mut leaders = client.follow_leader("db");
    assert_eq!(next(&mut leaders).await, None);
    client.create("db", LeaderType::Oldest).await.unwrap();
    let again = client.create("db", LeaderType::Manual).await.unwrap_err();
    assert!(again.is_exists(), "{again:?}");
    client.ensure("db", LeaderType::Manual).await.unwrap();

    let a = Instance::new("a:1").with_meta("k", "x");
    let a = client.register("db", a).await.unwrap();
    are(&mut watch, &["up a:1 x", "leader a:1"]).await;
    let b = Instance::new("b:1").with_proto("http");
    let b = client
        .register("db", b)
        .create(LeaderType::Oldest)
        .await
        .unwrap();
    are(&mut watch, &["up b:1"]).await;
    let listed = client.instances("db").await.unwrap();
    assert_eq!(
        watch.present().instances(),
        listed.iter().collect::<Vec<_>>()
    );
    assert_eq!(
        client.leader("db").await.unwrap().as_ref(),
        Some(&listed[0])
    );
    assert_eq!(next(&mut leaders).await.unwrap(), listed[0]);
    let all = client.services().await.unwrap();
    assert_eq!(all[0].name, "db");
    assert_eq!(
        (all[0].leader_type, all[0].instances),
        (LeaderType::Oldest, 2)
    );
    assert_eq!(all[0].leader.as_ref(), Some(&listed[0]));

    // Other attributes, which the leader's followers are told as well.
    a.update([("k".to_owned(), "y".to_owned())].into())
        .await
        .unwrap();
    are(&mut watch, &["update a:1 y"]).await;
    assert_eq!(next(&mut leaders).await.unwrap().meta["k"], "y");

    // Meta data is replaced by whoever knows it.
    let meta = ServiceMeta::new(json!({"n": 1}), 0);
    let first = client.set_meta("db", &meta).await.unwrap();
    assert!(first.index > 0);
    are(&mut watch, &[r#"service_meta {"n":1}"#]).await;
    let exists = client.set_meta("db", &meta).await.unwrap_err();
    assert!(exists.is_exists() && exists.is_conflict(), "{exists:?}");
    let other = ServiceMeta::new(json!(2), first.index + 100);
    let other = client.set_meta("db", &other).await.unwrap_err();
    assert!(other.is_conflict() && !other.is_exists(), "{other:?}");
    let second = ServiceMeta::new(json!([2]), first.index);
    let second = client.set_meta("db", &second).await.unwrap();
    assert_eq!(client.meta("db").await, Ok(Some(second)));
    are(&mut watch, &["service_meta [2]"]).await;

    // Leadership is handed on.
    let refused = client.set_leader("db", &listed[1].id).await.unwrap_err();
    assert!(refused.to_string().contains("not manual"), "{refused}");
    a.unregister().await.unwrap();
    are(&mut watch, &["down a:1 y", "leader b:1"]).await;
    assert_eq!(next(&mut leaders).await.unwrap().addr, "b:1");
    b.unregister().await.unwrap();
    are(&mut watch, &["down b:1", "leader"]).await;
    assert_eq!(next(&mut leaders).await, None);
    client.unregister("db", &listed[1].id).await.unwrap();
    client.remove("db").await.unwrap();
    assert_eq!(client.services().await, Ok(Vec::new()));

    // By hand.
    client.create("db", LeaderType::Manual).await.unwrap();
    let c = client.register("db", Instance::new("c:1")).await.unwrap();
    let d = client.register("db", Instance::new("d:1")).await.unwrap();
    are(&mut watch, &["up c:1", "up d:1"]).await;
    assert_eq!(client.leader("db").await, Ok(None));
    client.set_leader("db", &d.instance().id).await.unwrap();
    are(&mut watch, &["leader d:1"]).await;
    let (meta, id) = (ServiceMeta::new(json!(3), 0), instance_id("tcp", "c:1"));
    client.set_meta_and_leader("db", &meta, &id).await.unwrap();
    are(&mut watch, &["service_meta 3", "leader c:1"]).await;
    // Nobody else takes over.
    c.unregister().await.unwrap();
    are(&mut watch, &["down c:1", "leader"]).await;
    assert_eq!(client.leader("db").await, Ok(None));
    client.remove("db").await.unwrap();
    are(&mut watch, &["down d:1"]).await;
}

#[tokio::test]
async fn on_the_file_store() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    runs_at(&format!("http://{}", registry.setup.listen)).await;
    registry.stop().await;
}

#[tokio::test]
async fn on_the_memory_store() {
    let folder = folder();
    let mut setup = Setup::new(Net::take(), folder.path());
    setup.store = Some("memory".into());
    let registry = setup.start().await;
    runs_at(&format!("http://{}", registry.setup.listen)).await;
    registry.stop().await;
}

#[tokio::test]
async fn on_the_kubernetes_store() {
    let (env, folder) = (Env::start().await, folder());
    let registry = on_kubernetes(&env, folder.path()).await;
    runs_at(&format!("http://{}", registry.setup.listen)).await;
    registry.stop().await;
}

#[tokio::test]
async fn on_the_etcd_store() {
    let folder = folder();
    let registry = on_etcd(folder.path()).await;
    runs_at(&format!("http://{}", registry.setup.listen)).await;
    registry.stop().await;
}
