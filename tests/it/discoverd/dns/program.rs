//! The program itself, and what others make of its answers.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;

use hickory_proto::rr::RecordType;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tunnel_registry::discoverd::InstanceId;
use tunnel_registry::server::dns::DnsServer;

use super::client::{data, over_tcp, over_udp, patient, question};
use crate::discoverd::env::instance;
use crate::process::{self, Net, Registry, folder};
use crate::testenv::{Http, PATIENCE};

/// The program with a service, answering at two addresses.
async fn program(net: Net, folder: &std::path::Path) -> (Registry, [SocketAddr; 2]) {
    let listen = [net.at(1, 5353), net.at(2, 5353)];
    let [one, two] = listen;
    let flags = format!("--dns-listen {one},{two} --dns-domain services.test --dns-ttl 5s");
    let registry = process::Setup::new(net, folder).flags(&flags).start().await;
    for (path, body) in [
        ("/services/db".to_owned(), "{}".to_owned()),
        instance("db", "10.0.0.1:5432", ""),
    ] {
        let stream = TcpStream::connect(registry.setup.listen).await.unwrap();
        let answer = Http(stream).send("PUT", &path, &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    (registry, listen)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_answers_at_each_address_until_it_stops() {
    let folder = folder();
    let (registry, listen) = program(Net::take(), folder.path()).await;
    let [one, two] = listen;
    registry.process.says(&format!("{one},{two}")).await;
    for address in listen {
        let packet = question("db.services.test.", RecordType::A);
        for answer in [
            over_udp(address, &packet).await,
            over_tcp(address, &packet).await,
        ] {
            assert_eq!(data(&answer.answers), BTreeSet::from(["10.0.0.1".into()]));
            assert_eq!(answer.answers[0].ttl, 5);
        }
    }
    let asked = r#"tunnel_registry_dns_queries_total{transport="tcp",outcome="answered"}"#;
    assert_eq!(registry.metric(asked).await, 2);
    registry.stop().await;
    for address in listen {
        drop(DnsServer::bind(address, patient()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_understands_the_answers() {
    let version = Command::new("dig").arg("-v").output().await;
    if version.is_err() {
        let line = "SKIPPED: dig_understands_the_answers: no dig on the PATH (dnsutils has it)\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let folder = folder();
    let (registry, [address, _]) = program(Net::take(), folder.path()).await;
    let id = InstanceId::of("tcp", "10.0.0.1:5432");
    let (server, port) = (format!("@{}", address.ip()), address.port().to_string());
    for transport in ["+notcp", "+tcp"] {
        for (name, kind, expected) in [
            ("db.services.test", "A", vec!["10.0.0.1".to_owned()]),
            (
                "_db._tcp.services.test",
                "SRV",
                vec![format!("1 1 5432 {id}.db._i.services.test.")],
            ),
            ("leader.db.services.test", "A", vec!["10.0.0.1".to_owned()]),
            ("x.services.test", "A", vec![]),
        ] {
            let mut dig = Command::new("dig");
            dig.args([&server, "-p", &port, "+short", transport, name, kind]);
            let output = timeout(PATIENCE, dig.output()).await.unwrap().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{text}");
            assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{name}");
        }
    }
    registry.stop().await;
}
