//! What is no question, too many at once, and the end.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tunnel_registry::server::dns::{DnsServer, Limits};

use super::client::{Dns, ask, closed, framed, over_udp, patient, queries, question, receive};
use crate::discoverd::env::{Env, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_are_told_or_ignored_and_do_no_harm() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    env.done("PUT", "/services/db", "{}").await;
    env.register("db", "10.0.0.1:80", "").await;
    let good = question("db.discoverd.", RecordType::A);

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut response = good.clone();
    response[2] |= 0x80;
    for packet in [&b""[..], &b"x"[..], &good[..11], &response] {
        socket.send_to(packet, dns.address).await.unwrap();
    }
    dns.until(&queries("udp", "ignored"), 4).await;
    // Beyond the longest question the rest is cut off.
    let cut = [good.clone(), vec![0; 6_000]].concat();
    socket.send_to(&cut, dns.address).await.unwrap();
    for packet in [&good[..12], &good[..20]] {
        let answer = over_udp(dns.address, packet).await;
        assert_eq!(answer.response_code, ResponseCode::FormErr);
    }
    assert_eq!(dns.ip("db.discoverd.").await, "10.0.0.1");

    // Several questions at once, in pieces, are answered in their order.
    let mut stream = TcpStream::connect(dns.address).await.unwrap();
    let second = question("x.discoverd.", RecordType::A);
    let both = [framed(&good), framed(&second)].concat();
    let (head, tail) = both.split_at(good.len() / 2);
    stream.write_all(head).await.unwrap();
    stream.flush().await.unwrap();
    stream.write_all(tail).await.unwrap();
    let answer = receive(&mut stream, &good).await;
    assert_eq!(answer.response_code, ResponseCode::NoError);
    let answer = receive(&mut stream, &second).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    let answer = ask(&mut stream, &good[..20]).await;
    assert_eq!(answer.response_code, ResponseCode::FormErr);

    // What cannot be a question ends its connection.
    let long = vec![0; 4_097];
    for (ended, packet) in [&long, &response, &Vec::new()].into_iter().enumerate() {
        let mut stream = TcpStream::connect(dns.address).await.unwrap();
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        stream.write_all(&length).await.unwrap();
        if packet.len() < 4_097 {
            stream.write_all(packet).await.unwrap();
        }
        closed(stream).await;
        let malformed = r#"connections_closed_total{cause="malformed"}"#;
        dns.until(malformed, ended as u64 + 1).await;
    }
    assert_eq!(dns.ip("db.discoverd.").await, "10.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_in_number_and_time() {
    let env = Env::one(Plan::usual()).await;
    let few = Limits {
        connections: 4,
        connections_per_peer: 3,
        ..patient()
    };
    let dns = Dns::of(&env, few);
    let mut held = Vec::new();
    for n in 1..=3 {
        held.push(TcpStream::connect(dns.address).await.unwrap());
        dns.until("connections", n).await;
    }
    for refused in 1..=20 {
        closed(TcpStream::connect(dns.address).await.unwrap()).await;
        dns.until(r#"connections_refused_total{limit="peer"}"#, refused)
            .await;
    }
    // Datagrams have room all the same.
    let packet = question("x.discoverd.", RecordType::A);
    let answer = over_udp(dns.address, &packet).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    drop(held);
    dns.until("connections", 0).await;
    dns.until(r#"connections_closed_total{cause="peer"}"#, 3)
        .await;

    let moment = Duration::from_millis(1);
    for (cause, limits, sent) in [
        (
            "idle",
            Limits {
                idle: moment,
                ..patient()
            },
            &[][..],
        ),
        (
            "idle",
            Limits {
                read: moment,
                ..patient()
            },
            &[0, 40][..],
        ),
        (
            "old",
            Limits {
                life: moment,
                ..patient()
            },
            &[][..],
        ),
    ] {
        let dns = Dns::of(&env, limits);
        let mut stream = TcpStream::connect(dns.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        closed(stream).await;
        dns.until(
            &format!(r#"connections_closed_total{{cause="{cause}"}}"#),
            1,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_datagrams_is_survived() {
    let env = Env::one(Plan::usual()).await;
    let dns = Dns::of(&env, patient());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packet = question("x.discoverd.", RecordType::ANY);
    for _ in 0..20_000 {
        // The system may have no room for it: so much the better.
        let _ = socket.try_send_to(&packet, dns.address);
    }
    let answer = over_udp(dns.address, &packet).await;
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    let asked = dns.count(&queries("udp", "no_name"));
    assert!((1..=20_100).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_it_is_asked_to_and_gives_its_port_back() {
    let env = Env::one(Plan::usual()).await;
    let mut dns = Dns::of(&env, patient());
    let mut waiting = TcpStream::connect(dns.address).await.unwrap();
    ask(&mut waiting, &question("x.discoverd.", RecordType::A)).await;
    let taken = DnsServer::bind(dns.address, patient())
        .unwrap_err()
        .to_string();
    assert!(
        taken.contains("already in use") && taken.contains("--dns-listen"),
        "{taken}"
    );
    dns.ended().await;
    // Nothing was in flight, so nobody waited.
    closed(waiting).await;
    dns.until(r#"connections_closed_total{cause="shutdown"}"#, 1)
        .await;
    drop(DnsServer::bind(dns.address, patient()).unwrap());
    // For datagrams alone somebody may have it, too.
    let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let taken = DnsServer::bind(theirs.local_addr().unwrap(), patient());
    assert!(taken.unwrap_err().to_string().contains("already in use"));
}
