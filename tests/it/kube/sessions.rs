//! Proxy sessions that several replicas share: taken at one, taken up again at
//! another, while the API server is there, and while it hangs.

use futures::StreamExt as _;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::json;
use tokio::net::TcpStream;
use tunnel_registry::resources::ProxySession;
use tunnel_registry::resources::lease::HOLDER;

use super::accounts::{Account, SESSIONS};
use super::env::Env;
use super::product::Product;
use super::proxy::Proxy;
use super::rights::granted;
use crate::process::{Registry, Setup, until};
use crate::session::env::Client;

const REGISTER: &str = "REGISTER|api|api-v2|9000|9001";
const ROUTE: &str = "api.example.com,*.b.com|/v2|http://api-v2:9000";

impl Env {
    fn sessions(&self) -> Api<ProxySession> {
        self.api()
    }

    /// All sessions, by their services.
    async fn services(&self) -> Vec<String> {
        let all = self.sessions().list(&ListParams::default()).await.unwrap();
        let services = all.items.into_iter().map(|session| session.spec.service);
        services.collect()
    }

    /// The only session.
    async fn session(&self) -> ProxySession {
        let all = self.sessions().list(&ListParams::default()).await.unwrap();
        let [session] = &all.items[..] else {
            panic!("{all:?}");
        };
        session.clone()
    }
}

/// How the n-th replica is started so that it takes sessions.
pub async fn taking(env: &Env, product: &Product<'_>, n: u8) -> Setup {
    env.grant(SESSIONS, Account::Plugin).await;
    listening(product, n, product.replica(n).await)
}

/// The same with a network of its own before the API server.
async fn taking_through(env: &Env, product: &Product<'_>, n: u8, proxy: &Proxy) -> Setup {
    env.grant(SESSIONS, Account::Plugin).await;
    listening(product, n, product.replica_through(n, proxy).await)
}

fn listening(product: &Product<'_>, n: u8, mut setup: Setup) -> Setup {
    setup.sessions = Some(product.net.at(n, 8181));
    setup.flags(&format!("--identity replica-{n} --replica-lease 4s"))
}

async fn client(replica: &Registry) -> Client<TcpStream> {
    Client::at(replica.setup.sessions.unwrap()).await
}

/// Registers as soon as the replica has read the store; returns the session's id.
async fn registered(replica: &Registry, command: &str) -> (Client<TcpStream>, String) {
    let mut client = client(replica).await;
    let sid = client.register(command).await;
    (client, sid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_taken_up_at_another_replica_and_its_routes_never_flap() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let a = taking(&env, &product, 1).await.start().await;
    let b = taking(&env, &product, 2).await.start().await;
    let (mut client, sid) = registered(&a, REGISTER).await;
    client
        .gets(&format!("ROUTE|{sid}|{ROUTE}"), "ROUTE_OK")
        .await;
    client
        .gets(&format!("HEADER|{sid}|X-A|1"), "HEADER_OK")
        .await;
    let before = env.session().await;
    assert_eq!(before.spec.routes.len(), 1);
    assert!(!serde_json::to_string(&before).unwrap().contains(&sid));
    let name = before.metadata.name.clone().unwrap();
    let api = env.sessions();
    let version = before.metadata.resource_version.clone().unwrap();
    let mut changes = api
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();

    a.kill().await;
    let mut again = self::client(&b).await;
    again.gets(&format!("RECONNECT|{sid}"), "OK").await;
    again.gets(&format!("VALIDATE|{sid}"), "OK").await;
    // B keeps it now, and nothing else has changed on the way.
    loop {
        let session = match changes.next().await.unwrap().unwrap() {
            WatchEvent::Modified(session) | WatchEvent::Added(session) => session,
            WatchEvent::Bookmark(_) => continue,
            other => panic!("{other:?}"),
        };
        assert_eq!(session.metadata.name.as_ref(), Some(&name));
        assert_eq!(session.spec, before.spec);
        let holder = &session.metadata.annotations.unwrap()[HOLDER];
        if holder == "replica-2" {
            break;
        }
        assert_eq!(holder, "replica-1");
    }
    again
        .gets(&format!("ROUTE|{sid}|c.com|/|http://h"), "ROUTE_OK")
        .await;
    assert_eq!(env.session().await.spec.routes.len(), 2);
    again.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;
    assert_eq!(env.services().await, [""; 0]);
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_while_the_api_server_hung_leaves_nothing_behind() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let proxy = Proxy::start(env.site.address).await;
    let replica = taking_through(&env, &product, 1, &proxy).await;
    let replica = replica.start().await;
    let (mut client, sid) = registered(&replica, REGISTER).await;
    client
        .gets(&format!("ROUTE|{sid}|{ROUTE}"), "ROUTE_OK")
        .await;
    let before = env.session().await;

    proxy.hang();
    // Somebody writes meanwhile: what the next write meets is read.
    let label = Patch::Merge(json!({ "metadata": { "labels": { "by": "hand" } } }));
    let (name, params) = (before.metadata.name.unwrap(), PatchParams::default());
    env.sessions().patch(&name, &params, &label).await.unwrap();
    let mut other = self::client(&replica).await;
    let unavailable = "ERROR|Unavailable";
    client
        .gets(&format!("ROUTE|{sid}|c.com|/|http://h"), unavailable)
        .await;
    client
        .gets(&format!("MAINT_ENTER|{sid}"), unavailable)
        .await;
    other.gets("REGISTER|web|web-1|80|0", unavailable).await;
    proxy.heal();
    // Whatever was made late is undone.
    until("nothing half-done is left", async || {
        let waiting = "tunnel_registry_session_write_queue_length";
        let settled = replica.metric(waiting).await == 0;
        let services = env.services().await;
        (settled && services == ["api"])
            .then_some(())
            .ok_or(format!("settled: {settled}; {services:?}"))
    })
    .await;
    let after = env.session().await;
    assert_eq!(after.spec, before.spec);
    // The client may send it again.
    client
        .gets(&format!("ROUTE|{sid}|c.com|/|http://h"), "ROUTE_OK")
        .await;
    let (_web, _) = registered(&replica, "REGISTER|web|web-1|80|0").await;
    assert_eq!(env.services().await.len(), 2);
    client.gets(&format!("SHUTDOWN|{sid}"), "GOODBYE").await;

    // All that is granted for it was used, and nothing else asked for.
    let granted = granted(SESSIONS, Account::Plugin.name());
    assert_eq!(granted.len(), 6);
    until("all rights are used", async || {
        let deeds = env.deeds(Account::Plugin);
        assert!(deeds.forbidden.is_empty(), "{deeds:?}");
        let unused: Vec<_> = granted.difference(&deeds.used).cloned().collect();
        unused.is_empty().then_some(()).ok_or(format!("{unused:?}"))
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_takes_its_session_with_it_after_the_grace() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let a = taking(&env, &product, 1).await.flags("--session-grace 3s");
    let a = a.start().await;
    let (lost, _) = registered(&a, REGISTER).await;
    let (mut kept, sid) = registered(&a, "REGISTER|web|web-1|80|0").await;
    assert_eq!(env.services().await.len(), 2);
    drop(lost);
    until("it is gone", async || {
        (env.services().await == ["web"]).then_some(())
    })
    .await;
    kept.gets(&format!("MAINT_ENTER|{sid}"), "MAINT_OK").await;
    a.stop().await;
}

/// An orderly stop is no reason to lose a session either.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_the_only_replica() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let mut replica = taking(&env, &product, 1).await.start().await;
    let (mut client, sid) = registered(&replica, REGISTER).await;
    client
        .gets(&format!("ROUTE|{sid}|{ROUTE}"), "ROUTE_OK")
        .await;
    let before = env.session().await;
    for crashes in [false, true] {
        let setup = match crashes {
            false => replica.stop().await,
            true => replica.kill().await,
        };
        replica = setup.start().await;
        client = self::client(&replica).await;
        client.gets(&format!("RECONNECT|{sid}"), "OK").await;
        client.gets(&format!("VALIDATE|{sid}"), "OK").await;
        let after = env.session().await;
        assert_eq!(after.spec, before.spec);
        assert_eq!(after.metadata.uid, before.metadata.uid);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_one_services_at_every_replica_also_of_what_is_made_by_hand() {
    let env = Env::start().await;
    let product = Product::new(&env);
    let a = taking(&env, &product, 1).await.start().await;
    let b = taking(&env, &product, 2).await.start().await;
    let object: ProxySession = serde_json::from_value(json!({
        "apiVersion": "tunnelregistry.io/v1alpha1",
        "kind": "ProxySession",
        "metadata": { "name": "docs" },
        "spec": {
            "service": "docs", "hostname": "docs.internal", "servicePort": 80,
            "routes": [{ "domains": ["docs.com"], "path": "/", "backend": "http://docs.internal" }],
        },
    }))
    .unwrap();
    env.sessions()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let (mut at_a, first) = registered(&a, REGISTER).await;
    at_a.gets(&format!("ROUTE|{first}|a.com|/|http://h"), "ROUTE_OK")
        .await;
    let (mut at_b, second) = registered(&b, "REGISTER|web|web-1|80|0").await;
    for domain in ["docs.com", "a.com"] {
        until("B knows who has the place", async || {
            let reply = at_b
                .ask(&format!("ROUTE|{second}|{domain}|/x|http://h"))
                .await;
            assert_eq!(reply, "ROUTE_OK", "another path is free");
            let reply = at_b
                .ask(&format!("ROUTE|{second}|{domain}|/|http://h"))
                .await;
            let conflict = reply.starts_with("ERROR|Route conflict: ");
            conflict.then_some(()).ok_or(reply)
        })
        .await;
    }
    let delete = DeleteParams::default();
    env.sessions().delete("docs", &delete).await.unwrap();
    until("what was taken by hand is free", async || {
        let reply = at_b
            .ask(&format!("ROUTE|{second}|docs.com|/|http://h"))
            .await;
        (reply == "ROUTE_OK").then_some(()).ok_or(reply)
    })
    .await;
    a.stop().await;
    b.stop().await;
}
