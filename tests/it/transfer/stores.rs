//! Between stores.

use std::ffi::OsString;
use std::fs;

use tokio::net::TcpStream;
use tunnel_registry::gost::proto::Service;

use super::{run, run_with};
use crate::discoverd::env::instance;
use crate::kube::env::Env;
use crate::process::{Net, Registry, Setup, folder, until};
use crate::sd::{Protocol, Sd, uuid};
use crate::session::env::{Client, REGISTER};
use crate::testenv::Http;

/// The n-th connector of a tunnel of its own.
pub(super) fn connector(n: usize) -> Service {
    Service {
        id: uuid(1, n),
        name: uuid(2, n),
        node: uuid(3, n),
        network: "tcp".into(),
        address: format!("10.0.0.{n}:80"),
    }
}

/// A registry on a file of this name.
pub(super) fn on(net: Net, folder: &std::path::Path, file: &str) -> Setup {
    let mut setup = Setup::new(net, folder);
    setup.sessions = Some(net.at(1, 8181));
    setup.store = Some(OsString::from(format!("file:{file}")));
    setup
}

async fn send(registry: &Registry, method: &str, path: &str, body: &str) -> String {
    let stream = TcpStream::connect(registry.setup.listen).await.unwrap();
    let answer = Http(stream).send(method, path, &[], body).await;
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
    answer.body
}

/// Fills a registry with something of every kind; returns the session's id.
async fn fill(registry: &Registry) -> String {
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    for n in 1..=3 {
        sd.register(&connector(n)).await.unwrap();
    }
    let mut client = Client::at(registry.setup.sessions.unwrap()).await;
    let sid = client.register(REGISTER).await;
    let route = format!("ROUTE|{sid}|a.com|/|http://h");
    client.gets(&route, "ROUTE_OK").await;
    send(registry, "PUT", "/services/db", "{}").await;
    for addr in ["10.0.0.2:80", "10.0.0.1:80", "10.0.0.3:80"] {
        let (path, body) = instance("db", addr, "x");
        send(registry, "PUT", &path, &body).await;
    }
    let (first, _) = instance("db", "10.0.0.2:80", "");
    send(registry, "DELETE", &first, "").await;
    send(
        registry,
        "PUT",
        "/services/db/meta",
        r#"{"data":{"a":1},"index":0}"#,
    )
    .await;
    sid
}

/// What is there of the service.
async fn service(registry: &Registry) -> [String; 3] {
    [
        send(registry, "GET", "/services/db/instances", "").await,
        send(registry, "GET", "/services/db/leader", "").await,
        send(registry, "GET", "/services/db/meta", "").await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_has_everything_and_goes_on() {
    let (net, folder) = (Net::take(), folder());
    let at = folder.path();
    let registry = on(net, at, "old.redb").start().await;
    let sid = fill(&registry).await;
    let before = service(&registry).await;
    // A registry has its file for itself.
    run(at, "export --store file:old.redb")
        .await
        .not("in use by another process");
    run(at, "import --store file:old.redb x.jsonl")
        .await
        .not("x.jsonl");
    registry.stop().await;

    let done = run(at, "export --store file:old.redb all.jsonl").await;
    let counts = "exported 3 endpoints, 1 sessions, 1 services, 2 instances of services";
    assert!(done.well(counts).out.is_empty());
    let printed = run(at, "export --store file:old.redb")
        .await
        .well(counts)
        .out;
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let text = fs::read_to_string(at.join("all.jsonl")).unwrap();
    assert_eq!(lines(&printed), lines(&text));
    assert!(!at.join("all.jsonl.part").exists());

    let import = "import --store file:new.redb all.jsonl";
    run(at, &format!("{import} --dry-run"))
        .await
        .well("would import 7 records");
    assert!(!at.join("new.redb").exists());
    run(at, import)
        .await
        .well("imported 7 records, 0 of them in place of others; 0 were there, 0 left out");
    // Again nothing is done.
    run(at, import)
        .await
        .well("imported 0 records, 0 of them in place of others; 7 were there");

    let setup = on(net, at, "new.redb").flags("--base-time 1s --released-for 1s --start-grace 0s");
    let registry = setup.start().await;
    assert_eq!(service(&registry).await, before);
    let (addr, body) = instance("db", "10.0.0.4:80", "");
    send(&registry, "PUT", &addr, &body).await;
    let leader = send(&registry, "GET", "/services/db/leader", "").await;
    assert_eq!(
        leader, before[1],
        "an index that was given out is not given out again"
    );
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    for n in 1..=3 {
        let found = sd.get(&connector(n).name).await.unwrap();
        assert_eq!(found, [connector(n)]);
    }
    let mut client = Client::at(registry.setup.sessions.unwrap()).await;
    client.gets(&format!("RECONNECT|{sid}"), "OK").await;
    client.gets(&format!("VALIDATE|{sid}"), "OK").await;
    // Whoever is heard is held; the others wait.
    sd.renew(&connector(1)).await.unwrap();
    let rows = registry.rows_of(&connector(1).name).await;
    assert_eq!(rows[0]["reason"].as_str(), None, "{rows:?}");
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_heard_stays_and_who_is_not_goes() {
    let (net, folder) = (Net::take(), folder());
    let at = folder.path();
    let registry = on(net, at, "old.redb").start().await;
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    for n in 1..=2 {
        sd.register(&connector(n)).await.unwrap();
    }
    registry.stop().await;
    run(at, "export --store file:old.redb all.jsonl")
        .await
        .well("2 endpoints");
    let import = "import --store file:new.redb --unheard-for 2s all.jsonl";
    run(at, import).await.well("imported 2 records");
    // Whatever a registry releases stays for ever; only what was imported goes.
    let setup = on(net, at, "new.redb").flags("--released-for 24h");
    let registry = setup.start().await;
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    sd.renew(&connector(1)).await.unwrap();
    until("the one that nobody hears has gone", async || {
        sd.renew(&connector(1)).await.unwrap();
        let found = sd.get(&connector(2).name).await.unwrap();
        found.is_empty().then_some(())
    })
    .await;
    assert_eq!(sd.get(&connector(1).name).await.unwrap(), [connector(1)]);
    assert_eq!(registry.rows().await.len(), 1);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_told_and_kept_unless_it_is_to_be_replaced() {
    let (net, folder) = (Net::take(), folder());
    let at = folder.path();
    let registry = on(net, at, "a.redb").start().await;
    Sd::new(Protocol::Grpc, registry.setup.listen)
        .register(&connector(1))
        .await
        .unwrap();
    registry.stop().await;
    run(at, "export --store file:a.redb a.jsonl")
        .await
        .well("1 endpoints");
    let changed = fs::read_to_string(at.join("a.jsonl")).unwrap();
    let changed = changed.replace("10.0.0.1:80", "10.0.0.9:80");
    fs::write(at.join("b.jsonl"), &changed).unwrap();
    let exported = async || run(at, "export --store file:a.redb").await.out;
    for dry in ["--dry-run", ""] {
        let words = format!("import --store file:a.redb b.jsonl {dry}");
        let done = run(at, &words).await.not("1 left out");
        let key = format!("left out: endpoint {}", uuid(2, 1));
        assert!(
            done.said.contains(&key) && done.said.contains("--replace"),
            "{}",
            done.said
        );
        assert!(exported().await.contains("10.0.0.1:80"));
    }
    run(at, "import --store file:a.redb b.jsonl --replace")
        .await
        .well("1 of them in place of others");
    assert!(exported().await.contains("10.0.0.9:80"));

    // A damaged file changes nothing.
    let whole = fs::read_to_string(at.join("a.jsonl")).unwrap();
    fs::write(at.join("cut.jsonl"), &whole[..whole.len() - 2]).unwrap();
    run(at, "import --store file:c.redb cut.jsonl")
        .await
        .not("cut.jsonl: line 2 cannot be read");
    fs::write(at.join("none.jsonl"), "{}\n").unwrap();
    run(at, "import --store file:c.redb none.jsonl")
        .await
        .not("not what `tunnel-registry export` writes");
    assert!(!at.join("c.redb").exists());
    run(at, "export --store file:c.redb")
        .await
        .not("there is no store at c.redb");
    assert!(!at.join("c.redb").exists());
    for words in ["export --store memory", "import --store memory a.jsonl"] {
        run(at, words).await.not("ends with it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_kubernetes_and_back() {
    let env = Env::start().await;
    let (net, folder) = (Net::take(), folder());
    let at = folder.path();
    let registry = on(net, at, "old.redb").start().await;
    let sid = fill(&registry).await;
    let before = service(&registry).await;
    registry.stop().await;
    run(at, "export --store file:old.redb all.jsonl")
        .await
        .well("3 endpoints");
    let cluster = format!("--store kubernetes --namespace {}", env.namespace);
    let kubeconfig = env.kubeconfig();
    let run_there = async |words: &str| {
        run_with(
            at,
            &format!("{words} {cluster}"),
            &[("KUBECONFIG", &kubeconfig)],
        )
        .await
    };
    run_there("import all.jsonl")
        .await
        .well("imported 7 records");
    run_there("import all.jsonl")
        .await
        .well("7 were there, 0 left out");
    for object in env.endpoints().list(&Default::default()).await.unwrap() {
        let record = object.to_record().unwrap();
        assert_eq!(
            (record.lease.holder, record.lease.duration_seconds),
            (None, 600)
        );
    }
    // A replica serves it, and holds what it hears.
    let mut setup = on(net, at, "");
    setup.store = Some("kubernetes".into());
    setup.environment = vec![("KUBECONFIG", kubeconfig.clone().into())];
    let flags = format!("--namespace {} --watch-pods off --services", env.namespace);
    let registry = setup.flags(&flags).start().await;
    let sd = Sd::new(Protocol::Grpc, registry.setup.listen);
    assert_eq!(sd.get(&connector(1).name).await.unwrap(), [connector(1)]);
    sd.renew(&connector(1)).await.unwrap();
    let mut client = Client::at(registry.setup.sessions.unwrap()).await;
    client.gets(&format!("RECONNECT|{sid}"), "OK").await;
    client.gets(&format!("VALIDATE|{sid}"), "OK").await;
    assert_eq!(service(&registry).await, before);
    until("the one that was heard is held", async || {
        let objects = env.endpoints().list(&Default::default()).await.unwrap();
        let records = objects.iter().map(|object| object.to_record().unwrap());
        let held = records.filter(|record| record.lease.is_held()).count();
        (held == 1).then_some(())
    })
    .await;
    registry.stop().await;

    let done = run_there("export back.jsonl").await;
    done.well("exported 3 endpoints, 1 sessions, 1 services, 2 instances of services");
    run(at, "import --store file:new.redb back.jsonl")
        .await
        .well("imported 7 records");
    run(at, "import --store file:new.redb all.jsonl")
        .await
        .well("7 were there");
}
