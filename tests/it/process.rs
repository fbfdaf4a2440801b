//! The real binary, as its users run it: started, asked, signalled, ended.

mod net;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

pub use net::Net;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_tunnel-registry");

/// Nothing that is waited for takes this long on a busy machine unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often another process is asked whether something has happened.
const POLL: Duration = Duration::from_millis(10);

/// What a look at something comes to: it, or why it is not there yet.
pub trait Look {
    type Thing;
    fn seen(self) -> Result<Self::Thing, String>;
}

impl<T> Look for Option<T> {
    type Thing = T;

    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "not yet".into())
    }
}

impl<T, E: ToString> Look for Result<T, E> {
    type Thing = T;

    fn seen(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Looks until something is there.
///
/// # Panics
/// After [`PATIENCE`], with `what` was awaited and what the last look came to.
pub async fn until<L: Look>(what: &str, look: impl AsyncFnMut() -> L) -> L::Thing {
    until_within(PATIENCE, what, look).await
}

/// [`until`], with an end of its own.
pub async fn until_within<L: Look>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> L,
) -> L::Thing {
    let end = Instant::now() + patience;
    loop {
        // A look may hang as well.
        let why = match timeout(patience, look()).await.map(Look::seen) {
            Ok(Ok(thing)) => return thing,
            Ok(Err(why)) => why,
            Err(_) => "the last look hangs".into(),
        };
        assert!(
            Instant::now() < end,
            "waited {patience:?} in vain until {what}: {why}"
        );
        sleep(POLL).await;
    }
}

/// The binary under test as a command in a folder, which is its home: nothing is
/// inherited from whoever runs the tests. Under `wrapper` if that is not empty.
pub fn command(folder: &Path, wrapper: &[&str]) -> Command {
    let mut command = match wrapper {
        [] => Command::new(BINARY),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(BINARY);
            command
        }
    };
    command
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(folder);
    command
}

/// A process whose standard error goes to a file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stderr: PathBuf,
}

impl Process {
    pub fn start(command: &mut Command, stderr: PathBuf) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&stderr)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, stderr }
    }

    /// What it has written to standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until it has written `words`.
    pub async fn says(&self, words: &str) {
        let said = async || self.said().contains(words).then_some(());
        until(&format!("it says {words:?}"), said).await;
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("the process has ended")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.id().try_into().unwrap()).unwrap()
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it says that it is ready, on its admin port.
    pub async fn ready(&mut self, admin: SocketAddr) {
        until("the process is ready", async || {
            if let Some(status) = self.has_ended() {
                panic!("it ended with {status} and said:\n{}", self.said());
            }
            let answer = fetch(admin, "/readyz").await;
            match answer.map_err(|error| error.to_string())? {
                (StatusCode::OK, _) => Ok(()),
                (_, text) => Err(text),
            }
        })
        .await;
    }

    /// Stands still when this returns, as a paused container does.
    pub async fn freeze(&self) {
        self.signal(Signal::STOP);
        stands_still(self.pid()).await;
    }

    /// Goes on after [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("waited {PATIENCE:?} for its end; it says:\n{}", self.said()),
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.ended().await;
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.id());
        fs::read_dir(folder).unwrap().count()
    }
}

/// How a registry is started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// Where it takes proxy sessions, if anywhere.
    pub sessions: Option<SocketAddr>,
    /// Where it answers for those in maintenance; unless it is said, at port 8182
    /// of where it takes sessions.
    pub responder: Option<SocketAddr>,
    /// The value of `--store`; none leaves the flag out.
    pub store: Option<OsString>,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, OsString)>,
    folder: PathBuf,
}

impl Setup {
    /// On the first address of `net`, with a file store in `folder`.
    pub fn new(net: Net, folder: &Path) -> Self {
        let mut store = OsString::from("file:");
        store.push(folder.join("registry.redb"));
        Self {
            listen: net.at(1, 8000),
            admin: net.at(1, 8090),
            sessions: None,
            responder: None,
            store: Some(store),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.to_owned(),
        }
    }

    /// With further flags, as they are typed.
    pub fn flags(mut self, flags: &str) -> Self {
        self.arguments
            .extend(flags.split_whitespace().map(Into::into));
        self
    }

    /// Where it answers for sessions in maintenance, if it takes any.
    pub fn maintenance(&self) -> Option<SocketAddr> {
        let sessions = self.sessions?;
        Some(self.responder.unwrap_or((sessions.ip(), 8182).into()))
    }

    /// The command, under `wrapper` if that is not empty.
    fn command(&self, wrapper: &[&str]) -> Command {
        let mut command = command(&self.folder, wrapper);
        command
            .envs(self.environment.iter().cloned())
            .arg(format!("--listen={}", self.listen))
            .arg(format!("--admin-listen={}", self.admin));
        let sessions = self.sessions.map(|at| at.to_string());
        command.arg("--session-listen");
        command.arg(sessions.as_deref().unwrap_or("off"));
        if let Some(maintenance) = self.maintenance() {
            command.arg(format!("--maintenance-listen={maintenance}"));
        }
        if let Some(store) = &self.store {
            command.arg("--store").arg(store);
        }
        command.args(&self.arguments);
        command
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> Registry {
        self.spawn_under(&[])
    }

    /// Starts it under another program.
    pub fn spawn_under(&self, wrapper: &[&str]) -> Registry {
        let stderr = self.folder.join(format!("registry-{}.log", self.admin));
        // What an earlier one said is of no interest.
        fs::write(&stderr, "").unwrap();
        Registry {
            process: Process::start(&mut self.command(wrapper), stderr),
            setup: self.clone(),
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Registry {
        let mut registry = self.spawn();
        registry.ready().await;
        registry
    }
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    pub process: Process,
    pub setup: Setup,
}

impl Registry {
    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) {
        self.process.ready(self.setup.admin).await;
    }

    /// What the admin port answers.
    pub async fn admin(&self, path: &str) -> (StatusCode, String) {
        fetch(self.setup.admin, path).await.unwrap()
    }

    /// What is registered.
    pub async fn rows(&self) -> Vec<Value> {
        self.listed("/endpoints?format=json").await
    }

    /// What is registered of one tunnel.
    pub async fn rows_of(&self, tunnel: &str) -> Vec<Value> {
        let path = format!("/endpoints?format=json&tunnel={tunnel}");
        self.listed(&path).await
    }

    async fn listed(&self, path: &str) -> Vec<Value> {
        let (status, body) = self.admin(path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let mut body: Value = serde_json::from_str(&body).unwrap();
        serde_json::from_value(body["endpoints"].take()).unwrap()
    }

    /// A metric's value, by its name and labels as they are printed.
    pub async fn metric(&self, metric: &str) -> u64 {
        let (_, text) = self.admin("/metrics").await;
        value(&text, metric)
    }

    /// `kill -9`, then the same again.
    pub async fn kill(mut self) -> Setup {
        self.process.kill().await;
        self.setup
    }

    /// `SIGTERM`; it must end in order.
    pub async fn stop(mut self) -> Setup {
        self.process.signal(Signal::TERM);
        let status = self.process.ended().await;
        assert!(status.success(), "{status}: {}", self.process.said());
        self.setup
    }
}

/// A metric's value in what `/metrics` prints.
pub fn value(text: &str, metric: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("{metric} is not in\n{text}"))
        .parse()
        .unwrap()
}

/// How many calls ended so, as a metric.
pub fn calls(method: &str, protocol: &str, outcome: &str) -> String {
    format!(
        r#"tunnel_registry_requests_total{{method="{method}",protocol="{protocol}",outcome="{outcome}"}}"#
    )
}

/// Waits until a process that was sent `SIGSTOP` stands still: its threads stop
/// one by one, when each has its turn.
pub async fn stands_still(process: Pid) {
    let folder = format!("/proc/{}/task", process.as_raw_nonzero());
    until("every thread has stopped", async || {
        for thread in fs::read_dir(&folder).unwrap() {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
            // A thread may end meanwhile.
            let Ok(stat) = stat else {
                return Err(String::new());
            };
            // The state is what follows the name, which is in parentheses.
            if !stat.rsplit(')').next().unwrap().starts_with(" T ") {
                return Err(stat);
            }
        }
        Ok(())
    })
    .await;
}

/// Runs the binary to its end: its exit code and what it said.
pub async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    command.args(arguments).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {arguments:?} to end"))
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// Runs a command to its end: what it printed, or all that it said when it failed.
///
/// # Panics
/// When it does not start, or does not end within `patience`.
pub async fn output(command: &mut Command, patience: Duration) -> Result<String, String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(patience, command.output())
        .await
        .unwrap_or_else(|_| panic!("waited {patience:?} for {command:?} to end"))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text([output.stdout, output.stderr].concat())),
    }
}

/// Asks for a page once.
pub async fn fetch(
    address: SocketAddr,
    path: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
    ask(address, Request::get(path), Bytes::new()).await
}

/// Makes one request, on a connection of its own.
pub async fn ask(
    address: SocketAddr,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
    let request = request.header("host", address.to_string());
    let request = request.body(Full::new(body.into()))?;
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let answer = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
        };
        let (answer, _) = futures::join!(answer, connection);
        let (status, body) = answer?;
        Ok((status, String::from_utf8(body.into())?))
    };
    timeout(PATIENCE, exchange).await?
}

/// A folder that goes with its owner.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}
