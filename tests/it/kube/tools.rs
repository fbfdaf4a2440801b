//! Kubernetes' own programs, Helm and Traefik: found where `KUBEBUILDER_ASSETS`,
//! `HELM_BIN` and `TRAEFIK_BIN` say, or built by name with the Go client, once for
//! a version, into `target/kube-tools/`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tunnel_registry::time::Now;

/// Where the programs are that every cluster needs.
#[derive(Debug)]
pub struct Tools {
    pub etcd: PathBuf,
    pub kube_apiserver: PathBuf,
}

/// How often a build that goes on says so.
const PROGRESS: Duration = Duration::from_secs(15);

/// A program that is built by name. Its modules, with their versions and
/// checksums, are in `tests/kube-tools/<name>/`.
struct Tool {
    name: &'static str,
    package: &'static str,
    /// The linker's flags; they give Kubernetes its version.
    link: &'static str,
    /// What a user may do who has it already.
    otherwise: &'static str,
}

const ETCD: Tool = Tool {
    name: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    link: "-s -w",
    otherwise: ASSETS,
};

const KUBE_APISERVER: Tool = Tool {
    name: "kube-apiserver",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    link: KUBERNETES,
    otherwise: ASSETS,
};

const KUBE_CONTROLLER_MANAGER: Tool = Tool {
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    link: KUBERNETES,
    otherwise: ASSETS,
};

const HELM: Tool = Tool {
    name: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    link: "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
    otherwise: "set HELM_BIN to a Helm of version 4",
};

const TRAEFIK: Tool = Tool {
    name: "traefik",
    package: "github.com/traefik/traefik/v3/cmd/traefik",
    link: "-s -w",
    otherwise: "set TRAEFIK_BIN to a Traefik of version 3",
};

const ASSETS: &str = "set KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd";

const KUBERNETES: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=36";

impl Tools {
    /// Finds the programs, or builds them, which takes minutes the first time.
    pub fn get() -> Result<Self, String> {
        match users_own() {
            Some(folder) => Self::found(&folder),
            None => Ok(Self {
                etcd: ETCD.built()?,
                kube_apiserver: KUBE_APISERVER.built()?,
            }),
        }
    }

    fn found(folder: &Path) -> Result<Self, String> {
        Ok(Self {
            etcd: ETCD.users(folder)?,
            kube_apiserver: KUBE_APISERVER.users(folder)?,
        })
    }
}

/// etcd alone.
pub fn etcd() -> Result<PathBuf, String> {
    match users_own() {
        Some(folder) => ETCD.users(&folder),
        None => ETCD.built(),
    }
}

/// kube-controller-manager; none, and a line that says so, where the user's
/// folder lacks it, which is usual.
pub fn kube_controller_manager() -> Result<Option<PathBuf>, String> {
    let Some(folder) = users_own() else {
        return KUBE_CONTROLLER_MANAGER.built().map(Some);
    };
    let found = KUBE_CONTROLLER_MANAGER.found(&folder);
    if found.is_none() {
        say(&format!(
            "skipped: KUBEBUILDER_ASSETS is {}, where there is no kube-controller-manager",
            folder.display()
        ));
    }
    Ok(found)
}

/// Helm: the user's, or built.
pub fn helm() -> Result<PathBuf, String> {
    match variable("HELM_BIN") {
        None => HELM.built(),
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(format!(
            "HELM_BIN is {}, which is no file; correct it, or unset it to have Helm built",
            path.display()
        )),
    }
}

/// Traefik: the user's, or built. Building it takes longer than all the others, so
/// that it is only done on demand; else there is none, and a line that says so,
/// once.
pub fn traefik() -> Result<Option<PathBuf>, String> {
    static SKIPPED: Once = Once::new();
    match variable("TRAEFIK_BIN") {
        Some(path) if path.is_file() => Ok(Some(path)),
        Some(path) => Err(format!(
            "TRAEFIK_BIN is {}, which is no file; correct it, or unset it to go without Traefik",
            path.display()
        )),
        None if variable("TRAEFIK_BUILD").is_some() || TRAEFIK.is_built()? => {
            TRAEFIK.built().map(Some)
        }
        None => {
            SKIPPED.call_once(|| {
                say("SKIPPED: every test `traefik::…`: name a Traefik 3 with TRAEFIK_BIN, or set TRAEFIK_BUILD=1 to have it built with Go (10 minutes on two cores, once)");
            });
            Ok(None)
        }
    }
}

/// The folder in which a user has Kubernetes' programs.
fn users_own() -> Option<PathBuf> {
    variable("KUBEBUILDER_ASSETS")
}

/// A path that the user gave.
fn variable(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name)?;
    (!path.is_empty()).then(|| path.into())
}

impl Tool {
    /// The program in a user's folder, which must have it.
    fn users(&self, folder: &Path) -> Result<PathBuf, String> {
        self.found(folder).ok_or_else(|| {
            format!(
                "KUBEBUILDER_ASSETS is {}, where there is no {}; put it there, or unset the variable to have it built",
                folder.display(),
                self.name
            )
        })
    }

    fn found(&self, folder: &Path) -> Option<PathBuf> {
        let path = folder.join(self.name);
        path.is_file().then_some(path)
    }

    /// Whether it was built already, from the same.
    fn is_built(&self) -> Result<bool, String> {
        let made_from = self.made_from();
        let made_from = made_from.map_err(|error| format!("{}: {error}", self.name))?;
        Ok(self.is_current(&built_ones(), &made_from))
    }

    /// The program, built into the target folder.
    fn built(&self) -> Result<PathBuf, String> {
        let folder = built_ones();
        let wrong = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(wrong)?;
        // Several test programs may come here at once: one builds, the others wait.
        let lock = File::create(folder.join("lock")).map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        self.build(&folder)
    }

    /// Builds the program into `folder`, unless what is there was made from the
    /// same.
    fn build(&self, folder: &Path) -> Result<PathBuf, String> {
        let wrong = |error: io::Error| format!("{}: {error}", self.name);
        let program = folder.join(self.name);
        let made_from = self.made_from().map_err(wrong)?;
        if !self.is_current(folder, &made_from) {
            let partial = folder.join(self.name.to_owned() + ".partial");
            self.run_go(&partial)?;
            fs::rename(&partial, &program).map_err(wrong)?;
            fs::write(self.stamp(folder), made_from).map_err(wrong)?;
        }
        Ok(program)
    }

    fn is_current(&self, folder: &Path, made_from: &str) -> bool {
        let stamp = fs::read_to_string(self.stamp(folder));
        stamp.is_ok_and(|text| text == made_from) && folder.join(self.name).is_file()
    }

    /// Where it is written down what a program was made from.
    fn stamp(&self, folder: &Path) -> PathBuf {
        folder.join(self.name.to_owned() + ".from")
    }

    /// Everything that decides what the program is.
    fn made_from(&self) -> io::Result<String> {
        let read = |file: &str| fs::read_to_string(self.source().join(file));
        Ok([self.package, self.link, &read("go.mod")?, &read("go.sum")?].join("\n"))
    }

    fn source(&self) -> PathBuf {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-tools");
        tools.join(self.name)
    }

    fn run_go(&self, output: &Path) -> Result<(), String> {
        if !exists("go") {
            return Err(format!(
                "Go is missing, which builds {}: install Go 1.26 or newer (https://go.dev/dl/), or {}",
                self.name, self.otherwise
            ));
        }
        let begun = Now::read().mono;
        let seconds = || Now::read().mono.duration_since(begun).as_secs();
        say(&format!(
            "{}: building it with Go; once, some minutes (or {})",
            self.name, self.otherwise
        ));
        let arguments: [OsString; 10] = [
            "go".into(),
            "build".into(),
            "-trimpath".into(),
            "-buildvcs=false".into(),
            "-mod=readonly".into(),
            "-ldflags".into(),
            self.link.into(),
            "-o".into(),
            output.into(),
            self.package.into(),
        ];
        // Politely, where there is a program for that.
        let nice = exists("nice");
        let mut words = nice.then(|| "nice".into()).into_iter().chain(arguments);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(self.source())
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOWORK", "off")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.map_err(|error| format!("go: {error}"))?;
        let (done, outcome) = mpsc::channel();
        thread::spawn(move || done.send(child.wait_with_output()));
        let outcome = loop {
            match outcome.recv_timeout(PROGRESS) {
                Ok(outcome) => break outcome.map_err(|error| format!("go: {error}"))?,
                Err(RecvTimeoutError::Timeout) => {
                    say(&format!("{}: still building, {} s", self.name, seconds()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err("go: nobody waited".into()),
            }
        };
        if !outcome.status.success() {
            let log = String::from_utf8_lossy(&outcome.stderr);
            return Err(format!(
                "{} could not be built: {}\n{log}",
                self.name, outcome.status
            ));
        }
        say(&format!("{}: built in {} s", self.name, seconds()));
        Ok(())
    }
}

/// The folder of what was built.
fn built_ones() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kube-tools")
}

/// Whether a program is on the `PATH`.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Tells the person in front of the terminal, also when the tests' output is
/// captured: that holds back what macros print, and this is none.
pub fn say(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "    {text}");
}

#[test]
fn a_folder_without_the_programs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tools::found(folder.path()).unwrap_err();
    assert!(error.contains("there is no etcd"), "{error}");
    File::create(folder.path().join("etcd")).unwrap();
    let error = Tools::found(folder.path()).unwrap_err();
    assert!(error.contains("there is no kube-apiserver"), "{error}");
    File::create(folder.path().join("kube-apiserver")).unwrap();
    let found = Tools::found(folder.path()).unwrap();
    assert_eq!(found.etcd, folder.path().join("etcd"));
    // Most users have no more than these two.
    assert_eq!(KUBE_CONTROLLER_MANAGER.found(folder.path()), None);
}

#[test]
fn another_version_is_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    let made_from = KUBE_APISERVER.made_from().unwrap();
    let is_current = || KUBE_APISERVER.is_current(folder.path(), &made_from);
    assert!(!is_current());
    File::create(folder.path().join("kube-apiserver")).unwrap();
    assert!(!is_current());
    let stamp = KUBE_APISERVER.stamp(folder.path());
    fs::write(&stamp, &made_from).unwrap();
    assert!(is_current());
    // The linker's flags name the version that the modules are of.
    assert!(made_from.contains("k8s.io/kubernetes v1.36.3"));
    let helm = HELM.made_from().unwrap();
    assert!(helm.contains("helm.sh/helm/v4 v4.3.1"));
    fs::write(&stamp, made_from.replace("v1.36.3", "v1.36.2")).unwrap();
    assert!(!is_current());
}
