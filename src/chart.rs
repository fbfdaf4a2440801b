//! Keeps the Helm chart in step with the program. Tests only.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::server::session::Limits;
use crate::session::engine::Setup;

const BEGIN: &str = "<!-- values:begin -->";
const END: &str = "<!-- values:end -->";
/// What begins a comment of values.yaml that goes into the table.
const TOLD: &str = "# -- ";

fn chart(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("charts/tunnel-registry").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(chart(file)).unwrap()
}

/// Compares a generated file; with `UPDATE_GENERATED=1` writes it.
fn generated(file: &str, after: &str) {
    let path = chart(file);
    if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
        fs::write(&path, after).unwrap();
    } else {
        let up_to_date = fs::read_to_string(&path).is_ok_and(|before| before == after);
        assert!(up_to_date, "run with UPDATE_GENERATED=1, commit {path:?}");
    }
}

/// A value of values.yaml: where it is, and what is said about it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    path: Vec<String>,
    text: String,
}

/// The keys of block mappings of `yaml`, in order; what is said about one stands
/// on the lines before it.
fn told(yaml: &str) -> Vec<Told> {
    let (mut all, mut open, mut text) = (Vec::new(), Vec::<(usize, String)>::new(), String::new());
    for line in yaml.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(begun) = content.strip_prefix(TOLD) {
            begun.clone_into(&mut text);
            continue;
        }
        let key = content.split_once(':').map(|(key, _)| key);
        let Some(key) = key.filter(|key| key.chars().all(|c| c.is_ascii_alphanumeric())) else {
            continue;
        };
        open.retain(|(of, _)| *of < indent);
        open.push((indent, key.to_owned()));
        let path = open.iter().map(|(_, key)| key.clone()).collect();
        let text = std::mem::take(&mut text);
        all.push(Told { path, text });
    }
    all
}

fn lookup<'a>(values: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(values, |value, key| &value[key])
}

#[test]
fn generated_table_of_values_is_up_to_date() {
    let yaml = read("values.yaml");
    let values: Value = serde_saphyr::from_str(&yaml).unwrap();
    let mut table = String::from("\n| Value | Default | |\n| --- | --- | --- |\n");
    for Told { path, text } in told(&yaml).iter().filter(|told| !told.text.is_empty()) {
        let default = lookup(&values, path).to_string();
        writeln!(table, "| `{}` | `{default}` | {text} |", path.join(".")).unwrap();
    }
    let before = read("README.md");
    let (head, rest) = before.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    generated("README.md", &format!("{head}{BEGIN}{table}{END}{tail}"));
}

#[test]
fn every_value_is_told_of() {
    let all = told(&read("values.yaml"));
    let is_told = |path: &[String]| {
        let told = |told: &&Told| path.starts_with(&told.path) && !told.text.is_empty();
        all.iter().find(told).is_some()
    };
    let is_leaf = |path: &[String]| {
        let below = |told: &&Told| told.path.len() > path.len() && told.path.starts_with(path);
        all.iter().find(below).is_none()
    };
    let untold: Vec<_> = all
        .iter()
        .filter(|told| is_leaf(&told.path) && !is_told(&told.path))
        .map(|told| told.path.join("."))
        .collect();
    assert!(untold.is_empty(), "without a `{TOLD}` before: {untold:?}");
    assert!(all.len() > 100, "{} keys were found", all.len());
}

#[test]
fn it_is_the_chart_of_this_version() {
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// The metrics that alerts and dashboard name, without the prefix of all.
fn asked_for() -> BTreeSet<String> {
    let texts = [read("files/alerts.yaml"), read("files/dashboard.json")];
    let named = |text: &str| -> Vec<String> {
        let parts = text.split("tunnel_registry_").skip(1);
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        parts
            .map(|part| part.chars().take_while(|c| is_name(*c)).collect())
            .collect()
    };
    texts.iter().flat_map(|text| named(text)).collect()
}

/// A name is told in the code without the suffix of its unit and its kind.
#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let code: String = [
        "src/metrics.rs",
        "src/metrics/registry.rs",
        "src/metrics/controller.rs",
        "src/metrics/services.rs",
        "src/metrics/sessions.rs",
        "src/metrics/gateway.rs",
    ]
    .map(|file| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).unwrap();
        // Not what the tests there say.
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    })
    .concat();
    let is_told = |name: &str| {
        code.contains(&format!("\"{name}\""))
            || code.contains(&format!("\"tunnel_registry_{name}\""))
    };
    let asked_for = asked_for();
    assert!(asked_for.len() > 20, "{asked_for:?}");
    for name in asked_for {
        let counted = ["_total", "_bucket", "_info"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(&name);
        let plain = counted.strip_suffix("_seconds").unwrap_or(counted);
        assert!(
            is_told(counted) || is_told(plain),
            "no metric is called {name}"
        );
    }
}

/// The names of all alerts.
fn alerts() -> BTreeSet<String> {
    let alerts = read("files/alerts.yaml");
    let names = alerts.lines().filter_map(|it| it.split_once("alert: "));
    names.map(|(_, name)| name.to_owned()).collect()
}

#[test]
fn every_alert_can_be_left_out() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let rule = &schema["properties"]["prometheusRule"]["properties"];
    let names = rule["disabled"]["items"]["enum"].as_array().unwrap();
    let names: BTreeSet<_> = names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, alerts());
}

/// So that the guide is right about the chart as well.
#[test]
fn the_bounds_of_sessions_are_the_programs() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let sessions = &values["sessions"];
    let limits = Limits::default();
    assert_eq!(sessions["grace"], format!("{}s", Setup::GRACE.as_secs()));
    let expected = json!({
        "sessions": Setup::SESSIONS,
        "connections": limits.connections,
        "connectionsPerAddress": limits.connections_per_peer,
    });
    assert_eq!(sessions["limits"], expected);
}

#[test]
fn instances_stay_as_long_as_the_program_lets_them() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let ttl = crate::discoverd::engine::Setup::TTL;
    assert_eq!(values["services"]["ttl"], format!("{}s", ttl.as_secs()));
}

#[test]
fn every_alert_is_in_the_runbook() {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    let runbook = fs::read_to_string(runbook).unwrap();
    let headings: BTreeSet<_> = runbook
        .lines()
        .filter_map(|it| it.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    let alerts = alerts();
    assert!(alerts.len() > 10, "{alerts:?}");
    let untold: Vec<_> = alerts.difference(&headings).collect();
    assert!(
        untold.is_empty(),
        "alerts without a section in docs/runbook.md: {untold:?}"
    );
}

#[test]
fn keys_are_found_with_what_is_said_about_them() {
    let yaml = "# a file\n# -- A\na: 1\nb:\n  # -- C: c\n  c: {d: 1}\n  - e: 1\n# -- F\nf: []\n";
    let expected = [("a", "A"), ("b", ""), ("b.c", "C: c"), ("f", "F")].map(|(path, text)| Told {
        path: path.split('.').map(str::to_owned).collect(),
        text: text.to_owned(),
    });
    assert_eq!(told(yaml), expected);
}
