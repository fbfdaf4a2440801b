//! Clients as backend teams write them, in four languages: one command, then one
//! reply, of which some read what comes with one call.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::process::{folder, output};
use crate::session::env::Env;

/// What a client prints: the replies to what all of them do, `ACK` without the id.
const TOLD: &str = "\
ACK
ROUTE_OK
ROUTE_OK
HEADER_OK
OPTIONS_OK
OK
MAINT_OK
MAINT_OK
ERROR|Unknown command
OK
ROUTE_OK
REREGISTER
ACK
ROUTE_OK
GOODBYE
the end
";

/// Enough for a compiler that was never used on this machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where a program is, if it is on the PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a client of `tests/it/session/clients`, if there is what runs it.
async fn follows_the_guide(program: &str, arguments: &[&str], file: &str) {
    let Some(program) = find(program) else {
        // Said past what the test harness captures.
        let line = format!("SKIPPED: session::clients: no {program} on the PATH\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/session/clients");
    let folder = folder();
    for env in Env::each(|_| {}).await {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .arg(script.join(file))
            .arg(env.address.ip().to_string())
            .arg(env.address.port().to_string())
            .current_dir(folder.path());
        let told = output(&mut command, PATIENCE).await;
        assert_eq!(told.as_deref(), Ok(TOLD));
        assert!(env.sessions.sessions().iter().all(|session| {
            // The one that was left behind.
            session.record.registration.instance.service.as_str() == "api-service"
        }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() {
    follows_the_guide("python3", &[], "client.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bash() {
    follows_the_guide("bash", &[], "client.sh").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    follows_the_guide("node", &[], "client.js").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go() {
    follows_the_guide("go", &["run"], "client.go").await;
}
