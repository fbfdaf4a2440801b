use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::*;
use crate::discoverd::instance::Instance;
use crate::lease::Lease;

/// The services of a test: each instance's protocol and address, the leader first.
pub(crate) struct Few(pub(crate) Vec<(&'static str, Vec<(&'static str, String)>)>);

impl Few {
    pub(crate) fn record(service: &str, proto: &str, addr: &str) -> Arc<InstanceRecord> {
        let instance = Instance::new(addr.into(), proto.into(), BTreeMap::new()).unwrap();
        let ttl = Duration::from_secs(10);
        Arc::new(InstanceRecord {
            service: ServiceName::parse(service).unwrap(),
            born: 1,
            index: 1,
            instance,
            lease: Lease::held("r".into(), Timestamp::UNIX_EPOCH, ttl),
        })
    }

    /// One service, `db`.
    pub(crate) fn db(instances: &[(&'static str, &str)]) -> Self {
        let instances = instances.iter();
        let instances = instances.map(|(proto, addr)| (*proto, (*addr).to_owned()));
        Self(vec![("db", instances.collect())])
    }
}

impl Known for Few {
    fn instances(&self, name: &ServiceName) -> Result<Vec<Arc<InstanceRecord>>, Problem> {
        if self.0.is_empty() {
            return Err(Problem::NotReady);
        }
        let found = self.0.iter().find(|(service, _)| *service == name.as_str());
        let (service, instances) = found.ok_or_else(|| Problem::NoService(name.clone()))?;
        let instances = instances.iter();
        Ok(instances
            .map(|(proto, addr)| Self::record(service, proto, addr))
            .collect())
    }

    fn leader(&self, name: &ServiceName) -> Result<Arc<InstanceRecord>, Problem> {
        match self.instances(name) {
            Err(Problem::NotReady) => Err(Problem::NotReady),
            Ok(instances) if !instances.is_empty() => Ok(Arc::clone(&instances[0])),
            _ => Err(Problem::NoLeader),
        }
    }
}

pub(crate) fn zone() -> Zone {
    Zone {
        domain: "discoverd.".parse().unwrap(),
        ttl: Duration::from_secs(7),
    }
}

fn ask(known: &Few, name: &str, kind: RecordType, most: usize) -> Answer {
    let query = Query::query(Name::from_ascii(name).unwrap(), kind);
    zone().answer(&query, known, most, &mut Rng::with_seed(1))
}

/// The records in short, in their order: name, type, data.
fn shown(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        assert_eq!((record.ttl, record.dns_class), (7, DNSClass::IN));
        format!("{} {} {}", record.name, record.record_type(), record.data)
    };
    records.iter().map(line).collect()
}

fn sorted(records: &[Record]) -> Vec<String> {
    let mut all = shown(records);
    all.sort();
    all
}

const ALL: usize = usize::MAX;
const SOA: &str = "discoverd. SOA ns.discoverd. hostmaster.discoverd. 1 3600 600 86400 7";

fn id(proto: &str, addr: &str) -> InstanceId {
    InstanceId::of(proto, addr)
}

#[test]
fn each_type_has_its_records() {
    let (v4, v6) = ("10.0.0.1:80", "[2001:db8::1]:81");
    let known = Few::db(&[("tcp", v4), ("http", v6)]);
    let (one, two) = (id("tcp", v4), id("http", v6));
    let srv = [
        format!("db.discoverd. SRV 1 1 80 {one}.db._i.discoverd."),
        format!("db.discoverd. SRV 1 1 81 {two}.db._i.discoverd."),
    ];
    let of = |kind| ask(&known, "db.discoverd.", kind, ALL);
    let a = of(RecordType::A);
    assert_eq!(shown(&a.answers), ["db.discoverd. A 10.0.0.1"]);
    assert!(a.additionals.is_empty() && a.authorities.is_empty());
    let aaaa = of(RecordType::AAAA);
    assert_eq!(shown(&aaaa.answers), ["db.discoverd. AAAA 2001:db8::1"]);
    let both = of(RecordType::SRV);
    assert_eq!(sorted(&both.answers), srv);
    let mut addresses = [
        format!("{one}.db._i.discoverd. A 10.0.0.1"),
        format!("{two}.db._i.discoverd. AAAA 2001:db8::1"),
    ];
    addresses.sort();
    assert_eq!(sorted(&both.additionals), addresses);
    let any = of(RecordType::ANY);
    let [first, second] = &srv;
    let expected = [
        "db.discoverd. A 10.0.0.1",
        "db.discoverd. AAAA 2001:db8::1",
        first,
        second,
    ];
    assert_eq!(sorted(&any.answers), expected);
    for kind in [
        RecordType::TXT,
        RecordType::SOA,
        RecordType::NS,
        RecordType::CNAME,
    ] {
        let nothing = of(kind);
        assert_eq!(nothing.code, ResponseCode::NoError, "{kind}");
        assert!(nothing.answers.is_empty(), "{kind}");
        assert_eq!(shown(&nothing.authorities), [SOA], "{kind}");
    }
}

#[test]
fn names_stand_for_some_of_the_instances() {
    let known = Few::db(&[
        ("tcp", "10.0.0.1:80"),
        ("http", "10.0.0.2:80"),
        ("tcp", "10.0.0.3:80"),
    ]);
    let a = |name: &str| {
        let answer = ask(&known, name, RecordType::A, ALL);
        let ips = answer.answers.iter().map(|record| {
            // The case is the question's.
            assert!(record.name.eq_case(&Name::from_ascii(name).unwrap()));
            record.data.to_string()
        });
        ips.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let second = id("http", "10.0.0.2:80");
    assert_eq!(a("DB.discoverd."), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(a("_db._TCP.discoverd."), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(a("_db._http.discoverd."), ["10.0.0.2"]);
    assert_eq!(a("leader.dB.Discoverd."), ["10.0.0.1"]);
    assert_eq!(a(&format!("{second}.db._i.discoverd.")), ["10.0.0.2"]);
    let name = "leader.db.discoverd.";
    let leader = ask(&known, name, RecordType::SRV, ALL);
    let first = id("tcp", "10.0.0.1:80");
    // Not the leader's own name: that may mean another one a moment later.
    assert_eq!(
        shown(&leader.answers),
        [format!("{name} SRV 1 1 80 {first}.db._i.discoverd.")]
    );
}

#[test]
fn what_there_is_not_is_told_apart() {
    use ResponseCode::{NXDomain, NoError, Refused, ServFail};
    let mut known = Few::db(&[("tcp", "10.0.0.1:80")]);
    known.0.push(("empty", Vec::new()));
    let (there, gone) = (id("tcp", "10.0.0.1:80"), id("tcp", "10.0.0.9:80"));
    for (name, code) in [
        ("x.discoverd.", NXDomain),
        ("_x._tcp.discoverd.", NXDomain),
        ("leader.x.discoverd.", NXDomain),
        ("leader.empty.discoverd.", NXDomain),
        ("y.db.discoverd.", NXDomain),
        (&format!("{gone}.db._i.discoverd."), NXDomain),
        (&format!("{there}.x._i.discoverd."), NXDomain),
        ("x._i.discoverd.", NXDomain),
        ("empty.discoverd.", NoError),
        ("_db._udp.discoverd.", NoError),
        ("_empty._tcp.discoverd.", NoError),
        ("discoverd.", NoError),
        ("_tcp.discoverd.", NoError),
        ("db._i.discoverd.", NoError),
        ("example.com.", Refused),
        (".", Refused),
    ] {
        for kind in [
            RecordType::A,
            RecordType::SRV,
            RecordType::ANY,
            RecordType::TXT,
        ] {
            let answer = ask(&known, name, kind, ALL);
            assert_eq!(answer.code, code, "{name} {kind}");
            assert!(answer.answers.is_empty(), "{name} {kind}");
            let expected: &[&str] = if code == Refused { &[] } else { &[SOA] };
            assert_eq!(shown(&answer.authorities), expected, "{name} {kind}");
            assert_eq!(answer.is_authoritative(), code != Refused);
        }
    }
    let apex = ask(&known, "Discoverd.", RecordType::SOA, ALL);
    assert_eq!(apex.code, NoError);
    assert_eq!(
        shown(&apex.answers),
        [SOA.replace("discoverd. SOA", "Discoverd. SOA")]
    );
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(ask(&known, "discoverd.", kind, ALL).code, Refused);
    }
    let mut chaos = Query::query(Name::from_ascii("db.discoverd.").unwrap(), RecordType::A);
    chaos.set_query_class(DNSClass::CH);
    let refused = zone().answer(&chaos, &known, ALL, &mut Rng::with_seed(1));
    assert_eq!(refused.code, Refused);
    let unread = Few(Vec::new());
    for name in [
        "db.discoverd.",
        "leader.db.discoverd.",
        "_db._tcp.discoverd.",
    ] {
        let answer = ask(&unread, name, RecordType::A, ALL);
        assert_eq!(answer, Answer::empty(ServFail), "{name}");
    }
    // Whether a name could be one is known at once.
    assert_eq!(
        ask(&unread, "a.b.discoverd.", RecordType::A, ALL).code,
        NXDomain
    );
}

#[test]
fn few_are_drawn_of_many_and_each_has_its_turn() {
    let addrs: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}:80")).collect();
    let all: Vec<_> = addrs.iter().map(|addr| ("tcp", addr.as_str())).collect();
    let known = Few::db(&all);
    let query = |kind| Query::query(Name::from_ascii("db.discoverd.").unwrap(), kind);
    let mut rng = Rng::with_seed(3);
    let (mut seen, mut first) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..200 {
        let answer = zone().answer(&query(RecordType::A), &known, 3, &mut rng);
        let drawn = shown(&answer.answers);
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 3);
        first.insert(drawn[0].clone());
        seen.extend(drawn);
    }
    assert_eq!((seen.len(), first.len()), (9, 9));
    let srv = zone().answer(&query(RecordType::SRV), &known, 3, &mut rng);
    assert_eq!((srv.answers.len(), srv.additionals.len()), (3, 3));
    let named: BTreeSet<_> = srv
        .additionals
        .iter()
        .map(|record| record.name.to_string())
        .collect();
    for record in &srv.answers {
        let target = record.data.to_string();
        assert!(
            named.iter().any(|name| target.ends_with(name.as_str())),
            "{target}"
        );
    }
    let any = zone().answer(&query(RecordType::ANY), &known, 3, &mut rng);
    assert_eq!(any.answers.len(), 6);
    let whole = zone().answer(&query(RecordType::A), &known, ALL, &mut rng);
    assert_eq!(whole.answers.len(), 9);
}

#[test]
fn hosts_with_names_are_left_to_others() {
    let known = Few::db(&[
        ("tcp", "pg.example.com:5432"),
        ("tcp", "10.0.0.1:80"),
        ("tcp", ":81"),
        ("tcp", "a..b:82"),
        ("tcp", "_x!:83"),
        ("tcp", "[fe80::1%eth0]:84"),
    ]);
    let a = ask(&known, "db.discoverd.", RecordType::A, ALL);
    assert_eq!(shown(&a.answers), ["db.discoverd. A 10.0.0.1"]);
    let srv = ask(&known, "db.discoverd.", RecordType::SRV, ALL);
    let one = id("tcp", "10.0.0.1:80");
    let mut expected = [
        "db.discoverd. SRV 1 1 5432 pg.example.com.".to_owned(),
        format!("db.discoverd. SRV 1 1 80 {one}.db._i.discoverd."),
    ];
    expected.sort();
    assert_eq!(sorted(&srv.answers), expected);
    assert_eq!(srv.additionals.len(), 1);
    let leader = ask(&known, "leader.db.discoverd.", RecordType::A, ALL);
    assert_eq!(leader.code, ResponseCode::NoError);
    assert_eq!(shown(&leader.authorities), [SOA]);
}

#[test]
fn one_address_with_many_ports_is_one_address() {
    let known = Few::db(&[
        ("tcp", "10.0.0.1:80"),
        ("tcp", "10.0.0.1:81"),
        ("udp", "[::ffff:10.0.0.1]:80"),
    ]);
    let a = ask(&known, "db.discoverd.", RecordType::A, ALL);
    assert_eq!(shown(&a.answers), ["db.discoverd. A 10.0.0.1"]);
    assert_eq!(
        ask(&known, "db.discoverd.", RecordType::SRV, ALL)
            .answers
            .len(),
        3
    );
    assert_eq!(
        ask(&known, "db.discoverd.", RecordType::ANY, ALL)
            .answers
            .len(),
        4
    );
}
