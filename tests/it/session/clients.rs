//! Clients as backend teams write them, in four languages: one command, then one
//! reply, of which some read what comes with one call.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;

use crate::process::{Net, Process, Registry, Setup, folder, output, until};
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

/// The same; said when it is not.
fn found(program: &str) -> Option<PathBuf> {
    let path = find(program);
    if path.is_none() {
        // Said past what the test harness captures.
        let line = format!("SKIPPED: session::clients: no {program} on the PATH\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    path
}

/// Runs a client of `tests/it/session/clients`, if there is what runs it.
async fn follows_the_guide(program: &str, arguments: &[&str], file: &str) {
    let Some(program) = found(program) else {
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

/// Waits until the registry lists one session so, with its route; or none.
async fn is_listed(registry: &Registry, state: Option<&str>) {
    until(&format!("the session is {state:?}"), async || {
        let (_, listed) = registry.admin("/sessions?format=json").await;
        let is_so = match state {
            Some(state) => {
                listed.contains(&format!("\"state\":\"{state}\""))
                    && listed.contains("\"domain\":\"web.example.com\"")
            }
            None => listed == "{\"sessions\":[]}\n",
        };
        if is_so { Ok(()) } else { Err(listed) }
    })
    .await;
}

/// An example of `examples/proxy-session` keeps its session over a restart of the
/// registry, and ends it when it is asked to.
async fn keeps_its_session(program: &str, file: &str) {
    let Some(program) = found(program) else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/proxy-session");
    let folder = folder();
    let net = Net::take();
    let at = net.at(1, 8181);
    let mut setup = Setup::new(net, folder.path());
    setup.sessions = Some(at);
    let registry = setup.start().await;
    let mut command = Command::new(program);
    command.arg(script.join(file)).arg(at.ip().to_string());
    command.arg(at.port().to_string());
    command.args(["web", "127.0.0.1", "8080", "web.example.com"]);
    let mut client = Process::start(&mut command, folder.path().join("client.log"));
    client.says("announced").await;
    is_listed(&registry, Some("connected")).await;
    let registry = registry.kill().await.start().await;
    is_listed(&registry, Some("connected")).await;
    until("it has announced all again", async || {
        (client.said().matches("announced").count() == 2).then_some(())
    })
    .await;
    registry
        .process
        .says("[registry] Session reconnected: web at 127.0.0.1:8080")
        .await;
    client.signal(Signal::TERM);
    let status = client.ended().await;
    assert!(status.success(), "{status}: {}", client.said());
    assert!(client.said().ends_with("GOODBYE\n"), "{}", client.said());
    is_listed(&registry, None).await;
    registry.stop().await;
}

#[tokio::test]
async fn the_example_in_python_keeps_its_session() {
    keeps_its_session("python3", "announce.py").await;
}

#[tokio::test]
async fn the_example_in_bash_keeps_its_session() {
    keeps_its_session("bash", "announce.sh").await;
}
