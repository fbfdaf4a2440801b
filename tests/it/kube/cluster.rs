//! An etcd and a kube-apiserver, with RBAC, on free ports of the loopback: one
//! pair for the whole test program, and pairs that a test may break.

use std::error::Error;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use rustix::process::Signal;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};
use tunnel_registry::resources;
use tunnel_registry::time::Now;

use super::ports::Port;
use super::program::Program;
use super::site::Site;
use super::supervisor::Supervised;
use super::tools::{Tools, say};

/// Both programs start in some 4 s on an idle machine; a build beside them
/// makes that many times as much.
const START: Duration = Duration::from_secs(180);

/// How often something that has no other way to tell is asked.
const POLL: Duration = Duration::from_millis(50);

/// A program that a test may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Etcd,
    ApiServer,
}

/// A running API server with the product's definitions. Its programs end with
/// the test program, however that ends, and when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    pub site: Arc<Site>,
    etcd: Program,
    api: Program,
    _ports: [Port; 3],
    /// Lasts, so that the folder goes even when a test has ended the others.
    _keeper: Supervised,
}

/// The cluster that tests share which break nothing. Never dropped: the
/// supervisors end its programs when the test program has ended.
pub async fn common() -> &'static Cluster {
    static COMMON: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
    match COMMON.get_or_init(Cluster::start).await {
        Ok(cluster) => cluster,
        Err(error) => panic!("no API server: {error}"),
    }
}

/// A cluster that one test at a time may break, and the next finds mended.
pub async fn lent() -> Lent {
    static LENT: Mutex<Option<Cluster>> = Mutex::const_new(None);
    let mut lent = LENT.lock().await;
    if let Some(cluster) = &mut *lent
        && let Err(error) = cluster.mend().await
    {
        say(&format!("a new API server: the last one has gone: {error}"));
        *lent = None;
    }
    if lent.is_none() {
        *lent = Some(Cluster::own().await);
    }
    Lent(lent)
}

/// A cluster on loan until this is dropped.
pub struct Lent(MutexGuard<'static, Option<Cluster>>);

impl Deref for Lent {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("there is a cluster")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().expect("there is a cluster")
    }
}

impl Cluster {
    /// A cluster of a test's own, which takes some seconds.
    pub async fn own() -> Self {
        match Self::start().await {
            Ok(cluster) => cluster,
            Err(error) => panic!("no API server: {error}"),
        }
    }

    async fn start() -> Result<Self, String> {
        let tools = spawn_blocking(Tools::get).await;
        let tools = tools.map_err(|error| error.to_string())??;
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
        let keeper = Supervised::start(folder, &folder.join("keeper.log"), KEEPER)?;
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [etcd, peers, api] = [0, 1, 2].map(|n: usize| ports[n].number);
        let site = Site::make(folder, api)?;
        let mut cluster = Self {
            site: Arc::new(site),
            etcd: Program::start(&tools.etcd, etcd_arguments(etcd, peers), folder)?,
            api: Program::start(&tools.kube_apiserver, api_arguments(etcd, api), folder)?,
            _ports: ports,
            _keeper: keeper,
        };
        cluster.wait_for("/readyz").await?;
        cluster.define().await?;
        cluster.wait_for(ENDPOINTS).await?;
        Ok(cluster)
    }

    /// One of the programs stands still when this returns.
    pub async fn freeze(&mut self, part: Part) {
        self.program(part).freeze().await;
    }

    /// Goes on after [`Cluster::freeze`].
    pub fn thaw(&mut self, part: Part) {
        self.program(part).signal(Signal::CONT).unwrap();
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// etcd does not wait for the disk here. What it wrote is with the kernel
    /// all the same, so a killed etcd has lost nothing when it is run again.
    pub async fn kill(&mut self, part: Part) {
        self.program(part).end(Signal::KILL).await;
    }

    /// `SIGTERM`, and waits until it has ended: the API server takes a second,
    /// etcd seven. Without etcd the API server does not end so in any useful
    /// time; kill it then.
    pub async fn stop(&mut self, part: Part) {
        self.program(part).end(Signal::TERM).await;
    }

    /// Starts what was ended, on the same port with the same data; waits for
    /// nothing.
    pub fn run(&mut self, part: Part) {
        self.program(part).run().unwrap();
    }

    /// Waits until both programs are ready and serve endpoints.
    pub async fn ready(&mut self) {
        if let Err(error) = self.wait().await {
            panic!("no API server: {error}");
        }
    }

    async fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        self.wait_for("/readyz").await?;
        self.wait_for(ENDPOINTS).await
    }

    /// Undoes whatever was done to the programs.
    async fn mend(&mut self) -> Result<(), Box<dyn Error>> {
        self.etcd.signal(Signal::CONT)?;
        if !self.etcd.runs()? {
            // An API server that has yet to notice would lose its caches later.
            self.kill(Part::ApiServer).await;
        }
        self.etcd.run()?;
        self.api.signal(Signal::CONT)?;
        self.api.run()?;
        self.wait().await
    }

    fn program(&mut self, part: Part) -> &mut Program {
        match part {
            Part::Etcd => &mut self.etcd,
            Part::ApiServer => &mut self.api,
        }
    }

    /// Waits until the API server answers this.
    async fn wait_for(&mut self, path: &str) -> Result<(), Box<dyn Error>> {
        let client = self.site.admin().await?;
        let ready = async {
            let mut polls = interval(POLL);
            loop {
                polls.tick().await;
                for program in [&mut self.etcd, &mut self.api] {
                    if let Some(status) = program.ended()? {
                        return Err(format!("a program ended: {status}").into());
                    }
                }
                let request = http::Request::get(path).body(Vec::new())?;
                if client.request_text(request).await.is_ok() {
                    return Ok(());
                }
            }
        };
        let error = match timeout(START, ready).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => Box::<dyn Error>::from(format!("{path} was not answered within {START:?}")),
        };
        let (etcd, api) = (self.etcd.tail(), self.api.tail());
        Err(format!("{error}\netcd said:\n{etcd}\nkube-apiserver said:\n{api}").into())
    }

    /// Gives the API server the product's definitions.
    async fn define(&self) -> Result<(), Box<dyn Error>> {
        let definitions = Api::<CustomResourceDefinition>::all(self.site.admin().await?);
        let apply = PatchParams::apply("tests");
        for definition in resources::definitions() {
            let name = definition.name_any();
            let patch = Patch::Apply(definition);
            definitions.patch(&name, &apply, &patch).await?;
            let established = async {
                let mut polls = interval(POLL);
                loop {
                    polls.tick().await;
                    let definition = definitions.get(&name).await?;
                    if condition(&definition, "Established").as_deref() == Some("True") {
                        return Ok::<(), kube::Error>(());
                    }
                }
            };
            timeout(START, established).await??;
        }
        Ok(())
    }
}

/// The status of a definition's condition.
pub fn condition(definition: &CustomResourceDefinition, type_: &str) -> Option<String> {
    let conditions = definition.status.as_ref()?.conditions.as_ref()?;
    let mut found = conditions.iter().filter(|one| one.type_ == type_);
    found.next().map(|one| one.status.clone())
}

/// Ready or not, the API server serves a custom resource only when its cache is
/// filled, which begins with the first request: until then it answers 429.
const ENDPOINTS: &str = "/apis/tunnelregistry.io/v1alpha1/tunnelendpoints?limit=1";

/// Lasts longer than any test.
const KEEPER: &[&str] = &["sleep", "1000000"];

fn etcd_arguments(port: u16, peers: u16) -> Vec<String> {
    let (url, peers) = (local(port), local(peers));
    vec![
        "--data-dir=etcd".into(),
        "--unsafe-no-fsync".into(),
        "--socket-reuse-port".into(),
        "--log-level=warn".into(),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ]
}

fn api_arguments(etcd: u16, port: u16) -> Vec<String> {
    vec![
        format!("--etcd-servers={}", local(etcd)),
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
        "--audit-policy-file=audit-policy.yaml".into(),
        "--audit-log-path=audit.log".into(),
        // In one file: 0 is no rotation.
        "--audit-log-maxsize=0".into(),
        "--profiling=false".into(),
    ]
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
