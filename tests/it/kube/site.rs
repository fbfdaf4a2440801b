//! Where an API server is, and how one gets in: certificates, tokens,
//! kubeconfigs, clients.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder};

/// The longest that a call may take until it is answered.
const CALL: Duration = Duration::from_secs(30);

/// The token of the administrator. It is worth something on the loopback of
/// one machine while a test runs.
const ADMIN: &str = "admin-of-the-tests";

/// What the API server writes down: who did what, not with which content, of
/// the accounts of services. A watch is written down when it is answered, and
/// once more when it ends.
const AUDIT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ['system:serviceaccounts']
  - level: None
";

/// An API server's address, and the folder with its files.
#[derive(Debug)]
pub struct Site {
    pub folder: PathBuf,
    pub address: SocketAddr,
}

impl Site {
    /// Writes what an API server on this port needs, and the administrator's
    /// kubeconfig.
    pub fn make(folder: &Path, port: u16) -> Result<Self, Box<dyn Error>> {
        write_secrets(folder)?;
        fs::write(folder.join("audit-policy.yaml"), AUDIT)?;
        let site = Self {
            folder: folder.into(),
            address: (Ipv4Addr::LOCALHOST, port).into(),
        };
        let kubeconfig = site.kubeconfig(ADMIN, "default", site.address);
        write_private(&site.admin_kubeconfig(), &kubeconfig.to_string())?;
        Ok(site)
    }

    /// A file that lets kubectl do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// What the API server wrote down of the accounts of services.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Writes a kubeconfig of its own for the bearer of a token.
    pub fn write_kubeconfig(
        &self,
        name: &str,
        token: &str,
        namespace: &str,
        server: SocketAddr,
    ) -> PathBuf {
        let path = self.folder.join(format!("kubeconfig-{name}"));
        let kubeconfig = self.kubeconfig(token, namespace, server);
        write_private(&path, &kubeconfig.to_string()).unwrap();
        path
    }

    fn kubeconfig(&self, token: &str, namespace: &str, server: SocketAddr) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "tests", "cluster": {
                "server": format!("https://{server}"),
                "certificate-authority": self.folder.join("ca.crt"),
            } }],
            "users": [{ "name": "user", "user": { "token": token } }],
            "contexts": [{ "name": "tests", "context": {
                "cluster": "tests", "user": "user", "namespace": namespace,
            } }],
            "current-context": "tests",
        })
    }

    /// The administrator's client. It belongs to the runtime in which it was
    /// made, so each test makes its own.
    pub async fn admin(&self) -> Result<Client, Box<dyn Error>> {
        client(&self.admin_kubeconfig()).await
    }
}

/// A client as a kubeconfig says.
pub async fn client(kubeconfig: &Path) -> Result<Client, Box<dyn Error>> {
    let kubeconfig: Value = serde_json::from_str(&fs::read_to_string(kubeconfig)?)?;
    let authority = &kubeconfig["clusters"][0]["cluster"]["certificate-authority"];
    let authority = authority.as_str().unwrap_or_default().to_owned();
    let options = KubeConfigOptions::default();
    let config =
        Config::from_custom_kubeconfig(serde_json::from_value(kubeconfig)?, &options).await?;
    let mut authorities = RootCertStore::empty();
    authorities.add(CertificateDer::from_pem_file(authority)?)?;
    let tls = ClientConfig::builder()
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .build();
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .timeout(CALL)
        .map_err(BoxError::from)
        .service(http.build(connector));
    Ok(Client::new(service, config.default_namespace))
}

/// The certificates, the key that signs tokens of service accounts, and the
/// administrator's token.
fn write_secrets(folder: &Path) -> Result<(), Box<dyn Error>> {
    let write = |name: &str, text: String| write_private(&folder.join(name), &text);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?;
    write("ca.crt", authority.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let names = ["127.0.0.1".into(), "localhost".into()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    write("server.crt", certificate.pem())?;
    write("server.key", key.serialize_pem())?;
    let accounts = KeyPair::generate()?;
    write("accounts.key", accounts.serialize_pem())?;
    write("accounts.pub", accounts.public_key_pem())?;
    write("tokens.csv", format!("{ADMIN},admin,1,system:masters\n"))?;
    Ok(())
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}
