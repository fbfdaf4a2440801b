//! TLS, certificates of clients, and the policy of who may register what.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tunnel_registry::server::session::policy::PolicyFile;
use tunnel_registry::server::tls::{Tls, Use};
use tunnel_registry::session::engine::view::State;

use crate::access::{Authority, a_poll, connector, files, polled};
use crate::lifecycle::refused;
use crate::process::{Net, Setup, folder};
use crate::session::env::{Client, Env, REGISTER};

async fn over(env: &Env, connector: &TlsConnector) -> Client<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(env.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Client(connector.connect(name, stream).await.unwrap())
}

#[tokio::test]
async fn sessions_are_carried_over_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.sign("localhost").write(folder.path());
    let tls = Arc::new(Tls::open(files(&folder, false), Use::Sessions).unwrap());
    let env = Env::one(|plan| plan.config.tls = Some(Arc::clone(&tls))).await;
    // Clients may offer protocols, which mean nothing here.
    for protocols in [&[][..], &["h2"]] {
        let mut client = over(&env, &connector(&authority, None, protocols)).await;
        let sid = client.register(REGISTER).await;
        client.send(format!("VALIDATE|x\nSHUTDOWN|{sid}\n")).await;
        assert_eq!(
            client.line().await.as_deref(),
            Some("ERROR|Invalid session")
        );
        assert_eq!(client.line().await.as_deref(), Some("GOODBYE"));
        client.ended().await;
    }
    // One that goes without a farewell is lost like any other.
    let mut client = over(&env, &connector(&authority, None, &[])).await;
    let sid = client.register(REGISTER).await;
    drop(client);
    env.until(&sid, Some(State::Silent)).await;
    // In clear: no answer, and no harm.
    let mut clear = env.client().await;
    clear.send("VALIDATE|x\n").await;
    let mut answer = Vec::new();
    // What TLS says of it, or nothing at all.
    let _read = clear.0.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"ERROR"), "{answer:?}");
    env.closed("tls", 1).await;
}

#[tokio::test]
async fn mutual_tls_lets_in_only_whom_the_authority_signed() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.sign("localhost").write(folder.path());
    std::fs::write(folder.path().join("ca.crt"), &authority.certificate).unwrap();
    std::fs::write(
        folder.path().join("policy.yaml"),
        "rules:\n- certificates: ['*.apis']\n  services: ['api-*']\n  domains: ['*.a.com']\n",
    )
    .unwrap();
    let tls = Arc::new(Tls::open(files(&folder, true), Use::Sessions).unwrap());
    let policy = PolicyFile::open(folder.path().join("policy.yaml"), true).unwrap();
    let policy = Arc::new(policy);
    let env = Env::one(|plan| {
        plan.config.tls = Some(Arc::clone(&tls));
        plan.config.policy = Some(Arc::clone(&policy));
    })
    .await;
    let stranger = Authority::new().sign("one.apis");
    for me in [None, Some(&stranger)] {
        // TLS 1.3: the client learns of it when it reads.
        let mut client = over(&env, &connector(&authority, me, &[])).await;
        assert!(client.0.read_u8().await.is_err());
    }
    env.closed("tls", 2).await;
    let known = authority.sign("one.apis");
    let mut client = over(&env, &connector(&authority, Some(&known), &[])).await;
    let sid = client.register(REGISTER).await;
    let other = authority.sign("one.webs");
    let mut other = over(&env, &connector(&authority, Some(&other), &[])).await;
    other
        .gets(
            REGISTER,
            "ERROR|Invalid format: service api-service is not allowed to you",
        )
        .await;
    // Not even with the id of another's session.
    other
        .gets(
            &format!("SHUTDOWN|{sid}"),
            "ERROR|Invalid session: service api-service is not allowed to you",
        )
        .await;
    client
        .gets(&format!("ROUTE|{sid}|x.a.com|/|http://h"), "ROUTE_OK")
        .await;
}

#[tokio::test]
async fn what_no_rule_allows_is_refused_and_the_policy_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let rule = |services: &str| {
        format!(
            "rules:\n- networks: [127.0.0.0/8]\n  services: [{services}]\n  domains: ['*.a.com']\n"
        )
    };
    std::fs::write(&file, rule("api-service")).unwrap();
    let policy = Arc::new(PolicyFile::open(file.clone(), false).unwrap());
    let env = Env::one(|plan| plan.config.policy = Some(Arc::clone(&policy))).await;
    let (mut client, sid) = env.registered().await;
    let route = |domains: &str| format!("ROUTE|{sid}|{domains}|/|http://h");
    client.gets(&route("x.a.com,*.a.com"), "ROUTE_OK").await;
    client
        .gets(
            &route("x.a.com,a.com"),
            "ERROR|Invalid route: domain a.com is not allowed to you",
        )
        .await;
    assert_eq!(env.served().len(), 2);
    let refused =
        r#"tunnel_registry_session_commands_total{command="route",outcome="not_allowed"}"#;
    assert_eq!(env.metric(refused), 1);

    let register = "REGISTER|web|h|1|0";
    let mut other = env.client().await;
    let not_allowed = "ERROR|Invalid format: service web is not allowed to you";
    other.gets(register, not_allowed).await;
    // A broken policy changes nothing.
    std::fs::write(&file, "rules: everything").unwrap();
    let failures = r#"tunnel_registry_reload_failures_total{what="session_policy"}"#;
    polled(async || env.metric(failures) == 1, "the failure").await;
    other.gets(register, not_allowed).await;
    std::fs::write(&file, rule("web")).unwrap();
    while other.ask(register).await == not_allowed {
        a_poll().await;
    }
    client
        .gets(
            &format!("VALIDATE|{sid}"),
            "ERROR|Invalid session: service api-service is not allowed to you",
        )
        .await;
    assert_eq!(env.state(&sid), Some(State::Connected), "what was is kept");
    // It may be ended by the connection that keeps it, and by no other.
    let shutdown = format!("SHUTDOWN|{sid}");
    let mut another = env.client().await;
    another
        .gets(
            &shutdown,
            "ERROR|Invalid session: service api-service is not allowed to you",
        )
        .await;
    client.gets(&shutdown, "GOODBYE").await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_ends_the_start() {
    let folder = folder();
    let net = Net::take();
    let mut setup = Setup::new(net, folder.path());
    setup.sessions = Some(net.at(1, 8181));
    let file = folder.path().join("policy.yaml");
    setup
        .arguments
        .push(format!("--session-policy-file={}", file.display()));
    let error = refused(&setup).await;
    assert!(error.contains("policy.yaml"), "{error}");
    let certificates = "rules:\n- certificates: [a]\n  services: [a]\n";
    for (text, says) in [
        ("rules: 1", "policy.yaml"),
        (certificates, "--session-tls-client-ca"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = refused(&setup).await;
        assert!(error.contains(says), "{error}");
    }
}
