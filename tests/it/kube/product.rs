//! The product in a test's namespace: replicas and controllers side by side, as
//! processes, with the rights that they ship with.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::StatusCode;
use rustix::process::Signal;
use tempfile::TempDir;

use super::accounts::Account;
use super::env::Env;
use super::proxy::Proxy;
use crate::process::{Net, Process, Setup, command, fetch, folder, value};

/// The first host of the controllers; the replicas are below.
const CONTROLLERS: u8 = 200;

/// Where the product runs.
pub struct Product<'a> {
    env: &'a Env,
    /// The n-th replica is on the n-th host.
    pub net: Net,
    folder: TempDir,
}

impl<'a> Product<'a> {
    pub fn new(env: &'a Env) -> Self {
        Self {
            env,
            net: Net::take(),
            folder: folder(),
        }
    }

    /// How the n-th replica is started, from 1 to 199.
    pub async fn replica(&self, n: u8) -> Setup {
        let kubeconfig = self.env.kubeconfig_of(Account::Plugin).await;
        self.replica_with(n, kubeconfig)
    }

    /// How the n-th replica is started, with a network of its own before the
    /// API server.
    pub async fn replica_through(&self, n: u8, proxy: &Proxy) -> Setup {
        let of = Account::Plugin;
        let kubeconfig = self.env.kubeconfig_through(of, proxy.address).await;
        self.replica_with(n, kubeconfig)
    }

    /// How the n-th replica is started, with the rights of whom a kubeconfig names.
    pub fn replica_with(&self, n: u8, kubeconfig: PathBuf) -> Setup {
        assert!(n < CONTROLLERS);
        let mut setup = Setup::new(self.net, self.folder.path());
        setup.listen = self.net.at(n, 8000);
        setup.admin = self.net.at(n, 8090);
        setup.store = Some("kubernetes".into());
        setup.environment.push(("KUBECONFIG", kubeconfig.into()));
        setup
    }

    /// How the n-th controller is started, from 0 to 55.
    pub async fn controller(&self, n: u8) -> ControllerSetup {
        let kubeconfig = self.env.kubeconfig_of(Account::Controller).await;
        self.controller_with(n, kubeconfig)
    }

    /// How the n-th controller is started, with a network of its own before the
    /// API server.
    pub async fn controller_through(&self, n: u8, proxy: &Proxy) -> ControllerSetup {
        let of = Account::Controller;
        let kubeconfig = self.env.kubeconfig_through(of, proxy.address).await;
        self.controller_with(n, kubeconfig)
    }

    fn controller_with(&self, n: u8, kubeconfig: PathBuf) -> ControllerSetup {
        ControllerSetup {
            command: "controller",
            admin: self.net.at(CONTROLLERS + n, 8090),
            arguments: vec!["--namespace".into(), self.env.namespace.clone()],
            environment: vec![("KUBECONFIG", kubeconfig.into())],
            folder: self.folder.path().into(),
        }
    }
}

/// How a controller is started.
#[derive(Clone, Debug)]
pub struct ControllerSetup {
    command: &'static str,
    pub admin: SocketAddr,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, OsString)>,
    folder: PathBuf,
}

impl ControllerSetup {
    /// With further flags, as they are typed.
    pub fn flags(mut self, flags: &str) -> Self {
        let words = flags.split_whitespace().map(Into::into);
        self.arguments.extend(words);
        self
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> Controller {
        let log = format!("controller-{}.log", self.admin);
        let mut command = command(&self.folder, &[]);
        command
            .arg(self.command)
            .arg(format!("--admin-listen={}", self.admin))
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        Controller {
            process: Process::start(&mut command, self.folder.join(log)),
            setup: self.clone(),
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Controller {
        let mut controller = self.spawn();
        controller.process.ready(self.admin).await;
        controller
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    pub process: Process,
    pub setup: ControllerSetup,
}

impl Controller {
    /// What the admin port answers.
    pub async fn admin(&self, path: &str) -> (StatusCode, String) {
        fetch(self.setup.admin, path).await.unwrap()
    }

    /// A metric's value, by its name and labels as they are printed.
    pub async fn metric(&self, metric: &str) -> u64 {
        let (_, text) = self.admin("/metrics").await;
        value(&text, metric)
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> ControllerSetup {
        self.process.kill().await;
        self.setup
    }

    /// `SIGTERM`; it must end in order.
    pub async fn stop(mut self) -> ControllerSetup {
        self.process.signal(Signal::TERM);
        let status = self.process.ended().await;
        assert!(status.success(), "{status}: {}", self.process.said());
        self.setup
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testenv::{Http, service};

    #[tokio::test]
    async fn replicas_run_side_by_side() {
        let env = Env::start().await;
        let product = Product::new(&env);
        let proxy = Proxy::start(env.site.address).await;
        let mut setups = [
            product.replica(1).await,
            product.replica_through(2, &proxy).await,
        ];
        for setup in &mut setups {
            let (name, kubeconfig) = &setup.environment[0];
            assert_eq!(*name, "KUBECONFIG");
            assert!(PathBuf::from(kubeconfig).is_file());
            setup.store = Some("memory".into());
        }
        let [first, second] = [setups[0].start().await, setups[1].start().await];
        let stream = tokio::net::TcpStream::connect(first.setup.listen).await;
        let body = service("tcp", "192.0.2.1:80");
        let answer = Http(stream.unwrap()).send("POST", "/sd", &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        // Who is frozen answers later.
        first.process.freeze().await;
        second.kill().await.start().await.stop().await;
        let rows = async { first.rows().await.len() };
        let thaw = async { first.process.thaw() };
        assert_eq!(tokio::join!(rows, thaw).0, 1);
        first.stop().await;
    }

    #[tokio::test]
    async fn controllers_run_side_by_side() {
        let env = Env::start().await;
        let product = Product::new(&env);
        let proxy = Proxy::start(env.site.address).await;
        for (n, setup) in [
            product.controller(0).await,
            product.controller_through(1, &proxy).await,
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(setup.arguments, ["--namespace", &env.namespace]);
            // Any process with an admin port will do.
            let mut setup = setup.clone();
            setup.command = "serve";
            setup.arguments.clear();
            let listen = product.net.at(CONTROLLERS + u8::try_from(n).unwrap(), 8000);
            let setup = setup.flags(&format!("--store memory --listen {listen}"));
            let controller = setup.start().await;
            assert_eq!(controller.admin("/livez").await.0, StatusCode::OK);
            assert_eq!(
                controller
                    .metric("tunnel_registry_endpoints_restored_total")
                    .await,
                0
            );
            controller.kill().await.start().await.stop().await;
        }
    }
}
