//! etcd on free ports of the loopback: one member that tests share which break
//! nothing, and clusters of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use data_encoding::BASE64;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tunnel_registry::backend::etcd::{Etcd, Settings, TlsFiles, User};

use crate::kube::ports::Port;
use crate::kube::program::Program;
use crate::kube::supervisor::Supervised;
use crate::kube::tools;
use crate::process::{ask, until, until_within};

/// A cluster of etcd. Its programs end with the test program, however that ends,
/// and when this is dropped; its folder goes with them.
#[derive(Debug)]
pub struct Server {
    pub members: Vec<Member>,
    /// Lasts, so that the folder goes even when a test has ended the others.
    _keeper: Supervised,
}

/// A member, running or not.
#[derive(Debug)]
pub struct Member {
    program: Program,
    folder: PathBuf,
    scheme: &'static str,
    clients: Port,
    _peers: Port,
}

/// Lasts longer than any test.
const KEEPER: &[&str] = &["sleep", "1000000"];

/// The etcd that tests share which break nothing.
pub async fn common() -> &'static Server {
    static COMMON: OnceCell<Server> = OnceCell::const_new();
    COMMON.get_or_init(|| Server::start(1)).await
}

/// A prefix of a test's own.
pub fn prefix() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("/test-{}/", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    /// So many members that answer.
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, "").await
    }

    /// The same, with further flags of etcd.
    pub async fn start_with(members: usize, flags: &str) -> Self {
        let mut server = Self::begin(members, "http", |_| {
            flags.split_whitespace().map(Into::into).collect()
        })
        .await;
        server.ready().await;
        server
    }

    /// One member that clients reach with TLS. `files` writes certificates into
    /// its folder, and says with which flags they are used.
    pub async fn start_with_tls(files: impl FnMut(&Path) -> Vec<String>) -> Self {
        Self::begin(1, "https", files).await
    }

    async fn begin(
        members: usize,
        scheme: &'static str,
        mut flags: impl FnMut(&Path) -> Vec<String>,
    ) -> Self {
        let etcd = spawn_blocking(tools::etcd).await.unwrap().unwrap();
        // The supervisors remove it in the end.
        let folder = tempfile::tempdir().unwrap().keep();
        let keeper = Supervised::start(&folder, &folder.join("keeper.log"), KEEPER).unwrap();
        let ports: Vec<[Port; 2]> = (0..members)
            .map(|_| [Port::reserve().unwrap(), Port::reserve().unwrap()])
            .collect();
        let peers = ports.iter().enumerate();
        let peers = peers.map(|(n, [_, peers])| format!("m{n}={}", local("http", peers)));
        let peers = peers.collect::<Vec<_>>().join(",");
        let members = ports.into_iter().enumerate();
        let members = members.map(|(n, [clients, of_peers])| {
            let folder = folder.join(format!("m{n}"));
            fs::create_dir(&folder).unwrap();
            let (url, of_peer) = (local(scheme, &clients), local("http", &of_peers));
            let mut arguments = vec![
                format!("--name=m{n}"),
                "--data-dir=data".into(),
                "--unsafe-no-fsync".into(),
                "--socket-reuse-port".into(),
                "--log-level=warn".into(),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={of_peer}"),
                format!("--initial-advertise-peer-urls={of_peer}"),
                format!("--initial-cluster={peers}"),
            ];
            arguments.extend(flags(&folder));
            Member {
                program: Program::start(&etcd, arguments, &folder).unwrap(),
                folder,
                scheme,
                clients,
                _peers: of_peers,
            }
        });
        Self {
            members: members.collect(),
            _keeper: keeper,
        }
    }

    /// The URLs of all members, as `--store` has them.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.members.iter().map(Member::url).collect();
        urls.join(",")
    }

    /// The value of `--store`.
    pub fn store(&self) -> String {
        format!("etcd:{}", self.urls())
    }

    /// How a test's own prefix is kept here.
    pub fn settings(&self) -> Settings {
        Settings {
            urls: self
                .members
                .iter()
                .map(|member| member.url().parse().unwrap())
                .collect(),
            prefix: prefix(),
            tls: TlsFiles::default(),
            user: None::<User>,
        }
    }

    /// A store under a prefix of its own.
    pub async fn open(&self) -> Etcd {
        Etcd::open(self.settings()).await.unwrap()
    }

    /// Waits until every member that runs answers what needs a majority.
    pub async fn ready(&mut self) {
        for member in &mut self.members {
            if member.program.runs().unwrap() {
                member.ready().await;
            }
        }
    }

    /// Asks the first member.
    pub async fn ask(&self, path: &str, request: Value) -> Value {
        let asked = self.members[0].ask(path, request).await;
        asked.unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// The member that leads.
    pub async fn leader(&self) -> usize {
        let mut found = None;
        until("one of the members leads", async || {
            for (at, member) in self.members.iter().enumerate() {
                let Ok(status) = member.ask("maintenance/status", json!({})).await else {
                    continue;
                };
                if status["leader"] == status["header"]["member_id"] {
                    found = Some(at);
                }
            }
            found
        })
        .await
    }

    /// The revision that was made last.
    pub async fn revision(&self) -> i64 {
        let status = self.ask("maintenance/status", json!({})).await;
        status["header"]["revision"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Writes a key by hand.
    pub async fn put(&self, key: &str, value: &str) {
        let pair = json!({ "key": text(key), "value": text(value) });
        self.ask("kv/put", pair).await;
    }

    /// The keys that begin with `prefix`, with their values.
    pub async fn pairs(&self, prefix: &str) -> Vec<Pair> {
        let range = self.range(prefix).await;
        range.unwrap()
    }

    /// The same, unless no member answers.
    pub async fn range(&self, prefix: &str) -> Result<Vec<Pair>, String> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().unwrap() += 1;
        let request = json!({ "key": text(prefix), "range_end": BASE64.encode(&end) });
        let mut why = String::new();
        for member in &self.members {
            match member.ask("kv/range", request.clone()).await {
                Ok(answer) => return Ok(pairs(&answer)),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
    /// The lease that it is attached to; 0 for none.
    pub lease: i64,
    /// When it was written last.
    pub revision: i64,
}

impl Pair {
    /// The value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.value).unwrap()
    }
}

fn pairs(answer: &Value) -> Vec<Pair> {
    let plain = |value: &Value| {
        let bytes = BASE64.decode(value.as_str().unwrap_or_default().as_bytes());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    let number = |value: &Value| value.as_str().unwrap_or("0").parse().unwrap();
    let all = answer["kvs"].as_array().into_iter().flatten();
    all.map(|pair| Pair {
        key: plain(&pair["key"]),
        value: plain(&pair["value"]),
        lease: number(&pair["lease"]),
        revision: number(&pair["mod_revision"]),
    })
    .collect()
}

/// A text as etcd's JSON has it.
pub fn text(plain: &str) -> String {
    BASE64.encode(plain.as_bytes())
}

impl Member {
    pub fn url(&self) -> String {
        local(self.scheme, &self.clients)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.clients.number).into()
    }

    /// One question, over etcd's JSON. An error says what etcd said.
    pub async fn ask(&self, path: &str, request: Value) -> Result<Value, String> {
        self.ask_as(None, path, request).await
    }

    /// The same, with a token.
    pub async fn ask_as(
        &self,
        token: Option<&str>,
        path: &str,
        request: Value,
    ) -> Result<Value, String> {
        let mut http = http::Request::post(format!("/v3/{path}"));
        if let Some(token) = token {
            http = http.header("authorization", token);
        }
        let answer = ask(self.address(), http, request.to_string()).await;
        let (status, body) = answer.map_err(|error| error.to_string())?;
        match status.is_success() {
            true => Ok(serde_json::from_str(&body).unwrap()),
            false => Err(body),
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.program.end(Signal::KILL).await;
    }

    /// Starts what was ended, on the same ports with the same data; waits for
    /// nothing.
    pub fn run(&mut self) {
        self.program.run().unwrap();
    }

    /// Removes the data of one that was ended.
    pub fn forget(&self) {
        fs::remove_dir_all(self.folder.join("data")).unwrap();
    }

    /// Stands still when this returns.
    pub async fn freeze(&mut self) {
        self.program.freeze().await;
    }

    /// Goes on after [`Member::freeze`].
    pub fn thaw(&mut self) {
        self.program.signal(Signal::CONT).unwrap();
    }

    /// Waits until it answers what needs a majority.
    pub async fn ready(&mut self) {
        let what = format!("etcd at {} answers", self.url());
        until_within(START, &what, async || {
            if let Some(status) = self.program.ended().unwrap() {
                panic!("it ended with {status} and said:\n{}", self.program.tail());
            }
            let range = json!({ "key": text("nothing") });
            // One that hangs is asked again.
            self.ask("kv/range", range).await
        })
        .await;
    }
}

/// It starts in a second on an idle machine.
const START: Duration = Duration::from_secs(180);

fn local(scheme: &str, port: &Port) -> String {
    format!("{scheme}://127.0.0.1:{}", port.number)
}

/// A folder for a test's own files.
pub fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}
