use std::collections::BTreeMap;

use super::*;
use crate::discoverd::{Instance, LeaderType, ServiceName};
use crate::record::{Endpoint, EndpointKey, Name, Network};
use crate::session::id::SessionId;
use crate::session::registration::Registration;
use crate::time::Now;

const MINUTE: Duration = Duration::from_secs(60);

fn held() -> Lease {
    Lease::held("gone".into(), Timestamp::UNIX_EPOCH, MINUTE)
}

pub(in crate::transfer) fn endpoint(tunnel: &str, connector: &str, address: &str) -> Record {
    let name = |text: &str| Name::parse(text).unwrap();
    Record::Endpoint(Arc::new(EndpointRecord {
        endpoint: Endpoint {
            key: EndpointKey {
                tunnel: name(tunnel),
                node: name("node"),
                connector: name(connector),
            },
            network: Network::Tcp,
            address: address.parse().unwrap(),
            origin: Some([10, 0, 0, 1].into()),
            pod: Some(uuid::Uuid::from_u128(7)),
            attributes: BTreeMap::new(),
        },
        lease: held(),
        is_static: false,
    }))
}

pub(in crate::transfer) fn session(host: &str, port: &str) -> Record {
    let registration = Registration::parse("api", host, port, "9001").unwrap();
    let at = Timestamp::UNIX_EPOCH;
    let id = SessionId::new(&registration.instance, at, [7; 16]);
    Record::Session(Arc::new(SessionRecord {
        key: id.key(),
        front: id.to_string().into(),
        registration,
        registered: at,
        supersedes: vec![],
        routes: Default::default(),
        headers: vec![],
        options: Default::default(),
        maintenance: false,
        lease: held(),
        written_by: "gone".into(),
        is_static: false,
    }))
}

pub(in crate::transfer) fn service(name: &str, born: u64, counter: u64) -> Record {
    Record::Service(Arc::new(ServiceRecord {
        name: ServiceName::parse(name).unwrap(),
        born,
        counter,
        leader_type: LeaderType::Oldest,
        leader: None,
        meta: None,
    }))
}

pub(in crate::transfer) fn instance(name: &str, addr: &str, born: u64, index: u64) -> Record {
    Record::Instance(Arc::new(InstanceRecord {
        service: ServiceName::parse(name).unwrap(),
        born,
        index,
        instance: Instance::new(addr.into(), "tcp".into(), BTreeMap::new()).unwrap(),
        lease: held(),
    }))
}

pub(in crate::transfer) fn present(records: &[Record]) -> Present {
    let stored = |(n, record): (usize, &Record)| Stored {
        record: record.clone(),
        revision: Revision(n as u64 + 1),
    };
    let stored = records.iter().enumerate().map(stored);
    stored.map(|stored| (stored.record.key(), stored)).collect()
}

#[test]
fn nobody_of_before_holds_what_is_imported() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let Record::Endpoint(record) = prepared(&endpoint("t", "c", "h:1"), UNHEARD_FOR, now) else {
        panic!()
    };
    assert_eq!(
        record.lease,
        Lease::released(Released::Silent, now, 10 * MINUTE)
    );
    assert_eq!(record.endpoint.pod, None);
    assert!(record.endpoint.origin.is_some());
    let Record::Session(record) = prepared(&session("h", "1"), UNHEARD_FOR, now) else {
        panic!()
    };
    assert_eq!(record.lease, Lease::held(HOLDER.into(), now, MINUTE));
    assert_eq!(&*record.written_by, "");
    let Record::Instance(record) = prepared(&instance("db", "h:1", 7, 8), UNHEARD_FOR, now) else {
        panic!()
    };
    assert_eq!(record.lease, Lease::held(HOLDER.into(), now, MINUTE));
    assert_eq!((record.born, record.index), (7, 8));
    assert_eq!(
        prepared(&service("db", 7, 9), UNHEARD_FOR, now),
        service("db", 7, 9)
    );
}

#[test]
fn what_is_kept_by_hand_stays_as_it_is() {
    let Record::Endpoint(mut record) = endpoint("t", "c", "h:1") else {
        panic!()
    };
    Arc::make_mut(&mut record).is_static = true;
    let record = Record::Endpoint(record);
    assert_eq!(prepared(&record, UNHEARD_FOR, Now::read().wall), record);
}

#[test]
fn who_renews_seldom_has_longer() {
    let lease = |seconds| held().renewed_every(Duration::from_secs(seconds));
    let patience = |seconds| unheard(&lease(seconds), UNHEARD_FOR, Timestamp::UNIX_EPOCH);
    assert_eq!(patience(15).duration(), 10 * MINUTE);
    assert_eq!(patience(120).duration(), 10 * MINUTE);
    assert_eq!(patience(120).interval(), Some(2 * MINUTE));
    assert_eq!(patience(300).duration(), 20 * MINUTE);
}

#[test]
fn what_the_store_has_is_kept_unless_it_is_to_be_replaced() {
    let ours = endpoint("t", "c", "h:1");
    assert_eq!(
        step(&ours, &Present::default(), false),
        Step::Create(ours.clone())
    );
    // Somebody maintains it there.
    let Record::Endpoint(mut same) = ours.clone() else {
        panic!()
    };
    Arc::make_mut(&mut same).lease = Lease::held("alive".into(), Now::read().wall, MINUTE);
    let same = present(&[Record::Endpoint(same)]);
    for replace in [false, true] {
        assert_eq!(step(&ours, &same, replace), Step::There);
    }
    let other = present(&[endpoint("t", "c", "h:2")]);
    assert_eq!(step(&ours, &other, false), Step::Refuse(Refusal::Different));
    assert_eq!(step(&ours, &other, true), Step::Replace(ours, Revision(1)));
}

#[test]
fn a_service_that_went_on_is_the_same_one() {
    let ours = service("db", 7, 9);
    for (theirs, expected) in [
        (service("db", 7, 9), Step::There),
        (service("db", 7, 12), Step::There),
        (service("db", 7, 8), Step::Refuse(Refusal::Different)),
        (service("db", 3, 12), Step::Refuse(Refusal::Different)),
    ] {
        assert_eq!(step(&ours, &present(&[theirs]), false), expected);
    }
}

#[test]
fn an_instance_belongs_to_one_life_of_its_service() {
    let ours = instance("db", "h:1", 7, 8);
    for (theirs, expected) in [
        (vec![], Step::Refuse(Refusal::NoService)),
        (
            vec![service("db", 3, 9)],
            Step::Refuse(Refusal::OtherService),
        ),
        (vec![service("db", 7, 9)], Step::Create(ours.clone())),
        (vec![service("db", 7, 9), ours.clone()], Step::There),
    ] {
        assert_eq!(step(&ours, &present(&theirs), false), expected);
    }
    let theirs = [service("db", 7, 9), instance("db", "h:1", 7, 9)];
    assert_eq!(
        step(&ours, &present(&theirs), false),
        Step::Refuse(Refusal::Different)
    );
}
