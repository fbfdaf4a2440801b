//! The commands: what they print, and how they end.

use rustix::process::Signal;
use serde_json::{Value, from_str, json};

use super::shell::Shell;
use crate::process::{Net, Setup, folder};

/// The second column of lines that begin with a time, and what is behind it.
fn without_time(line: &str) -> String {
    let (time, rest) = line.split_once("  ").unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{line}");
    rest.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn services_and_instances_are_shown() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let shell = Shell::of(&registry.setup, folder.path());
    let none = shell.run(&["get"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""));
    assert!(none.err.contains("service create"), "{}", none.err);
    assert_eq!(shell.prints(&["get", "-o", "json"]).await, "[]\n");
    let missing = shell.run(&["get", "db"]).await;
    assert_eq!(missing.code, Some(3), "{}", missing.err);
    assert!(
        missing
            .err
            .contains("\"db\" not found; `tunnel-registry get`"),
        "{}",
        missing.err
    );

    assert_eq!(shell.prints(&["service", "create", "web"]).await, "");
    shell
        .prints(&["service", "create", "db", "--leader", "manual"])
        .await;
    let again = shell.run(&["service", "create", "db"]).await;
    assert_eq!(again.code, Some(1), "{}", again.err);
    assert!(again.err.contains("already exists"), "{}", again.err);
    let mut one = shell.start(&[
        "register",
        "db",
        "10.0.0.1:80",
        "--meta",
        "zone=b",
        "--meta",
        "a==",
    ]);
    one.says("10.0.0.1:80 is registered in db").await;
    let mut two = shell.start(&["register", "db", "[::1]:80", "--proto", "http"]);
    two.says("is registered").await;

    assert_eq!(
        shell.prints(&["get"]).await,
        "SERVICE  LEADER-TYPE  INSTANCES  LEADER\n\
         db       manual       2          -\n\
         web      oldest       0          -\n"
    );
    let nobody = shell.run(&["leader", "db"]).await;
    assert_eq!(nobody.code, Some(3), "{}", nobody.err);
    shell.prints(&["leader", "db", "--set", "[::1]:80"]).await;
    assert_eq!(shell.prints(&["leader", "db"]).await, "[::1]:80\n");
    let table = shell.prints(&["get", "db"]).await;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["ID", "ADDR", "PROTO", "INDEX", "LEADER", "META"]);
    assert_eq!(rows[1][1..3], ["10.0.0.1:80", "tcp"]);
    assert_eq!(rows[1].last(), Some(&"a==,zone=b"));
    assert_eq!(rows[2][1..3], ["[::1]:80", "http"]);
    assert_eq!(rows[2].last(), Some(&"*"));
    let value: Value = from_str(&shell.prints(&["get", "db", "-o", "json"]).await).unwrap();
    assert_eq!(value[0]["meta"], json!({ "a": "=", "zone": "b" }));
    assert_eq!(value[1]["leader"], json!(true));
    let wide = shell.prints(&["get", "db", "-o", "wide"]).await;
    assert!(wide.contains(value[0]["id"].as_str().unwrap()), "{wide}");
    assert_eq!(
        shell.prints(&["get", "db", "-o", "name"]).await,
        "10.0.0.1:80\n[::1]:80\n"
    );
    let leader: Value = from_str(&shell.prints(&["leader", "db", "-o", "json"]).await).unwrap();
    assert_eq!(leader["id"], value[1]["id"]);
    // By its id, there or not; by an address only one that is there.
    let id = value[0]["id"].as_str().unwrap();
    shell.prints(&["leader", "db", "--set", id]).await;
    assert_eq!(shell.prints(&["leader", "db"]).await, "10.0.0.1:80\n");
    let nowhere = shell.run(&["leader", "db", "--set", "h:1"]).await;
    assert_eq!(nowhere.code, Some(3), "{}", nowhere.err);

    one.signal(Signal::INT);
    assert_eq!(one.ended().await.code(), Some(0), "{}", one.said());
    two.signal(Signal::TERM);
    assert_eq!(two.ended().await.code(), Some(0), "{}", two.said());
    assert_eq!(shell.prints(&["get", "db", "-o", "json"]).await, "[]\n");
    shell.prints(&["service", "delete", "db"]).await;
    assert_eq!(shell.run(&["service", "delete", "db"]).await.code, Some(3));
    registry.stop().await;
}

#[tokio::test]
async fn meta_data_is_read_and_replaced() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let shell = Shell::of(&registry.setup, folder.path());
    shell.prints(&["service", "create", "db"]).await;
    let none = shell.run(&["service", "meta", "db"]).await;
    assert_eq!(none.code, Some(3), "{}", none.err);
    let set = ["service", "meta", "db", "--set", r#"{"n":1}"#];
    let first: Value = from_str(&shell.prints(&set).await).unwrap();
    assert_eq!(first["data"], json!({ "n": 1 }));
    let stale = shell.run(&[&set[..], &["--index", "0"]].concat()).await;
    assert_eq!(stale.code, Some(1), "{}", stale.err);
    assert!(
        stale.err.contains("`tunnel-registry service meta`"),
        "{}",
        stale.err
    );
    let index = first["index"].to_string();
    shell
        .prints(&["service", "meta", "db", "--set", "[2]", "--index", &index])
        .await;
    let second: Value = from_str(&shell.prints(&["service", "meta", "db"]).await).unwrap();
    assert_eq!(second["data"], json!([2]));
    let wrong = shell.run(&["service", "meta", "db", "--set", "{"]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    registry.stop().await;
}

#[tokio::test]
async fn changes_are_told_line_by_line_over_a_restart() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let shell = Shell::of(&registry.setup, folder.path());
    shell.prints(&["service", "create", "db"]).await;
    let mut text = shell.start(&["watch", "db"]);
    assert_eq!(without_time(&text.line().await), "current");
    let mut json = shell.start(&["watch", "db", "-o", "json"]);
    let mut leader = shell.start(&["leader", "db", "--watch"]);
    assert_eq!(without_time(&leader.line().await), "nobody");
    let event = |line: String| -> Value { from_str(&line).unwrap() };
    assert_eq!(event(json.line().await)["kind"], "current");
    let mut one = shell.start(&["register", "db", "10.0.0.1:80", "--meta", "zone=b"]);
    assert_eq!(
        without_time(&text.line().await),
        "up 10.0.0.1:80 tcp zone=b"
    );
    assert_eq!(without_time(&text.line().await), "leader 10.0.0.1:80");
    let up = event(json.line().await);
    assert_eq!((&up["service"], &up["kind"]), (&json!("db"), &json!("up")));
    assert_eq!(up["instance"]["meta"]["zone"], "b");
    assert_eq!(event(json.line().await)["kind"], "leader");
    assert_eq!(without_time(&leader.line().await), "10.0.0.1:80");

    let setup = registry.kill().await;
    text.says("trying again").await;
    one.says("not registered for now").await;
    let registry = setup.start().await;
    text.says("connected again").await;
    assert_eq!(without_time(&text.line().await), "current");
    one.signal(Signal::TERM);
    assert_eq!(one.ended().await.code(), Some(0), "{}", one.said());
    assert_eq!(
        without_time(&text.line().await),
        "down 10.0.0.1:80 tcp zone=b"
    );
    assert_eq!(without_time(&leader.line().await), "nobody");
    for mut running in [text, json, leader] {
        running.signal(Signal::INT);
        assert_eq!(running.ended().await.code(), Some(0), "{}", running.said());
    }
    registry.stop().await;
}

/// Says that it runs, and ends with a code of its own when it is told to.
const PROGRAM: &str = "trap 'exit 5' TERM; echo runs; while :; do sleep 0.05; done";

#[tokio::test]
async fn an_instance_is_registered_while_a_program_runs() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let shell = Shell::of(&registry.setup, folder.path());
    // What the registry refuses ends it before the program is run.
    let refused = shell
        .run(&["register", "db", "h:1", "--", "sh", "-c", "echo runs"])
        .await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(3), ""));
    let register = ["register", "db", "h:1", "--create"];
    let with = |program: &[&'static str]| [&register[..], &["--"], program].concat();
    let listed = async || shell.prints(&["get", "db", "-o", "name"]).await;

    let mut running = shell.start(&with(&["sh", "-c", PROGRAM]));
    assert_eq!(running.line().await, "runs");
    assert_eq!(listed().await, "h:1\n");
    running.signal(Signal::TERM);
    assert_eq!(running.ended().await.code(), Some(5), "{}", running.said());
    assert_eq!(listed().await, "");

    // It ends by itself, by a signal, or does not begin.
    for (program, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["/nowhere/program"], 127),
        (&["/"], 126),
    ] {
        let said = shell.run(&with(program)).await;
        assert_eq!(said.code, Some(code), "{program:?}: {}", said.err);
        assert_eq!(listed().await, "", "{program:?}");
    }

    // A registry that is away does not keep it from running.
    let setup = registry.kill().await;
    let mut running = shell.start(&with(&["sh", "-c", PROGRAM]));
    assert_eq!(running.line().await, "runs");
    running.says("not registered for now: cannot connect").await;
    let registry = setup.start().await;
    running.says("h:1 is registered in db").await;
    assert_eq!(listed().await, "h:1\n");
    running.signal(Signal::TERM);
    assert_eq!(running.ended().await.code(), Some(5), "{}", running.said());
    registry.stop().await;
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let folder = folder();
    let setup = Setup::new(Net::take(), folder.path());
    let shell = Shell::of(&setup, folder.path());
    for words in [
        &["get"][..],
        &["leader", "db"],
        &["service", "create", "db"],
    ] {
        let said = shell.run(words).await;
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{words:?}");
        let (listen, err) = (setup.listen, &said.err);
        assert!(
            err.contains(&format!("cannot connect to http://{listen}: ")),
            "{err}"
        );
        assert!(
            err.contains("is the registry running? --server or"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let bad = shell
        .run(&["get", "Bad", "--server", "http://h/path"])
        .await;
    assert_eq!(bad.code, Some(1), "{}", bad.err);
    assert!(
        bad.err.contains("must be http:// or https://"),
        "{}",
        bad.err
    );
    for words in [&["get", "-o", "yaml"][..], &["register", "db"], &["leader"]] {
        assert_eq!(shell.run(words).await.code, Some(2), "{words:?}");
    }
}

#[tokio::test]
async fn nobody_who_reads_is_a_quiet_end() {
    let folder = folder();
    let registry = Setup::new(Net::take(), folder.path()).start().await;
    let shell = Shell::of(&registry.setup, folder.path());
    shell.prints(&["service", "create", "db"]).await;
    for words in [
        &["get"][..],
        &["get", "-o", "json"],
        &["watch", "db"],
        &["completions", "bash"],
        &["man"],
        &["crd"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = shell.command(words);
        let output = command.stdout(writer).spawn().unwrap();
        let output = tokio::time::timeout(crate::process::PATIENCE, output.wait_with_output());
        let output = output.await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(output.stderr.is_empty(), "{words:?}");
    }
    registry.stop().await;
}
