//! What a program takes in with this library.

use std::process::Command;

/// What the registry is made of and its clients are not.
const HEAVY: [&str; 10] = [
    "axum",
    "clap",
    "etcd-client",
    "k8s-openapi",
    "kube",
    "kube-client",
    "prost",
    "redb",
    "tonic",
    "tower",
];

#[test]
fn it_brings_neither_kubernetes_nor_a_database_nor_a_server() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--package",
            env!("CARGO_PKG_NAME"),
        ])
        .args([
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains(&"hyper"), "{text}");
    for name in HEAVY {
        assert!(!names.contains(&name), "{name} is in\n{text}");
    }
}
