//! One etcd and one kube-apiserver for the whole test program, with RBAC, on
//! free ports of the loopback.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::client::ConfigExt as _;
use kube::config::KubeConfigOptions;
use kube::{Client, Config, CustomResourceExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Builder;
use tokio::time::{interval, timeout};
use tower::{BoxError, ServiceBuilder};
use tunnel_registry::resources::TunnelEndpoint;
use tunnel_registry::time::Now;

use super::supervisor::Supervised;
use super::tools::{Tools, say};

/// Both programs start in some 4 s on an idle machine; a build beside them
/// makes that many times as much.
const START: Duration = Duration::from_secs(180);

/// How often something that has no other way to tell is asked.
const POLL: Duration = Duration::from_millis(50);

/// The longest that a call may take until it is answered.
const CALL: Duration = Duration::from_secs(30);

/// The token of the administrator. It is worth something on the loopback of
/// one machine while a test runs.
const ADMIN: &str = "admin-of-the-tests";

static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();

/// A running API server with the product's definitions. Never dropped: the
/// supervisors end its programs when the test program has ended.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: Value,
    folder: PathBuf,
    programs: [Supervised; 2],
    _ports: [Port; 3],
}

/// A namespace of a test's own, and a client that is allowed everything.
pub struct Env {
    pub client: Client,
    pub namespace: String,
}

impl Env {
    /// Starts the API server unless that has been done, and makes a namespace.
    pub async fn start() -> Self {
        let client = Cluster::get().client().await.unwrap();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let namespace = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let object = serde_json::json!({ "metadata": { "name": namespace } });
        let object: Namespace = serde_json::from_value(object).unwrap();
        let namespaces = Api::<Namespace>::all(client.clone());
        let create = PostParams::default();
        namespaces.create(&create, &object).await.unwrap();
        Self { client, namespace }
    }

    /// The endpoints of the test's namespace.
    pub fn endpoints(&self) -> Api<TunnelEndpoint> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A file that lets kubectl do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        Cluster::get().folder.join("kubeconfig")
    }
}

impl Cluster {
    fn get() -> &'static Self {
        let start = || {
            // A runtime of its own: a test's is busy running the test.
            let start = thread::spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                runtime.block_on(Self::start())
            });
            start.join().unwrap_or_else(|_| Err("it panicked".into()))
        };
        match CLUSTER.get_or_init(start) {
            Ok(cluster) => cluster,
            Err(error) => panic!("no API server: {error}"),
        }
    }

    async fn start() -> Result<Self, String> {
        let tools = Tools::get()?;
        let begun = Now::read().mono;
        // The supervisors remove it in the end.
        let folder = tempfile::tempdir()
            .map_err(|error| error.to_string())?
            .keep();
        let started = Self::start_in(&folder, &tools).await;
        let cluster = started.map_err(|error| {
            // Where it could not even be made there is nothing to remove.
            let _ = fs::remove_dir_all(&folder);
            error.to_string()
        })?;
        let took = Now::read().mono.duration_since(begun).as_secs_f64();
        say(&format!("kube-apiserver: ready in {took:.1} s"));
        Ok(cluster)
    }

    async fn start_in(folder: &Path, tools: &Tools) -> Result<Self, Box<dyn Error>> {
        let [etcd, peers, api] = [reserve()?, reserve()?, reserve()?];
        write_secrets(folder)?;
        let kubeconfig = kubeconfig(folder, api.port);
        fs::write(folder.join("kubeconfig"), kubeconfig.to_string())?;
        let etcd_url = format!("http://127.0.0.1:{}", etcd.port);
        let arguments = etcd_arguments(&etcd_url, peers.port);
        let etcd_log = folder.join("etcd.log");
        let etcd_program = start(&tools.etcd, &arguments, folder, &etcd_log)?;
        let arguments = api_arguments(&etcd_url, api.port);
        let api_log = folder.join("kube-apiserver.log");
        let api_program = start(&tools.kube_apiserver, &arguments, folder, &api_log)?;
        let mut cluster = Self {
            kubeconfig,
            folder: folder.into(),
            programs: [etcd_program, api_program],
            _ports: [etcd, peers, api],
        };
        match timeout(START, cluster.prepare()).await {
            Ok(Ok(())) => return Ok(cluster),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("it was not ready within {START:?}").into()),
        }
        .map_err(|error| {
            let (etcd, api) = (tail(&etcd_log), tail(&api_log));
            format!("{error}\netcd said:\n{etcd}\nkube-apiserver said:\n{api}").into()
        })
    }

    /// Waits until the API server is ready, and gives it the product's
    /// definitions.
    async fn prepare(&mut self) -> Result<(), Box<dyn Error>> {
        let client = self.client().await?;
        let mut polls = interval(POLL);
        loop {
            polls.tick().await;
            for program in &mut self.programs {
                if let Some(status) = program.ended()? {
                    return Err(format!("a program ended: {status}").into());
                }
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                break;
            }
        }
        let definitions = Api::<CustomResourceDefinition>::all(client);
        let name = TunnelEndpoint::crd_name();
        let apply = PatchParams::apply("tests");
        let patch = Patch::Apply(TunnelEndpoint::crd());
        definitions.patch(name, &apply, &patch).await?;
        loop {
            polls.tick().await;
            let definition = definitions.get(name).await?;
            if condition(&definition, "Established").as_deref() == Some("True") {
                return Ok(());
            }
        }
    }

    /// A client belongs to the runtime in which it was made, so each test makes
    /// its own.
    async fn client(&self) -> Result<Client, Box<dyn Error>> {
        let kubeconfig = serde_json::from_value(self.kubeconfig.clone())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        let mut authorities = RootCertStore::empty();
        authorities.add(CertificateDer::from_pem_file(self.folder.join("ca.crt"))?)?;
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
}

/// The status of a definition's condition.
pub fn condition(definition: &CustomResourceDefinition, type_: &str) -> Option<String> {
    let conditions = definition.status.as_ref()?.conditions.as_ref()?;
    let mut found = conditions.iter().filter(|one| one.type_ == type_);
    found.next().map(|one| one.status.clone())
}

fn start(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    log: &Path,
) -> io::Result<Supervised> {
    let (place, program) = (folder.display().to_string(), program.display().to_string());
    // The paths among the arguments are relative to the folder.
    let mut command = vec!["env", "-C", place.as_str(), program.as_str()];
    command.extend(arguments.iter().map(String::as_str));
    Supervised::start(folder, log, &command)
}

fn etcd_arguments(url: &str, peers: u16) -> Vec<String> {
    vec![
        "--data-dir=etcd".into(),
        "--unsafe-no-fsync".into(),
        "--socket-reuse-port".into(),
        "--log-level=warn".into(),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
    ]
}

fn api_arguments(etcd: &str, port: u16) -> Vec<String> {
    vec![
        format!("--etcd-servers={etcd}"),
        format!("--secure-port={port}"),
        "--permit-port-sharing=true".into(),
        "--bind-address=127.0.0.1".into(),
        "--endpoint-reconciler-type=none".into(),
        "--service-cluster-ip-range=10.96.0.0/24".into(),
        "--tls-cert-file=server.crt".into(),
        "--tls-private-key-file=server.key".into(),
        "--token-auth-file=tokens.csv".into(),
        "--authorization-mode=RBAC".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--service-account-key-file=accounts.pub".into(),
        "--service-account-signing-key-file=accounts.key".into(),
        // No controller manager makes the accounts that it asks for.
        "--disable-admission-plugins=ServiceAccount".into(),
        "--profiling=false".into(),
    ]
}

/// A port that nobody else is given: this socket is bound to it but does not
/// listen, and the program that listens shares it.
#[derive(Debug)]
struct Port {
    port: u16,
    _socket: Socket,
}

fn reserve() -> io::Result<Port> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let port = address.map(|address| address.port());
    Ok(Port {
        port: port.ok_or_else(|| io::Error::other("a socket without a port"))?,
        _socket: socket,
    })
}

/// The certificates, the key that signs tokens of service accounts, and the
/// administrator's token.
fn write_secrets(folder: &Path) -> Result<(), Box<dyn Error>> {
    let write = |name: &str, text: String| fs::write(folder.join(name), text);
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

fn kubeconfig(folder: &Path, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": folder.join("ca.crt"),
        } }],
        "users": [{ "name": "admin", "user": { "token": ADMIN } }],
        "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "admin" } }],
        "current-context": "tests",
    })
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
