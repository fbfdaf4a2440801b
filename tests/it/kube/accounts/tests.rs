use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use serde_json::json;
use tunnel_registry::resources::TunnelEndpoint;

use super::*;
use crate::kube::objects::record;
use crate::kube::site::client;

/// A client with the rights of an account.
async fn as_account(env: &Env, account: Account) -> Client {
    let kubeconfig = env.kubeconfig_of(account).await;
    client(&kubeconfig).await.unwrap()
}

/// What the account did, as it prints, when there are so many.
async fn used(env: &Env, account: Account, count: usize) -> Vec<String> {
    let used = async || {
        let used = env.deeds(account).used;
        if used.len() < count {
            return Err(format!("{used:?}"));
        }
        Ok(used.iter().map(Right::to_string).collect())
    };
    until("everything is written down", used).await
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_kubeconfig_is_its_owners_and_of_its_namespace() {
    let env = Env::start().await;
    let path = env.kubeconfig_of(Account::Plugin).await;
    let mode = Permissions::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let client = client(&path).await.unwrap();
    assert_eq!(client.default_namespace(), env.namespace);
    assert_ne!(path, env.kubeconfig_of(Account::Plugin).await);
}

#[tokio::test]
async fn an_account_may_what_its_role_says_and_no_more() {
    let env = Env::start().await;
    let other = Env::start().await;
    let plugin = as_account(&env, Account::Plugin).await;
    let api = Api::<TunnelEndpoint>::namespaced(plugin.clone(), &env.namespace);
    let record = record("tunnel", "node", "connector", "10.42.0.100:80");
    let object = TunnelEndpoint::from_record(&record).unwrap();
    let create = PostParams::default();
    let name = api.create(&create, &object).await.unwrap().metadata.name;
    let name = name.unwrap();
    let everything = ListParams::default();
    let elsewhere = Api::<TunnelEndpoint>::namespaced(plugin.clone(), &other.namespace);
    assert_eq!(code(elsewhere.list(&everything).await), 403);
    let secrets = Api::<Secret>::namespaced(plugin.clone(), &env.namespace);
    assert_eq!(code(secrets.list(&everything).await), 403);
    let status = Patch::Merge(json!({ "status": {} }));
    let params = PatchParams::default();
    assert_eq!(code(api.patch_status(&name, &params, &status).await), 403);

    let controller = as_account(&env, Account::Controller).await;
    let api = Api::<TunnelEndpoint>::namespaced(controller, &env.namespace);
    assert_eq!(code(api.create(&create, &object).await), 403);
    api.patch_status(&name, &params, &status).await.unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn to_watch_pods_can_be_forbidden() {
    let env = Env::start().await;
    for account in [Account::Plugin, Account::Controller] {
        let pods = Api::<Pod>::namespaced(as_account(&env, account).await, &env.namespace);
        pods.list(&ListParams::default()).await.unwrap();
    }
    env.forbid_pods().await;
    for account in [Account::Plugin, Account::Controller] {
        let pods = Api::<Pod>::namespaced(as_account(&env, account).await, &env.namespace);
        assert_eq!(code(pods.list(&ListParams::default()).await), 403);
        let what = "the refusal is written down";
        let forbidden = async || env.deeds(account).forbidden.pop_first();
        assert_eq!(until(what, forbidden).await.to_string(), "list pods");
    }
}

#[tokio::test]
async fn what_an_account_does_is_written_down() {
    let env = Env::start().await;
    let plugin = as_account(&env, Account::Plugin).await;
    // What does not concern the namespace, as discovery, is not told.
    plugin.apiserver_version().await.unwrap();
    let leases = Api::<Lease>::namespaced(plugin.clone(), &env.namespace);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "replica" },
    });
    // An apply that makes the object.
    let apply = PatchParams::apply("tests");
    leases
        .patch("replica", &apply, &Patch::Apply(&lease))
        .await
        .unwrap();
    let expected = [
        "create leases (coordination.k8s.io)",
        "patch leases (coordination.k8s.io)",
    ];
    assert_eq!(used(&env, Account::Plugin, 2).await, expected);
    // A watch is written down while it lasts.
    let watch = leases.watch(&WatchParams::default(), "0").await.unwrap();
    let used = used(&env, Account::Plugin, 3).await;
    assert_eq!(used[..2], expected);
    assert_eq!(used[2], "watch leases (coordination.k8s.io)");
    drop(watch);
    assert_eq!(env.deeds(Account::Controller), Deeds::default());
    assert_eq!(env.deeds(Account::Plugin).forbidden, BTreeSet::new());
}

/// Without the right to create, an apply that would make the object is refused,
/// and the log tells that it was `create` that was missing.
#[tokio::test]
async fn an_apply_that_makes_something_asks_for_create() {
    let env = Env::start().await;
    let plugin = as_account(&env, Account::Plugin).await;
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": Account::Plugin.name() },
    });
    role["rules"] = json!([{
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["patch"],
    }]);
    env.apply(&role).await;
    let create = Right {
        group: "coordination.k8s.io".into(),
        resource: "leases".into(),
        subresource: String::new(),
        verb: "create".into(),
    };
    env.may(Account::Plugin, &create, false).await;
    let leases = Api::<Lease>::namespaced(plugin, &env.namespace);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "replica" },
    });
    let apply = PatchParams::apply("tests");
    let patched = leases.patch("replica", &apply, &Patch::Apply(&lease)).await;
    assert_eq!(code(patched), 403);
    let forbidden = async || env.deeds(Account::Plugin).forbidden.pop_first();
    assert_eq!(until("it is written down", forbidden).await, create);
}
