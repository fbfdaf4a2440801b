//! Where a run was made.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

/// One line: cores, processor, system, and what was measured.
pub fn line(registry: &Path) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name", ':');
    let system = field("/etc/os-release", "PRETTY_NAME", '=');
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel = kernel.as_deref().map_or("unknown", str::trim);
    format!(
        "{cores} cores of {model}; {system}, Linux {kernel}; {}",
        said(registry, "--version"),
    )
}

/// What a program prints when asked with `argument`, in one line.
pub fn said(program: &Path, argument: &str) -> String {
    Command::new(program)
        .arg(argument)
        .output()
        .ok()
        .map(|output| {
            let text = String::from_utf8_lossy(&output.stdout);
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect::<Vec<_>>().join(", ")
        })
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

fn field(file: &str, name: &str, separator: char) -> String {
    fs::read_to_string(file)
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            let (_, value) = line.split_once(separator)?;
            Some(value.trim().trim_matches('"').to_owned())
        })
        .unwrap_or_else(|| "unknown".into())
}
