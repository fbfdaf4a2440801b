//! From the peer's Redis: what is in it, written by hand.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use redis::{Client, Commands as _, Connection};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::run;
use super::stores::{connector, on};
use crate::process::{Net, Process, folder, until};
use crate::sd::{Protocol, Sd};

/// A Redis that keeps nothing on disk. Killed when dropped.
pub(super) struct Server {
    process: Process,
    pub at: SocketAddr,
}

impl Server {
    /// None, and a line that says so, where there is none.
    pub async fn start(test: &str, at: SocketAddr, folder: &Path, flags: &[&str]) -> Option<Self> {
        if Command::new("redis-server")
            .arg("--version")
            .output()
            .await
            .is_err()
        {
            skipped(test, "no redis-server on the PATH");
            return None;
        }
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                &at.ip().to_string(),
                "--port",
                &at.port().to_string(),
            ])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(flags)
            .arg("--dir")
            .arg(folder);
        let process = Process::start(&mut command, folder.join("redis.log"));
        let open = async || TcpStream::connect(at).await;
        drop(until("Redis listens", open).await);
        Some(Self { process, at })
    }

    fn client(&self, login: &str, database: u8) -> Connection {
        let url = format!("redis://{login}{}/{database}", self.at);
        Client::open(url).unwrap().get_connection().unwrap()
    }

    pub async fn end(mut self) {
        self.process.kill().await;
    }
}

/// Said past what the test harness captures.
pub(super) fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn entry(node: &str, address: &str, renew: i64) -> String {
    format!(r#"{{"Node":"{node}","Network":"tcp","Address":"{address}","Renew":{renew}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_is_read_and_nothing_is_written() {
    let (net, folder) = (Net::take(), folder());
    let at = folder.path();
    let name = "what_redis_has_is_read_and_nothing_is_written";
    let flags = ["--requirepass", "secret"];
    let Some(server) = Server::start(name, net.at(1, 6379), at, &flags).await else {
        return;
    };
    let mut redis = server.client(":secret@", 3);
    let now = 1_800_000_000;
    for n in 1..=3 {
        let own = connector(n);
        let value = entry(&own.node, &own.address, now);
        let _: () = redis.hset(&own.name, &own.id, value).unwrap();
    }
    let one = connector(1).name;
    let _: () = redis.hset(&one, "bad", "no JSON").unwrap();
    let _: () = redis
        .hset(&one, "homeless", entry("n", ":80", now))
        .unwrap();
    let _: () = redis
        .hset(&one, "old", entry("n", "10.0.0.1:80", now - 301))
        .unwrap();
    // Another plugin of the peer's, and somebody else.
    let _: () = redis.set("app.example.com", "4d21094e").unwrap();
    let _: () = redis.lpush("list", "x").unwrap();
    let _: () = redis.expire(&one, 60).unwrap();
    // More than one batch.
    for n in 0..1_200 {
        let value = entry("many", "10.1.0.1:80", now);
        let _: () = redis.hset("many", format!("c-{n}"), &value).unwrap();
        let _: () = redis.hset(format!("many-{n}"), "c", &value).unwrap();
    }
    let changes = |redis: &mut Connection| -> String {
        let info: String = redis::cmd("INFO").arg("persistence").query(redis).unwrap();
        let line = info
            .lines()
            .find(|line| line.starts_with("rdb_changes_since_last_save"));
        line.unwrap().to_owned()
    };
    let before = changes(&mut redis);

    let url = format!("redis://:secret@{}/3", server.at);
    let import = format!("import --store file:new.redb --redis {url}");
    let done = run(at, &format!("{import} --dry-run")).await;
    let done = done.not("Redis has 2403 connectors of tunnels, 1 that were not renewed");
    for part in [
        "left out: 00000002-0000-4000-8000-000000000001/bad: it is no entry of the peer's",
        "homeless: its address \":80\"",
        "2 entries that cannot be used",
        "would import 2403 records",
    ] {
        assert!(done.said.contains(part), "{part}: {}", done.said);
    }
    assert!(!done.said.contains("secret"));
    run(at, &import).await.not("imported 2403 records");
    run(at, &import).await.not("2403 were there, 2 left out");
    let some = format!("import --store file:some.redb --redis {url} --redis-prefix many-11");
    run(at, &some).await.well("imported 111 records");
    assert_eq!(changes(&mut redis), before);

    // Where it cannot be read that is said, without the password.
    for (url, part) in [
        (format!("redis://:wrong@{}/3", server.at), "cannot be read"),
        (format!("redis://{}/3", server.at), "cannot be read"),
        (
            format!("redis://:secret@{}", net.at(9, 6379)),
            "cannot be read",
        ),
    ] {
        let done = run(at, &format!("import --store file:no.redb --redis {url}")).await;
        assert!(!done.not(part).said.contains("secret"));
    }
    assert!(!at.join("no.redb").exists());
    server.end().await;

    let registry = on(net, at, "new.redb").start().await;
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    for n in 1..=3 {
        assert_eq!(sd.get(&connector(n).name).await.unwrap(), [connector(n)]);
    }
    registry.stop().await;
}
