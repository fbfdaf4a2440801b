//! An etcd that asks who is there: for a user and a password, and for
//! certificates.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tunnel_registry::backend::etcd::{Etcd, OpenError, Settings, TlsFiles, User};
use tunnel_registry::backend::{Backend as _, Write, WriteError};

use super::product::Product;
use super::server::{Server, file};
use crate::contract::{Following, record, replica};
use crate::process::{folder, until};

fn unavailable<T: std::fmt::Debug>(result: Result<T, WriteError>) -> String {
    match result {
        Err(WriteError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// An etcd with a user that may use `prefix`, and one that may nothing.
async fn with_users(prefix: &str) -> Server {
    let server = Server::start_with(1, "--bcrypt-cost=4").await;
    let (key, mut end) = (prefix.as_bytes().to_vec(), prefix.as_bytes().to_vec());
    *end.last_mut().unwrap() += 1;
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let permission =
        json!({ "permType": "READWRITE", "key": base64(&key), "range_end": base64(&end) });
    for (path, request) in [
        ("auth/role/add", json!({ "name": "root" })),
        ("auth/role/add", json!({ "name": "registry" })),
        (
            "auth/role/grant",
            json!({ "name": "registry", "perm": permission }),
        ),
        (
            "auth/user/add",
            json!({ "name": "root", "password": "root" }),
        ),
        (
            "auth/user/add",
            json!({ "name": "registry", "password": "one" }),
        ),
        (
            "auth/user/add",
            json!({ "name": "nobody", "password": "none" }),
        ),
        ("auth/user/grant", json!({ "user": "root", "role": "root" })),
        (
            "auth/user/grant",
            json!({ "user": "registry", "role": "registry" }),
        ),
        ("auth/enable", json!({})),
    ] {
        server.ask(path, request).await;
    }
    server
}

fn user(folder: &TempDir, name: &str, password: &str) -> User {
    User {
        name: name.into(),
        password_file: file(folder.path(), name, password),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_may_what_its_role_grants() {
    let folder = folder();
    let mut settings = super::server::common().await.settings();
    let mut server = with_users(&settings.prefix).await;
    settings.urls = vec![server.members[0].url().parse().unwrap()];
    let open = async |user: Option<User>| {
        let settings = Settings {
            user,
            ..settings.clone()
        };
        Etcd::open(settings).await.unwrap()
    };
    for (user, mend) in [
        (None, "--etcd-user"),
        (
            Some(user(&folder, "registry", "two")),
            "--etcd-password-file",
        ),
        (
            Some(user(&folder, "nobody", "none")),
            "role grant-permission",
        ),
    ] {
        let store = open(user).await;
        for result in [
            store.ping().await,
            store
                .write(Write::Create(record("t", "c", 1)))
                .await
                .map(drop),
        ] {
            let why = unavailable(result);
            assert!(why.contains(mend), "{why}");
        }
        let mut watch = store.watch();
        tokio::select! {
            told = futures::StreamExt::next(&mut watch) => panic!("{told:?}"),
            why = until("the watch is refused", async || store.trouble()) => {
                assert!(why.contains(mend), "{why}");
            }
        }
    }

    let store = open(Some(user(&folder, "registry", "one\n"))).await;
    let mut watch = Following::begin(&store, store.watch()).await;
    let [a, b] = ["a", "b"].map(|name| record("t", name, 1));
    store.write(Write::Create(a.clone())).await.unwrap();
    store.write(Write::Create(replica("r", 1))).await.unwrap();
    watch.change().await;
    watch.change().await;

    // It forgets the tokens that it gave; the password is another one.
    let root = json!({ "name": "root", "password": "root" });
    let root = server.ask("auth/authenticate", root).await;
    let changed = json!({ "name": "registry", "password": "three" });
    let token = root["token"].as_str();
    let changed = server.members[0].ask_as(token, "auth/user/changepw", changed);
    changed.await.unwrap();
    user(&folder, "registry", "three");
    server.members[0].kill().await;
    server.members[0].run();
    until("it is stored", async || {
        store.write(Write::Create(b.clone())).await
    })
    .await;
    watch.change().await;
    assert_eq!(watch.all.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_of_no_use_where_nobody_is_asked() {
    let folder = folder();
    let settings = Settings {
        user: Some(user(&folder, "registry", "x")),
        ..super::server::common().await.settings()
    };
    let store = Etcd::open(settings.clone()).await.unwrap();
    store.ping().await.unwrap();
    fs::remove_file(folder.path().join("registry")).unwrap();
    let error = Etcd::open(settings).await.unwrap_err();
    assert!(matches!(error, OpenError::Password(_)), "{error}");
}

/// An authority, which signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes a certificate for the loopback and its key to files.
    fn sign(&self, folder: &Path, name: &str) {
        let params = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()]);
        let key = KeyPair::generate().unwrap();
        let certificate = params.unwrap().signed_by(&key, &self.issuer).unwrap();
        file(folder, &format!("{name}.crt"), &certificate.pem());
        file(folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_on_both_sides() {
    let folder = folder();
    let [ours, theirs] = [Authority::new(), Authority::new()];
    let server = Server::start_with_tls(|folder| {
        ours.sign(folder, "server");
        file(folder, "ca.crt", &ours.pem);
        let flags = "--cert-file=server.crt --key-file=server.key --trusted-ca-file=ca.crt --client-cert-auth";
        flags.split_whitespace().map(Into::into).collect()
    })
    .await;
    let path = |name: &str| folder.path().join(name);
    file(folder.path(), "ours.pem", &ours.pem);
    file(folder.path(), "theirs.pem", &theirs.pem);
    let identity = Some((path("client.crt"), path("client.key")));
    let open = async |ca: &str, identity| {
        let settings = Settings {
            tls: TlsFiles {
                ca: Some(path(ca)),
                identity,
            },
            ..server.settings()
        };
        Etcd::open(settings).await
    };
    let error = open("ours.pem", identity.clone()).await.unwrap_err();
    assert!(error.to_string().contains("--etcd-cert-file"), "{error}");
    theirs.sign(folder.path(), "client");
    let store = open("ours.pem", identity.clone()).await.unwrap();
    let stranger = open("ours.pem", None).await.unwrap();
    let deceived = open("theirs.pem", identity).await.unwrap();
    // It may not have begun to listen.
    until("etcd's certificate is refused", async || {
        let why = unavailable(deceived.ping().await);
        match why.contains("invalid peer certificate") {
            true => Ok(()),
            false => Err(why),
        }
    })
    .await;
    unavailable(stranger.ping().await);
    unavailable(store.ping().await);

    // A certificate that was renewed is used without a restart.
    ours.sign(folder.path(), "client");
    until("etcd takes the certificate", async || store.ping().await).await;
    let mut watch = Following::begin(&store, store.watch()).await;
    let record = record("t", "c", 1);
    store.write(Write::Create(record)).await.unwrap();
    watch.change().await;
    unavailable(stranger.ping().await);

    let product = Product::new(&server);
    let [ca, certificate, key] = ["ours.pem", "client.crt", "client.key"].map(path);
    let flags = format!(
        "--etcd-ca-file {} --etcd-cert-file {} --etcd-key-file {}",
        ca.display(),
        certificate.display(),
        key.display()
    );
    product.replica(1).flags(&flags).start().await.stop().await;
}
