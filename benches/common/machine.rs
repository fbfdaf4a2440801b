//! Where a run was made.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

/// One line: cores, processor, system, what was measured and its compiler.
pub fn line(registry: &Path) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name", ':');
    let system = field("/etc/os-release", "PRETTY_NAME", '=');
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel = kernel.as_deref().map_or("unknown", str::trim);
    format!(
        "{cores} cores of {model}; {system}, Linux {kernel}; {}; {}",
        said(registry, "--version"),
        env!("BUILD_COMPILER"),
    )
}

/// What a program prints first when asked with `argument`.
pub fn said(program: &Path, argument: &str) -> String {
    Command::new(program)
        .arg(argument)
        .output()
        .ok()
        .and_then(|output| {
            Some(
                String::from_utf8_lossy(&output.stdout)
                    .lines()
                    .next()?
                    .into(),
            )
        })
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
