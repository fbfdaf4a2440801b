//! Records for the tests of the contract, in versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tunnel_registry::discoverd::meta::Json;
use tunnel_registry::discoverd::record::ServiceMeta;
use tunnel_registry::discoverd::{
    Instance, InstanceId, InstanceRecord, LeaderType, ServiceName, ServiceRecord,
};
use tunnel_registry::lease::Lease;
use tunnel_registry::record::{
    Endpoint, EndpointKey, EndpointRecord, Name, Network, Record, ReplicaRecord,
};
use tunnel_registry::session::{Change, Command, SessionKey, SessionRecord};

/// A record of a connector, at `port` so that versions of it differ.
pub(crate) fn record(tunnel: &str, connector: &str, port: u16) -> Record {
    let name = |text: &str| Name::parse(text).unwrap();
    Record::Endpoint(Arc::new(EndpointRecord {
        endpoint: Endpoint {
            key: EndpointKey {
                tunnel: name(tunnel),
                node: name("node"),
                connector: name(connector),
            },
            network: Network::Tcp,
            address: format!("10.0.0.1:{port}").parse().unwrap(),
            origin: None,
            pod: None,
            attributes: BTreeMap::new(),
        },
        lease: Lease::held(
            "replica".into(),
            "2026-01-01T00:00:00Z".parse().unwrap(),
            Duration::from_secs(60),
        ),
        is_static: false,
    }))
}

/// A record of a replica; versions of it differ in all that may.
pub(crate) fn replica(identity: &str, version: u32) -> Record {
    let suspects = (1..version).map(|node| node.to_string().parse().unwrap());
    Record::Replica(Arc::new(ReplicaRecord {
        identity: identity.into(),
        renew_time: format!("2026-01-01T00:00:{version:02}Z").parse().unwrap(),
        duration_seconds: 40 + version,
        stopped: version.is_multiple_of(2),
        suspects: suspects.collect(),
    }))
}

/// A record of a session; versions of it differ in all that may.
pub(crate) fn session(host: &str, version: u32) -> Record {
    let id = format!("{host}-1-1767225600-0123456789abcdef");
    let announced = |line: String| match Command::parse(&line) {
        Ok(Command::Change(_, change)) => change,
        other => panic!("{line}: {other:?}"),
    };
    let register = format!("REGISTER|api|{host}|9000|9001");
    let Ok(Command::Register(registration)) = Command::parse(&register) else {
        panic!("{register}");
    };
    let at = format!("2026-01-01T00:00:{version:02}Z").parse().unwrap();
    let mut record = SessionRecord {
        key: SessionKey::of(&id),
        front: format!("{host}-1-1767225600").into(),
        registration,
        registered: "2026-01-01T00:00:00Z".parse().unwrap(),
        supersedes: vec![SessionKey::of("before")],
        routes: Default::default(),
        headers: Vec::new(),
        options: Default::default(),
        maintenance: false,
        written_by: format!("replica {version}").into(),
        lease: Lease::held("replica".into(), at, Duration::from_secs(60)),
        is_static: false,
    };
    for number in 0..version {
        for line in [
            format!("ROUTE|s|a.com,*.b{version}.com|/v{number}|http://{host}:900{number}"),
            format!("HEADER|s|X-{number}|= \"{version}\""),
            format!("OPTIONS|s|timeout|{version}s"),
        ] {
            record = record.with(&announced(line)).unwrap();
        }
    }
    let maintenance = Change::Maintenance(version.is_multiple_of(2));
    Record::Session(Arc::new(record.with(&maintenance).unwrap()))
}

/// A record of a service; versions of it differ in all that may.
pub(crate) fn service(name: &str, version: u8) -> Record {
    let data = RawValue::from_string(format!("{{\"a\": [{version}, \"=\"]}}")).unwrap();
    let meta = ServiceMeta {
        data: Json::new(&data).unwrap(),
        index: u64::from(version),
    };
    Record::Service(Arc::new(ServiceRecord {
        name: ServiceName::parse(name).unwrap(),
        born: u64::MAX - u64::from(version),
        counter: u64::from(version),
        leader_type: match version.is_multiple_of(2) {
            true => LeaderType::Manual,
            false => LeaderType::Oldest,
        },
        leader: version
            .is_multiple_of(2)
            .then(|| InstanceId::of("tcp", "h:1")),
        meta: (version > 1).then_some(meta),
    }))
}

/// A record of an instance; versions of it differ in all that may.
pub(crate) fn instance(service: &str, host: &str, version: u8) -> Record {
    let meta = (1..version).map(|number| (format!("k {number}\n"), format!("= \"{version}\"")));
    let addr = format!("{host}:80");
    Record::Instance(Arc::new(InstanceRecord {
        service: ServiceName::parse(service).unwrap(),
        born: u64::from(version),
        index: u64::MAX - u64::from(version),
        instance: Instance::new(addr, "http".into(), meta.collect()).unwrap(),
        lease: Lease::held(
            format!("replica {version}").into(),
            "2026-01-01T00:00:00Z".parse().unwrap(),
            Duration::from_secs(10),
        ),
    }))
}
