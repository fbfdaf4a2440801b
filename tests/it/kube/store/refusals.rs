//! What is told when the API server will not do what it is asked.

use std::net::TcpListener;
use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::Config;
use serde_json::json;
use tunnel_registry::backend::kubernetes::{Kubernetes, Settings};
use tunnel_registry::backend::{Backend as _, Write, WriteError};
use tunnel_registry::kubernetes::{CALL_TIMEOUT, Failure, call};
use tunnel_registry::record::Record;

use super::contract::{record, replica};
use super::{client, config, store, store_with};
use crate::kube::env::Env;

async fn with(env: &Env, change: impl FnOnce(&mut Config)) -> Kubernetes {
    let mut config = config(env).await;
    change(&mut config);
    store_with(env, tunnel_registry::kubernetes::client(config).unwrap())
}

/// What every request is answered while the store is away.
async fn unavailable(store: &Kubernetes) -> String {
    let create = |record| {
        store
            .write(Write::Create(record))
            .map(|made| made.map(drop))
    };
    let answers = [
        create(record("t", "c", 1)).await,
        create(replica("r", 1)).await,
        store.ping().await,
    ];
    let [Err(WriteError::Unavailable(why)), ..] = &answers else {
        panic!("{answers:?}")
    };
    for answer in &answers {
        assert!(
            matches!(answer, Err(WriteError::Unavailable(_))),
            "{answer:?}"
        );
    }
    why.clone()
}

#[tokio::test]
async fn a_role_that_is_missing_is_told() {
    let env = Env::start().await;
    let store = with(&env, |config| {
        config.auth_info.impersonate = Some("nobody".into());
    });
    let why = unavailable(&store.await).await;
    assert!(
        why.contains("User \"nobody\" cannot create resource \"tunnelendpoints\""),
        "{why}"
    );
    assert!(
        why.ends_with("bind the Role of manifests/rbac.yaml to that account"),
        "{why}"
    );
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_told() {
    let env = Env::start().await;
    let store = with(&env, |config| {
        config.auth_info.token = Some("guessed".to_owned().into());
    });
    let why = unavailable(&store.await).await;
    assert!(why.contains("does not accept the credentials"), "{why}");
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_told() {
    let env = Env::start().await;
    // Nobody listens there any more.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let store = with(&env, |config| {
        config.cluster_url = format!("https://{free}").parse().unwrap();
    });
    let why = unavailable(&store.await).await;
    assert!(
        why.starts_with("the API server cannot be reached: "),
        "{why}"
    );
    assert!(why.contains("onnection refused"), "{why}");
}

#[tokio::test]
async fn an_api_server_with_another_certificate_is_told() {
    let env = Env::start().await;
    let store = with(&env, |config| config.root_cert = Some(Vec::new()));
    let why = unavailable(&store.await).await;
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn a_namespace_that_is_missing_is_told() {
    let env = Env::start().await;
    let store = Kubernetes::new(Settings {
        client: client(&env).await,
        namespace: "no-such".into(),
        owner: None,
        sessions: true,
        services: true,
    });
    for record in [record("t", "c", 1), replica("r", 1)] {
        let made = store.write(Write::Create(record)).await;
        let Err(WriteError::Unavailable(why)) = made else {
            panic!("{made:?}")
        };
        assert!(why.contains("kubectl create namespace no-such"), "{why}");
    }
}

#[tokio::test]
async fn a_definition_that_is_missing_is_told() {
    let env = Env::start().await;
    let client = client(&env).await;
    // As every request is answered where the group or the version is unknown.
    for path in [
        "/apis/tunnelregistry.io/v0/namespaces/default/tunnelendpoints",
        "/apis/other.tunnelregistry.io/v1/namespaces/default/tunnelendpoints/x",
    ] {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let answer = call(&client, request, CALL_TIMEOUT).await;
        let Err(Failure::Unavailable(why)) = answer else {
            panic!("{answer:?}")
        };
        assert!(why.contains("tunnel-registry crd | kubectl apply"), "{why}");
    }
}

#[tokio::test]
async fn a_quota_refuses_one_record_and_not_the_store() {
    let env = Env::start().await;
    let quotas = Api::<ResourceQuota>::namespaced(env.client.clone(), &env.namespace);
    let hard = json!({ "hard": { "count/tunnelendpoints.tunnelregistry.io": "0" } });
    let quota = json!({ "metadata": { "name": "none" }, "spec": hard });
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // Usually a controller counts.
    let status = json!({ "status": { "hard": hard["hard"], "used": hard["hard"] } });
    let params = PatchParams::default();
    quotas
        .patch_status("none", &params, &Patch::Merge(status))
        .await
        .unwrap();

    let store = store(&env).await;
    let made = store.write(Write::Create(record("t", "c", 1))).await;
    let Err(WriteError::Refused(why)) = made else {
        panic!("{made:?}")
    };
    assert!(why.contains("exceeded quota: none"), "{why}");
    store.write(Write::Create(replica("r", 1))).await.unwrap();
    assert_eq!(store.ping().await, Ok(()));
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_refused_before_it_is_sent() {
    let env = Env::start().await;
    let store = store(&env).await;
    let Record::Endpoint(mut long) = record("t", "c", 1) else {
        panic!()
    };
    Arc::make_mut(&mut long).lease.holder = Some("x".repeat(254).into());
    let made = store.write(Write::Create(Record::Endpoint(long))).await;
    let Err(WriteError::Refused(why)) = made else {
        panic!("{made:?}")
    };
    assert!(why.contains("254 bytes"), "{why}");
}
