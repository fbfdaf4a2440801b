//! The cluster that a user lends, and the programs that are used on it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use tokio::process::Command;
use tunnel_registry::resources::TunnelEndpoint;

use crate::kube::tools::{self, say};
use crate::process::output;

/// Names a kubeconfig of a cluster in which pods run, with all rights. The tests
/// make namespaces and the chart's cluster-wide objects in it, and take them away.
/// This machine must reach its pods and Services.
const KUBECONFIG: &str = "E2E_KUBECONFIG";
/// A command that brings an image archive, its last argument, onto its nodes, such
/// as `kind load image-archive`.
const LOAD: &str = "E2E_LOAD";
/// Names an image of gost v3 that the nodes have, or can pull.
const GOST: &str = "E2E_GOST_IMAGE";

/// Nothing in a cluster takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(180);

static SKIPPED: Once = Once::new();

/// A cluster in which pods run.
pub struct Site {
    pub client: Client,
    kubeconfig: PathBuf,
    load: Vec<OsString>,
    helm: PathBuf,
    /// The image of the real gost.
    pub gost: String,
}

impl Site {
    /// None, and a line that says what to set, if nobody lends a cluster.
    pub async fn find() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let (Some(kubeconfig), Some(load), Some(gost)) =
            (variable(KUBECONFIG), variable(LOAD), variable(GOST))
        else {
            SKIPPED.call_once(|| {
                say(&format!(
                    "SKIPPED: every test `whole::…`: name a cluster with {KUBECONFIG}, a command that loads images into it with {LOAD}, and an image of gost with {GOST}"
                ));
            });
            return None;
        };
        let kubeconfig = PathBuf::from(kubeconfig);
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(read, &options)
            .await
            .unwrap();
        let load = load.into_string().unwrap();
        Some(Self {
            client: tunnel_registry::kubernetes::client(config).unwrap(),
            kubeconfig,
            load: load.split_whitespace().map(Into::into).collect(),
            helm: tools::helm().unwrap(),
            gost: gost.into_string().unwrap(),
        })
    }

    /// Brings an image archive onto the nodes.
    pub async fn load(&self, archive: &Path) {
        let (program, arguments) = self.load.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(arguments).arg(archive);
        output(&mut command, PATIENCE).await.unwrap();
    }

    /// Runs Helm; the result is what it printed.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.helm);
        command
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        output(&mut command, PATIENCE).await
    }

    /// Runs kubectl; the result is what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        output(&mut command, PATIENCE).await
    }

    /// The registrations in a namespace.
    pub fn endpoints(&self, namespace: &str) -> Api<TunnelEndpoint> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
