//! Helm, with nothing of the user's own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::spawn_blocking;

use crate::kube::env::Env;
use crate::kube::rights::objects;
use crate::kube::tools;
use crate::process::output;

/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tunnel-registry");

/// The version that the tests' API server is of: without a cluster Helm takes
/// that of its own libraries, which is newer.
pub const KUBERNETES: &str = "v1.36.3";

/// Every release has this name; its objects have names that begin with it, or
/// that its values give.
pub const RELEASE: &str = "tunnels";

/// An `install` makes some twenty requests.
const PATIENCE: Duration = Duration::from_secs(120);

/// Helm with a home, and maybe a cluster, of its own.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Helm {
    /// Without a cluster; objects are made for this namespace.
    ///
    /// # Panics
    /// When there is no Helm and it cannot be built.
    pub async fn offline(namespace: &str) -> Self {
        let program = spawn_blocking(tools::helm).await.unwrap();
        Self {
            program: program.unwrap_or_else(|error| panic!("no Helm: {error}")),
            home: tempfile::tempdir().unwrap(),
            kubeconfig: "no-cluster".into(),
            namespace: namespace.into(),
        }
    }

    /// In the namespace of a test.
    pub async fn of(env: &Env) -> Self {
        Self {
            kubeconfig: env.kubeconfig(),
            ..Self::offline(&env.namespace).await
        }
    }

    /// Runs it: what it printed, or what it said was wrong.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_NAMESPACE", &self.namespace)
            .current_dir(self.home.path());
        output(&mut command, PATIENCE).await
    }

    /// Renders the chart with a file of values.
    pub async fn template(&self, values: &Path) -> Result<Vec<Value>, String> {
        self.template_as(RELEASE, values).await
    }

    /// [`Helm::template`], of a release with another name.
    pub async fn template_as(&self, release: &str, values: &Path) -> Result<Vec<Value>, String> {
        let template = ["template", release, CHART, "--kube-version", KUBERNETES];
        let values = ["--values", values.to_str().unwrap()];
        let printed = self.run(template.into_iter().chain(values)).await?;
        Ok(parsed(&printed))
    }
}

/// The objects of what Helm printed, without the empty documents that a template
/// leaves which renders nothing.
pub fn parsed(text: &str) -> Vec<Value> {
    let mut objects = objects(text);
    objects.retain(|object| !object.is_null());
    objects
}
