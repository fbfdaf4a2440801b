//! Who may call: tokens and TLS, and both being replaced.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tunnel_registry::gost::proto::GetServiceRequest;
use tunnel_registry::server::auth::{Access, Tokens};
use tunnel_registry::server::reload::{INTERVAL, OpenError};
use tunnel_registry::server::tls::{Tls, TlsFiles, Use};
use tunnel_registry::server::{Config, Limits};

use crate::testenv::{Env, Grpc, Http, NEVER, TUNNEL, framed, service, whole};

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn restricted(config: &mut Config) {
    let tokens = Tokens::from_environment("first-token,second-token").unwrap();
    config.access = Arc::new(Access::tokens(tokens));
}

fn get() -> Vec<u8> {
    let request = GetServiceRequest {
        name: TUNNEL.into(),
    };
    framed(&prost::Message::encode_to_vec(&request))
}

#[tokio::test]
async fn http_needs_a_token_when_there_are_some() {
    let env = Env::start_with(restricted).await;
    let mut client = env.http().await;
    let body = service("tcp", ":80");
    for (value, admitted) in [
        (None, false),
        (Some("Bearer first-token"), true),
        (Some("bearer second-token"), true),
        (Some("Bearer first-tokem"), false),
        (Some("Bearer first-token,second-token"), false),
        (Some("Bearer "), false),
        (Some("Basic first-token"), false),
        (Some("first-token"), false),
    ] {
        let headers: Vec<_> = value
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        for (method, path, body) in [
            ("POST", "/sd", &*body),
            ("PUT", "/", &body),
            ("DELETE", "/sd", &body),
            ("GET", "/sd?name=x", ""),
        ] {
            let answer = client.send(method, path, &headers, body).await;
            if admitted {
                assert_eq!(answer.status, 200, "{value:?} {method}: {}", answer.body);
            } else {
                assert_eq!(answer.status, 401, "{value:?} {method}");
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
                assert!(answer.error().contains("set `token` in gost's plugin"));
                // The body was not read, so the connection may have ended.
                client = env.http().await;
            }
        }
        let elsewhere = client.send("GET", "/elsewhere", &headers, "").await;
        assert_eq!(elsewhere.status, if admitted { 404 } else { 401 });
    }
    assert_eq!(
        env.count(&Env::calls("renew", "http", "unauthenticated")),
        6
    );
    assert_eq!(env.count(&Env::calls("get", "http", "ok")), 2);
}

#[tokio::test]
async fn grpc_needs_a_token_except_for_health() {
    let env = Env::start_with(restricted).await;
    let mut client = env.grpc().await;
    for (header, code) in [
        (None, 16),
        (Some(("token", "first-token")), 0),
        (Some(("token", "second-token")), 0),
        (Some(("authorization", "Bearer first-token")), 0),
        (Some(("token", "Bearer first-token")), 16),
        (Some(("token", "other-token")), 16),
        (Some(("authorization", "first-token")), 16),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let reply = client.call("/proto.SD/Get", &headers, whole(&get())).await;
        assert_eq!(reply.code, code, "{header:?}: {}", reply.error);
        let reply = client
            .call(REFLECTION, &headers, whole(&framed(&[0x3a, 1, b'*'])))
            .await;
        assert_eq!(reply.code, code, "{header:?}: {}", reply.error);
        let reply = client.call("/proto.SD/Other", &headers, whole(&[])).await;
        assert_eq!(reply.code, if code == 0 { 12 } else { code }, "{header:?}");
        let reply = client.call(HEALTH, &headers, whole(&framed(&[]))).await;
        assert_eq!(reply.code, 0, "{header:?}: {}", reply.error);
    }
    assert_eq!(env.count(&Env::calls("get", "grpc", "unauthenticated")), 4);
    assert_eq!(env.count("tunnel_registry_connections_accepted_total"), 1);
}

/// Bounds that never end a connection here: time is advanced past the polls.
fn patient() -> Limits {
    Limits {
        first_request: NEVER,
        request: NEVER,
        idle: NEVER,
        tls_handshake: NEVER,
        ping_interval: NEVER,
        ping_timeout: NEVER,
        ..Limits::default()
    }
}

/// Lets the time pass after which files are looked at again.
pub async fn a_poll() {
    tokio::time::pause();
    tokio::time::advance(INTERVAL).await;
    tokio::time::resume();
    tokio::task::yield_now().await;
}

/// Polls until `reached`, at most so often that only a hang comes there.
pub async fn polled(mut reached: impl AsyncFnMut() -> bool, what: &str) {
    for _ in 0..10_000 {
        if reached().await {
            return;
        }
        a_poll().await;
    }
    panic!("{what} does not come");
}

#[tokio::test]
async fn tokens_are_replaced_while_connections_stay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "old-token\n").unwrap();
    let access = Arc::new(Access::file(file.clone()).unwrap());
    let env = Env::start_with(|config| {
        config.access = access;
        config.limits = patient();
    })
    .await;
    let mut client = env.grpc().await;
    let mut code = async |token| {
        client
            .call("/proto.SD/Get", &[("token", token)], whole(&get()))
            .await
            .code
    };
    assert_eq!((code("old-token").await, code("new-token").await), (0, 16));
    std::fs::write(&file, "# both for a while\nnew-token\nold-token\n").unwrap();
    polled(async || code("new-token").await == 0, "the new token").await;
    assert_eq!(code("old-token").await, 0);
    std::fs::write(&file, "two words\n").unwrap();
    let failures = r#"tunnel_registry_reload_failures_total{what="tokens"}"#;
    polled(async || env.count(failures) == 1, "the failure").await;
    assert_eq!((code("old-token").await, code("new-token").await), (0, 0));
    std::fs::write(&file, "new-token\n").unwrap();
    polled(
        async || code("old-token").await == 16,
        "the old token's end",
    )
    .await;
    assert_eq!(code("new-token").await, 0);
    assert_eq!(env.count(failures), 1);
    assert_eq!(env.count("tunnel_registry_connections_accepted_total"), 1);
}

/// An authority that signs for servers and clients.
pub struct Authority {
    pub certificate: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Signed {
    certificate: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.into()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key,
        }
    }
}

impl Signed {
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("tls.crt"), &self.certificate).unwrap();
        std::fs::write(folder.join("tls.key"), self.key.serialize_pem()).unwrap();
    }
}

pub fn files(folder: &TempDir, client_ca: bool) -> TlsFiles {
    TlsFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
        client_ca: client_ca.then(|| folder.path().join("ca.crt")),
    }
}

/// A client that trusts `authority` and offers `protocols`.
pub fn connector(authority: &Authority, me: Option<&Signed>, protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match me {
        None => builder.with_no_client_auth(),
        Some(me) => {
            let key = PrivateKeyDer::try_from(me.key.serialize_der()).unwrap();
            builder
                .with_client_auth_cert(vec![me.der.clone()], key)
                .unwrap()
        }
    };
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    TlsConnector::from(Arc::new(config))
}

async fn secured(env: &Env, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, env.connect().await).await.unwrap()
}

#[tokio::test]
async fn both_protocols_are_spoken_over_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.sign("localhost").write(folder.path());
    let tls = Arc::new(Tls::open(files(&folder, false), Use::Calls).unwrap());
    let env = Env::start_with(|config| config.tls = Some(tls)).await;

    let stream = secured(&env, &connector(&authority, None, &["http/1.1"])).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = Http(stream).send("GET", "/sd?name=x", &[], "").await;
    assert_eq!(answer.status, 200);

    let stream = secured(&env, &connector(&authority, None, &["h2", "http/1.1"])).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Grpc::over(stream).await;
    let reply = client.call("/proto.SD/Get", &[], whole(&get())).await;
    assert_eq!(reply.code, 0, "{}", reply.error);
    drop(client);
    env.until(&Env::closed("peer"), 2).await;

    // In clear: no answer, and no harm.
    env.http().await.raw(b"GET / HTTP/1.1\r\n\r\n").await;
    env.until(&Env::closed("tls"), 1).await;
}

#[tokio::test]
async fn mutual_tls_lets_in_only_whom_the_authority_signed() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.sign("localhost").write(folder.path());
    std::fs::write(folder.path().join("ca.crt"), &authority.certificate).unwrap();
    let tls = Arc::new(Tls::open(files(&folder, true), Use::Calls).unwrap());
    let env = Env::start_with(|config| config.tls = Some(tls)).await;

    let known = authority.sign("gost");
    let stream = secured(&env, &connector(&authority, Some(&known), &["http/1.1"])).await;
    let answer = Http(stream).send("GET", "/sd?name=x", &[], "").await;
    assert_eq!(answer.status, 200);

    let stranger = Authority::new().sign("gost");
    for me in [None, Some(&stranger)] {
        // TLS 1.3: the client learns of it when it reads.
        let mut stream = secured(&env, &connector(&authority, me, &["http/1.1"])).await;
        let read = tokio::io::AsyncReadExt::read_u8(&mut stream).await;
        assert!(read.is_err());
    }
    env.until(&Env::closed("tls"), 2).await;
}

#[tokio::test]
async fn a_certificate_is_replaced_while_connections_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    old.sign("localhost").write(folder.path());
    let tls = Arc::new(Tls::open(files(&folder, false), Use::Calls).unwrap());
    let env = Env::start_with(|config| {
        config.tls = Some(Arc::clone(&tls));
        config.limits = patient();
    })
    .await;
    let mut stays = Http(secured(&env, &connector(&old, None, &["http/1.1"])).await);
    assert_eq!(stays.send("GET", "/sd?name=x", &[], "").await.status, 200);

    // Half a change is no change.
    let before = tls.config();
    std::fs::write(folder.path().join("tls.key"), "").unwrap();
    let failures = r#"tunnel_registry_reload_failures_total{what="tls"}"#;
    polled(async || env.count(failures) == 1, "the failure").await;
    assert!(Arc::ptr_eq(&before, &tls.config()));

    new.sign("localhost").write(folder.path());
    while Arc::ptr_eq(&before, &tls.config()) {
        a_poll().await;
    }
    let mut fresh = Http(secured(&env, &connector(&new, None, &["http/1.1"])).await);
    assert_eq!(fresh.send("GET", "/sd?name=x", &[], "").await.status, 200);
    assert_eq!(stays.send("GET", "/sd?name=x", &[], "").await.status, 200);
    let expiry = "tunnel_registry_certificate_expiry_timestamp_seconds{}";
    assert_eq!(env.count(expiry), tls.expires().as_second().unsigned_abs());
}

#[test]
fn what_cannot_be_used_at_the_start_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error: OpenError = Access::file(folder.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "# nobody\n").unwrap();
    let error = Access::file(empty).unwrap_err().to_string();
    assert!(error.contains("no token is given"), "{error}");
    let error = Tls::open(files(&folder, false), Use::Calls)
        .unwrap_err()
        .to_string();
    assert!(error.contains("tls.crt"), "{error}");
}
