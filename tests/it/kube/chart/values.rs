//! The sets of values that the chart is tried with: the files in its `ci/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::helm::{CHART, Helm};

/// The namespace of everything that is rendered and never stored.
pub const NAMESPACE: &str = "rendered";

/// What may have fields of any name: Kubernetes' own types, labels, and what is
/// passed on to gost.
const OPEN: [&str; 18] = [
    "affinity",
    "alertLabels",
    "annotations",
    "commonAnnotations",
    "commonLabels",
    "config",
    "handler",
    "labels",
    "listener",
    "livenessProbe",
    "podAnnotations",
    "podLabels",
    "podSecurityContext",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "strategy",
];

/// Whether a value may have fields of any name.
pub fn is_open(name: &str) -> bool {
    OPEN.contains(&name)
}

/// A file of values.
#[derive(Clone, Debug)]
pub struct Set {
    /// The file's name without its end.
    pub name: String,
    pub file: PathBuf,
}

impl Set {
    pub fn values(&self) -> Value {
        read(&self.file)
    }
}

/// A set, and what the chart makes of it.
#[derive(Debug)]
pub struct Rendered {
    pub set: Set,
    pub objects: Vec<Value>,
}

/// All sets, by name.
pub fn sets() -> Vec<Set> {
    let mut sets: Vec<_> = fs::read_dir(Path::new(CHART).join("ci"))
        .unwrap()
        .filter_map(|entry| {
            let file = entry.unwrap().path();
            let name = file.file_name()?.to_str()?.strip_suffix("-values.yaml")?;
            let name = name.to_owned();
            Some(Set { name, file })
        })
        .collect();
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    sets
}

/// The values of a chart that nobody changed.
pub fn defaults() -> Value {
    read(&Path::new(CHART).join("values.yaml"))
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Every set, rendered once for all tests.
///
/// # Panics
/// When one cannot be rendered.
pub async fn rendered() -> &'static [Rendered] {
    static RENDERED: OnceCell<Vec<Rendered>> = OnceCell::const_new();
    let render = async || {
        let helm = Helm::offline(NAMESPACE).await;
        let mut rendered = Vec::new();
        for set in sets() {
            let objects = helm.template(&set.file).await;
            let objects = objects.unwrap_or_else(|error| panic!("{}: {error}", set.name));
            rendered.push(Rendered { set, objects });
        }
        rendered
    };
    RENDERED.get_or_init(render).await
}

/// What an object is called in a failure.
pub fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    format!("{kind} {name}")
}
