//! The Kubernetes store: the contract of stores, and what is its own.

mod middle;
mod objects;
mod outages;
mod refusals;

use std::sync::Arc;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tunnel_registry::backend::kubernetes::{Kubernetes, Settings};

use super::env::Env;
use crate::contract;

/// How the administrator reaches the API server.
async fn config(env: &Env) -> Config {
    let kubeconfig = Kubeconfig::read_from(env.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.unwrap()
}

/// The product's own client.
async fn client(env: &Env) -> Client {
    tunnel_registry::kubernetes::client(config(env).await).unwrap()
}

/// A store in the test's namespace.
pub async fn store(env: &Env) -> Kubernetes {
    store_with(env, client(env).await)
}

fn store_with(env: &Env, client: Client) -> Kubernetes {
    Kubernetes::new(Settings {
        client,
        namespace: env.namespace.clone(),
        owner: None,
        sessions: true,
        services: true,
    })
}

contract::suite!({
    let env = Env::start().await;
    (Arc::new(store(&env).await), env)
});
