//! That a cluster can be broken and mended as the tests of outages need it.

use std::time::Duration;

use kube::api::{Api, ListParams, PostParams};
use tunnel_registry::resources::TunnelEndpoint;

use super::accounts::Account;
use super::cluster::{Cluster, Part, lent};
use super::env::Env;
use super::objects::record;
use super::proxy::Proxy;
use super::site::client;
use crate::process::until;
use crate::testenv::{CONNECTOR, NODE, TUNNEL};

/// What is stopped never answers; this is how long it is given.
const UNANSWERED: Duration = Duration::from_millis(300);

async fn store(env: &Env) {
    let record = record(TUNNEL, NODE, CONNECTOR, "10.42.0.100:80");
    let object = TunnelEndpoint::from_record(&record).unwrap();
    let create = PostParams::default();
    env.endpoints().create(&create, &object).await.unwrap();
}

async fn count(api: &Api<TunnelEndpoint>) -> Result<usize, kube::Error> {
    Ok(api.list(&ListParams::default()).await?.items.len())
}

async fn is_unanswered(api: &Api<TunnelEndpoint>) {
    let answer = tokio::time::timeout(UNANSWERED, count(api)).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn what_is_stored_outlasts_every_end() {
    let mut cluster = lent().await;
    let env = Env::of(&cluster).await;
    store(&env).await;
    let endpoints = env.endpoints();
    for parts in [
        &[Part::ApiServer][..],
        &[Part::Etcd],
        &[Part::Etcd, Part::ApiServer],
    ] {
        for &part in parts {
            cluster.kill(part).await;
        }
        if parts.contains(&Part::ApiServer) {
            assert!(count(&endpoints).await.is_err());
        }
        for &part in parts {
            cluster.run(part);
        }
        cluster.ready().await;
        // With etcd away the API server may have lost its cache, and lists
        // again when it is asked (429 until then).
        let listed = until("it lists again", async || count(&endpoints).await).await;
        assert_eq!(listed, 1);
    }
    cluster.stop(Part::ApiServer).await;
    assert!(count(&endpoints).await.is_err());
    cluster.run(Part::ApiServer);
    cluster.ready().await;
    assert_eq!(count(&endpoints).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_frozen_answers_when_it_thaws() {
    let mut cluster = lent().await;
    let env = Env::of(&cluster).await;
    store(&env).await;
    let endpoints = env.endpoints();
    for part in [Part::ApiServer, Part::Etcd] {
        cluster.freeze(part).await;
        // A consistent list asks etcd, too.
        is_unanswered(&endpoints).await;
        cluster.thaw(part);
        assert_eq!(count(&endpoints).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn the_next_borrower_finds_everything_mended() {
    let site = {
        let mut cluster = lent().await;
        cluster.kill(Part::Etcd).await;
        cluster.freeze(Part::ApiServer).await;
        cluster.site.clone()
    };
    let cluster = lent().await;
    assert_eq!(cluster.site.address, site.address);
    let env = Env::of(&cluster).await;
    assert_eq!(count(&env.endpoints()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_cluster_of_ones_own_leaves_nothing_behind() {
    let mut cluster = Cluster::own().await;
    let folder = cluster.site.folder.clone();
    cluster.kill(Part::ApiServer).await;
    cluster.kill(Part::Etcd).await;
    drop(cluster);
    assert!(!folder.exists());
}

#[tokio::test]
async fn one_client_alone_is_cut_off() {
    let env = Env::start().await;
    let proxy = Proxy::start(env.site.address).await;
    let kubeconfig = env.kubeconfig_through(Account::Plugin, proxy.address).await;
    let behind = client(&kubeconfig).await.unwrap();
    let behind = Api::<TunnelEndpoint>::namespaced(behind, &env.namespace);
    store(&env).await;
    assert_eq!(count(&behind).await.unwrap(), 1);
    proxy.cut();
    assert!(count(&behind).await.is_err());
    assert_eq!(count(&env.endpoints()).await.unwrap(), 1);
    proxy.heal();
    until("it lists again", async || count(&behind).await).await;
    proxy.hang();
    is_unanswered(&behind).await;
    assert_eq!(count(&env.endpoints()).await.unwrap(), 1);
    proxy.heal();
    assert_eq!(count(&behind).await.unwrap(), 1);
}
