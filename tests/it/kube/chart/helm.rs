//! Helm, with nothing of the user's own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::kube::env::Env;
use crate::kube::rights::objects;
use crate::kube::tools;

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
        let output = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_NAMESPACE", &self.namespace)
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(PATIENCE, output).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            // What is wrong with a chart is told on either.
            false => Err(text([output.stdout, output.stderr].concat())),
        }
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
