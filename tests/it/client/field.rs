//! The client that discoverd's second version came with, in Go.
//!
//! `DISCOVERD_CLIENT_BIN` names a program on it, which is not part of this project:
//! started with the URL of a registry that has no services, it uses everything that
//! the client has for services, and prints a line for each thing that it finds, which
//! must be [`BEFORE`], then, when it is written a line to, [`AFTER`]; it exits with 0.
//! In this order it must
//! - ping, make `db` twice, and one whose name is bad; ask for a service and a leader
//!   that are not there;
//! - watch `db` through a channel, register two instances and keep them by the client's
//!   heartbeats, list them, follow the leaders; change attributes of the first one;
//! - replace the meta data of `db` from index 0, at a wrong index and at its own; try
//!   to name its leader;
//! - do nothing for 33 s: longer than an instance lasts without heartbeats, and than a
//!   stream is without a comment; see that everything is as it was, and change
//!   attributes of the second one;
//! - wait for a line, before which the registry is killed and started again; see that
//!   the watch resumes; follow the leaders anew (that stream ends, by design);
//! - close the first heartbeat, then the second one;
//! - wait with the client's own helper for an instance that somebody adds to `late`;
//! - make `manual`, whose leader is named, watch it, register two, name the second one
//!   as leader, then the first one in a write of meta data; close both;
//! - remove what was made, `db` twice, and register in `db`.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use super::{on_etcd, on_kubernetes};
use crate::kube::env::Env;
use crate::process::{Net, PATIENCE, Registry, Setup, folder};

/// Names the program.
const BINARY: &str = "DISCOVERD_CLIENT_BIN";

const BEFORE: &str = "\
ping: ok
add: ok
add again: object exists
add a bad name: validation error
instances of none: not found
leader of none: not found
instances: 0 false
db event: current
db event: up 127.0.0.1:8001 k=a
db event: leader 127.0.0.1:8001 k=a
db event: up 127.0.0.1:8002
addrs: 127.0.0.1:8001 127.0.0.1:8002
indexes: true
leader: 127.0.0.1:8001 host 127.0.0.1 port 8001
leaders: 127.0.0.1:8001
db event: update 127.0.0.1:8001 k=b
get meta: not found
db event: service_meta {\"a\":1}
set meta: true
set meta at 0: object exists
set meta at another: precondition failed
db event: service_meta [2]
get meta: [2] true
set leader of oldest: validation error
kept: 127.0.0.1:8001 127.0.0.1:8002
db event: update 127.0.0.1:8002 k=c
restart the server, then write a line";

const AFTER: &str = "\
db event: current
after the restart: 127.0.0.1:8001 127.0.0.1:8002
leaders: 127.0.0.1:8001
db event: update 127.0.0.1:8002 k=d
db event: down 127.0.0.1:8001 k=b
db event: leader 127.0.0.1:8002 k=d
leaders: 127.0.0.1:8002
db event: down 127.0.0.1:8002 k=d
db event: leader
leaders: nobody
late: http 127.0.0.1:8003
manual event: current
manual event: up 127.0.0.1:8001
manual event: up 127.0.0.1:8002
manual leader: not found
manual event: leader 127.0.0.1:8002
manual event: service_meta \"x\"
manual event: leader 127.0.0.1:8001
manual event: down 127.0.0.1:8001
manual event: leader
manual leader: not found
manual event: down 127.0.0.1:8002
remove: ok
remove: ok
remove: ok
remove again: not found
register in none: not found
done";

/// The program waits for 33 s by itself.
const PATIENT: Duration = Duration::from_secs(33 + PATIENCE.as_secs());

async fn prints(lines: &mut Lines<BufReader<ChildStdout>>, expected: &str) {
    for expected in expected.lines() {
        let line = timeout(PATIENT, lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("it does not print {expected:?}"));
        assert_eq!(line.unwrap().as_deref(), Some(expected));
    }
}

/// Runs the program at a registry, which is killed and started again meanwhile.
async fn runs_at(registry: Registry) -> Registry {
    let Some(binary) = std::env::var_os(BINARY) else {
        // Said past what the test harness captures.
        let line =
            format!("SKIPPED: discoverd's own client in Go: name a program on it with {BINARY}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return registry;
    };
    let mut program = Command::new(binary)
        .arg(format!("http://{}", registry.setup.listen))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = program.stdin.take().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    prints(&mut lines, BEFORE).await;
    let registry = registry.kill().await.start().await;
    stdin.write_all(b"\n").await.unwrap();
    prints(&mut lines, AFTER).await;
    let status = timeout(PATIENCE, program.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    registry
}

#[tokio::test]
async fn the_go_client_works_unchanged_in_kubernetes() {
    let (env, folder) = (Env::start().await, folder());
    let registry = on_kubernetes(&env, folder.path()).await;
    runs_at(registry).await.stop().await;
}

#[tokio::test]
async fn the_go_client_works_unchanged_on_etcd() {
    let folder = folder();
    let registry = on_etcd(folder.path()).await;
    runs_at(registry).await.stop().await;
}

#[tokio::test]
async fn the_go_client_works_unchanged() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    runs_at(registry).await.stop().await;
}
