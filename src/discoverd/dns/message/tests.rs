use std::time::Duration;

use fastrand::Rng;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;

use super::*;
use crate::discoverd::dns::answer::tests::{Few, zone};

fn question(name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut message = Message::new(4_711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}

fn ask(known: &Few, packet: &[u8], transport: Transport) -> (Option<Vec<u8>>, Outcome) {
    reply(&zone(), known, packet, transport, &mut Rng::with_seed(1))
}

fn answered(known: &Few, message: &Message, transport: Transport) -> (Message, usize, Outcome) {
    let (bytes, outcome) = ask(known, &message.to_vec().unwrap(), transport);
    let bytes = bytes.unwrap();
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(
        (answer.id, answer.message_type),
        (4_711, MessageType::Response)
    );
    assert!(!answer.recursion_available);
    (answer, bytes.len(), outcome)
}

/// `count` instances of `db`.
fn many(count: usize) -> Few {
    let addr = |n: usize| format!("10.{}.{}.{}:80", n >> 16, n >> 8 & 255, n & 255);
    Few(vec![("db", (0..count).map(|n| ("tcp", addr(n))).collect())])
}

#[test]
fn a_question_is_answered_as_it_was_put() {
    let (known, message) = (many(1), question("dB.Discoverd.", RecordType::A, None));
    let (answer, _, outcome) = answered(&known, &message, Transport::Udp);
    assert_eq!(outcome, Outcome::Answered);
    assert_eq!(answer.response_code, ResponseCode::NoError);
    assert!(answer.authoritative && answer.recursion_desired && !answer.truncation);
    assert!(answer.queries[0].name.eq_case(&message.queries[0].name));
    assert!(answer.answers[0].name.eq_case(&message.queries[0].name));
    assert_eq!(answer.edns, None);
    let (answer, _, outcome) = answered(
        &known,
        &question("x.discoverd.", RecordType::A, Some(4_096)),
        Transport::Udp,
    );
    assert_eq!(outcome, Outcome::NoName);
    assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    assert_eq!(answer.edns.unwrap().max_payload(), MAX_UDP_BYTES);
}

#[test]
fn an_answer_over_udp_is_short() {
    let known = many(200);
    for (kind, payload, limit) in [
        (RecordType::A, None, 512),
        (RecordType::SRV, None, 512),
        (RecordType::ANY, None, 512),
        (RecordType::ANY, Some(0), 512),
        (RecordType::ANY, Some(u16::MAX), 1_232),
    ] {
        let message = question("db.discoverd.", kind, payload);
        let (answer, length, _) = answered(&known, &message, Transport::Udp);
        assert!(length <= limit, "{kind} {length}");
        let expected = if kind == RecordType::ANY { 6 } else { 3 };
        assert_eq!(answer.answers.len(), expected, "{kind}");
        assert!(!answer.truncation, "{kind}");
    }
}

#[test]
fn what_does_not_fit_is_told_and_asked_for_again_over_tcp() {
    let long = "s".repeat(63);
    let service: &'static str = long.clone().leak();
    let instances = (1..=3).map(|n| ("tcp", format!("10.0.0.{n}:80"))).collect();
    let known = Few(vec![(service, instances)]);
    let mut zone = zone();
    zone.domain = format!("{}.{}", "a".repeat(49), "b".repeat(50))
        .parse()
        .unwrap();
    let name = format!("{long}.{}", zone.domain);
    for (payload, cut) in [(None, true), (Some(1_232), false)] {
        let message = question(&name, RecordType::SRV, payload).to_vec().unwrap();
        let ask = |transport| {
            let rng = &mut Rng::with_seed(1);
            let (bytes, outcome) = reply(&zone, &known, &message, transport, rng);
            assert_eq!(outcome, Outcome::Answered);
            let bytes = bytes.unwrap();
            assert!(transport == Transport::Tcp || bytes.len() <= payload.unwrap_or(512).into());
            Message::from_vec(&bytes).unwrap()
        };
        let udp = ask(Transport::Udp);
        assert_eq!(udp.truncation, cut);
        assert_eq!(udp.answers.len() < 3, cut);
        // What is additional may be missing without a word.
        assert_eq!(udp.additionals.len() < 3, cut);
        assert_eq!(udp.edns.is_some(), payload.is_some());
        let tcp = ask(Transport::Tcp);
        assert!(!tcp.truncation);
        assert_eq!((tcp.answers.len(), tcp.additionals.len()), (3, 3));
    }
}

#[test]
fn an_answer_over_tcp_is_whole_as_far_as_a_message_holds_it() {
    for (kind, count, expected) in [
        (RecordType::A, 2_000, 2_000),
        // The library stops to compress names after many.
        (RecordType::A, 10_000, 2_390),
        (RecordType::SRV, 100, 100),
    ] {
        for payload in [None, Some(512)] {
            let message = question("db.discoverd.", kind, payload);
            let (answer, length, _) = answered(&many(count), &message, Transport::Tcp);
            assert!(length <= usize::from(u16::MAX));
            assert!(
                answer.answers.len().abs_diff(expected) <= 1,
                "{}",
                answer.answers.len()
            );
            assert!(!answer.truncation);
            assert_eq!(answer.edns.is_some(), payload.is_some());
        }
    }
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let known = many(1);
    let good = question("db.discoverd.", RecordType::A, None);
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        let (answer, _, outcome) = answered(&known, &message, Transport::Udp);
        assert!(answer.answers.is_empty() && !answer.authoritative);
        (u16::from(answer.response_code), outcome)
    };
    let refused = (ResponseCode::Refused.into(), Outcome::Refused);
    let class = |message: &mut Message| {
        message.queries[0].set_query_class(DNSClass::CH);
    };
    assert_eq!(changed(&class), refused);
    let elsewhere = |message: &mut Message| {
        message.queries[0].set_name(Name::from_ascii("example.com.").unwrap());
    };
    assert_eq!(changed(&elsewhere), refused);
    let malformed = (ResponseCode::FormErr.into(), Outcome::Malformed);
    assert_eq!(changed(&|message| message.queries.clear()), malformed);
    let two = |message: &mut Message| message.queries.push(message.queries[0].clone());
    assert_eq!(changed(&two), malformed);
    let version = |message: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        message.set_edns(edns);
    };
    let not_implemented = (ResponseCode::BADVERS.into(), Outcome::NotImplemented);
    assert_eq!(changed(&version), not_implemented);
    for code in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let not_implemented = (ResponseCode::NotImp.into(), Outcome::NotImplemented);
        assert_eq!(
            changed(&|message| message.metadata.op_code = code),
            not_implemented
        );
    }

    let mut response = good.clone();
    response.metadata.message_type = MessageType::Response;
    let response = response.to_vec().unwrap();
    let whole = good.to_vec().unwrap();
    for packet in [&[][..], &whole[..11], &response] {
        assert_eq!(
            ask(&known, packet, Transport::Udp),
            (None, Outcome::Ignored)
        );
    }
    // The question is cut off, or more is promised than there is.
    let mut counted = whole.clone();
    counted[6..8].copy_from_slice(&[255, 255]);
    for packet in [&whole[..12], &whole[..whole.len() - 1], &counted] {
        let (bytes, outcome) = ask(&known, packet, Transport::Udp);
        let answer = Message::from_vec(&bytes.unwrap()).unwrap();
        assert_eq!((u16::from(answer.response_code), outcome), malformed);
    }
}

#[test]
fn nobody_waits_for_a_store_that_was_not_read() {
    let known = Few(Vec::new());
    let message = question("db.discoverd.", RecordType::A, None);
    let (answer, _, outcome) = answered(&known, &message, Transport::Udp);
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    assert_eq!(outcome, Outcome::Failed);
}

proptest! {
    /// Whatever comes, the answer can be read and is short.
    #[test]
    fn any_packet_is_borne(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        bear(&packet);
    }

    /// Packets that are nearly questions.
    #[test]
    fn any_change_of_a_question_is_borne(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut packet = question("db.discoverd.", RecordType::ANY, Some(1_400)).to_vec().unwrap();
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        bear(&packet);
        bear(&packet[..cut.index(packet.len())]);
    }
}

fn bear(packet: &[u8]) {
    for (transport, limit) in [(Transport::Udp, 1_232), (Transport::Tcp, 65_535)] {
        let (answer, _) = ask(&many(20), packet, transport);
        if let Some(answer) = answer {
            assert!(answer.len() <= limit);
            let message = Message::from_vec(&answer).unwrap();
            assert_eq!(message.id.to_be_bytes(), packet[..2]);
        }
    }
}

#[test]
fn a_zone_may_let_others_keep_its_answers() {
    let mut zone = zone();
    zone.ttl = Duration::from_secs(30);
    let message = question("db.discoverd.", RecordType::A, None)
        .to_vec()
        .unwrap();
    let (bytes, _) = reply(&zone, &many(1), &message, Transport::Udp, &mut Rng::new());
    let answer = Message::from_vec(&bytes.unwrap()).unwrap();
    assert_eq!(answer.answers[0].ttl, 30);
}
