//! The image that `scripts/image` makes, taken apart and run. `IMAGE_UNDER_TEST`
//! names it; without it only the Dockerfile is looked at.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Net, Process, folder, until};

/// The file store is where a volume would be.
const STORE: &str = "TUNNEL_REGISTRY_STORE=file:/data/registry.redb";

/// The program is found by its name alone.
const ENVIRONMENT: [&str; 2] = ["PATH=/", STORE];

/// What labels say beside version, revision and time.
const FACTS: [(&str, &str); 3] = [
    ("title", env!("CARGO_PKG_NAME")),
    ("description", env!("CARGO_PKG_DESCRIPTION")),
    ("licenses", env!("CARGO_PKG_LICENSE")),
];

static SKIPPED: Once = Once::new();

/// Said past what the test harness captures.
fn skipped() {
    let line = "SKIPPED: tests of the image; make one with scripts/image, and let IMAGE_UNDER_TEST name it\n";
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// An image, unpacked.
struct Image {
    folder: TempDir,
    manifest: Value,
    config: Value,
    layer: PathBuf,
}

impl Image {
    /// The one to be tested, if there is one.
    fn under_test() -> Option<Self> {
        let Some(archive) = std::env::var_os("IMAGE_UNDER_TEST") else {
            SKIPPED.call_once(skipped);
            return None;
        };
        let folder = folder();
        let image = folder.path().join("image");
        unpack(Path::new(&archive), &image);
        let index = read(&image.join("index.json"));
        let [manifest] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("an image for one platform was expected: {index}");
        };
        let manifest = read(&blob(&image, manifest));
        let config = read(&blob(&image, &manifest["config"]));
        let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
            panic!("one layer was expected: {manifest}");
        };
        let layer = blob(&image, layer);
        Some(Self {
            folder,
            manifest,
            config,
            layer,
        })
    }

    /// What a container has as its root.
    fn root(&self) -> PathBuf {
        let root = self.folder.path().join("root");
        unpack(&self.layer, &root);
        root
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The part that a descriptor names; it must be what it is named after.
fn blob(image: &Path, descriptor: &Value) -> PathBuf {
    let name = descriptor["digest"].as_str().unwrap();
    let hash = name.strip_prefix("sha256:").unwrap();
    let path = image.join("blobs/sha256").join(hash);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(descriptor["size"], json!(bytes.len()), "{name}");
    assert_eq!(sha256(&bytes), hash);
    path
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// Unpacks an archive into a new folder, as the files of whoever runs the tests.
fn unpack(archive: &Path, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let arguments: [&OsStr; 5] = [
        "--no-same-owner".as_ref(),
        "-C".as_ref(),
        folder.as_ref(),
        "-xf".as_ref(),
        archive.as_ref(),
    ];
    output("tar", &arguments);
}

/// Runs a program of this machine to its end, which must be a good one.
fn output(program: &str, arguments: &[&OsStr]) -> String {
    let output = process::Command::new(program)
        .args(arguments)
        .stderr(process::Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_image_is_what_it_says() {
    let Some(image) = Image::under_test() else {
        return;
    };
    let config = &image.config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/tunnel-registry"]));
    assert_eq!(config["Env"], json!(ENVIRONMENT));

    let labels = &config["Labels"];
    let label = |name: &str| {
        let value = &labels[format!("org.opencontainers.image.{name}")];
        value
            .as_str()
            .unwrap_or_else(|| panic!("no label {name} in {labels}"))
    };
    for (name, value) in FACTS {
        assert_eq!(label(name), value);
    }
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    let revision = label("revision").trim_end_matches("-dirty");
    assert!(HEXLOWER.decode(revision.as_bytes()).is_ok(), "{revision}");
    assert_eq!(label("created"), image.config["created"]);
    assert!(label("created").parse::<jiff::Timestamp>().is_ok());
    assert_eq!(&image.manifest["annotations"], labels);

    let unpacked = process::Command::new("gzip")
        .args(["-dc".as_ref(), image.layer.as_os_str()])
        .output()
        .unwrap();
    let diff = format!("sha256:{}", sha256(&unpacked.stdout));
    assert_eq!(image.config["rootfs"]["diff_ids"], json!([diff]));
}

#[test]
fn nothing_else_is_in_the_image() {
    let Some(image) = Image::under_test() else {
        return;
    };
    let list: [&OsStr; 3] = [
        "--numeric-owner".as_ref(),
        "-tvzf".as_ref(),
        image.layer.as_ref(),
    ];
    let list = output("tar", &list);
    let mut entries: Vec<(&str, &str, &str)> = list
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0], words[1], words[words.len() - 1])
        })
        .collect();
    entries.sort_by_key(|entry| entry.2);
    let expected = [
        ("-rw-r--r--", "0/0", "LICENSE"),
        ("drwxr-xr-x", "65532/65532", "data/"),
        ("-rw-r--r--", "0/0", "sbom.cdx.json"),
        ("-rwxr-xr-x", "0/0", "tunnel-registry"),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn the_bill_of_materials_names_every_crate_with_its_licence() {
    let Some(image) = Image::under_test() else {
        return;
    };
    let bill = read(&image.root().join("sbom.cdx.json"));
    assert_eq!(bill["specVersion"], "1.5");
    assert!(bill["serialNumber"].is_null(), "it would differ each time");
    assert!(
        !bill.to_string().contains("file://"),
        "a path of the builder's"
    );

    let components = bill["components"].as_array().unwrap();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for component in components {
        let licence = &component["licenses"][0];
        assert!(licence.is_object(), "no licence: {component}");
        named.insert(component["purl"].as_str().unwrap());
    }
    for linked in ["glibc", "libgcc", "rust-std"] {
        let purl = format!("pkg:generic/{linked}@");
        assert!(named.iter().any(|name| name.starts_with(&purl)), "{linked}");
    }
    named.retain(|name| name.starts_with("pkg:cargo/"));

    let target = &bill["metadata"]["properties"][0]["value"];
    let tree = output(
        env!("CARGO"),
        &[
            "tree",
            "--locked",
            concat!("--package=", env!("CARGO_PKG_NAME")),
            "--edges=normal",
            "--prefix=none",
            "--format={p}",
            "--target",
            target.as_str().unwrap(),
        ]
        .map(OsStr::new),
    );
    let tree: BTreeSet<String> = tree
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| words[0] != env!("CARGO_PKG_NAME"))
        .map(|words| {
            format!(
                "pkg:cargo/{}@{}",
                words[0],
                words[1].trim_start_matches('v')
            )
        })
        .collect();
    assert!(tree.len() > 100, "{tree:?}");
    assert_eq!(named, tree.iter().map(String::as_str).collect());
}

/// Into a root that has the layer's files and, as in every container, a source of
/// randomness; as the image's user.
const ENTER: &str = r#"
    mkdir -p "$0/dev"
    for device in random urandom; do
        touch "$0/dev/$device"
        mount --bind "/dev/$device" "$0/dev/$device" || exit
    done
    exec unshare --user --map-user=65532 --map-group=65532 --root="$0" /tunnel-registry "$@"
"#;

#[tokio::test]
async fn the_program_runs_with_nothing_around_it() {
    let Some(image) = Image::under_test() else {
        return;
    };
    let root = image.root();
    let net = Net::take();
    let (listen, admin) = (net.at(1, 8000), net.at(1, 8090));
    let (variable, store) = STORE.split_once('=').unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", ENTER])
            .arg(&root)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env(variable, store)
            .env("TUNNEL_REGISTRY_ADMIN_LISTEN", admin.to_string())
            .kill_on_drop(true);
        command
    };

    let version = command(&["--version"]).output().await.unwrap();
    let said = String::from_utf8([version.stdout, version.stderr].concat()).unwrap();
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");

    let log = image.folder.path().join("log");
    let flag = format!("--listen={listen}");
    let mut registry = Process::start(&mut command(&["serve", &flag, "--session-listen=off"]), log);
    registry.ready(admin).await;
    until("it says that it is well", async || {
        let health = command(&["healthcheck", "--ready"]).output().await.unwrap();
        let said = String::from_utf8(health.stderr).unwrap();
        health.status.success().then_some(()).ok_or(said)
    })
    .await;
    assert!(
        root.join("data/registry.redb").exists(),
        "{}",
        registry.said()
    );
    registry.signal(Signal::TERM);
    let status = registry.ended().await;
    assert!(status.success(), "{status}: {}", registry.said());
}

/// It is built elsewhere, so what can be compared is.
#[test]
fn the_dockerfile_makes_the_same_image() {
    let file = fs::read_to_string("Dockerfile").unwrap();
    let mut wanted: Vec<String> = FACTS
        .map(|(name, value)| format!("org.opencontainers.image.{name}=\"{value}\""))
        .to_vec();
    for (name, argument) in [
        ("version", "VERSION"),
        ("revision", "REVISION"),
        ("created", "CREATED"),
        ("source", "SOURCE"),
    ] {
        wanted.push(format!(
            "org.opencontainers.image.{name}=\"${{{argument}}}\""
        ));
        wanted.push(format!("\nARG {argument}"));
    }
    wanted.extend([
        "\nUSER 65532:65532\n".into(),
        "\nENTRYPOINT [\"/tunnel-registry\"]\n".into(),
        format!("\nENV {}\n", ENVIRONMENT.join(" ")),
    ]);
    let toolchain = fs::read_to_string("rust-toolchain.toml").unwrap();
    let channel = toolchain.split('"').nth(1).unwrap();
    wanted.push(format!("\nARG BUILDER=docker.io/library/rust:{channel}-"));
    for words in wanted {
        assert!(file.contains(&words), "no {words:?} in the Dockerfile");
    }
}
