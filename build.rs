//! Compiles the protocol definitions (without a `protoc` on the machine) and
//! notes what `--version` tells.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn error::Error>> {
    protocols()?;
    facts();
    Ok(())
}

fn protocols() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let gost = protox::compile(["sd.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("sd.bin"), gost.encode_to_vec())?;
    let etcd = protox::compile(["etcd.proto"], ["proto"])?;
    for descriptors in [gost, etcd] {
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false)
            .compile_fds(descriptors)?;
    }
    Ok(())
}

/// A fact that cannot be found out is "unknown": a source archive has no git, and
/// nor has the folder that an image is built from, which is told SOURCE_COMMIT.
fn facts() {
    println!("cargo:rerun-if-env-changed=SOURCE_COMMIT");
    // Every move of HEAD adds to its log. A file that is not there counts as changed.
    for file in ["HEAD", "logs/HEAD"] {
        let path = said("git", &["rev-parse", "--git-path", file]);
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = env::var("SOURCE_COMMIT")
        .unwrap_or_else(|_| said("git", &["rev-parse", "--short=12", "HEAD"]));
    let compiler = said(&env::var("RUSTC").unwrap_or_default(), &["--version"]);
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    let profile = env::var("PROFILE").unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=BUILD_COMPILER={compiler}");
    println!("cargo:rustc-env=BUILD_TARGET={target}");
    println!("cargo:rustc-env=BUILD_PROFILE={profile}");
}

fn said(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".into(), |text| text.trim().to_owned())
}
