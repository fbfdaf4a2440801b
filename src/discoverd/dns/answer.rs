//! Which records answer a question.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::discoverd::Services;
use crate::discoverd::dns::domain::{Asked, Domain, INSTANCES};
use crate::discoverd::instance::InstanceId;
use crate::discoverd::name::ServiceName;
use crate::discoverd::problem::Problem;
use crate::discoverd::record::InstanceRecord;

/// Every instance is as good as any other: `SRV` records have one priority and
/// one weight.
const PRIORITY: u16 = 1;
const WEIGHT: u16 = 1;

/// A domain, as it is served.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name.
    pub domain: Domain,
    /// How long others may keep an answer, also one that says that there is
    /// nothing. Whole seconds.
    pub ttl: Duration,
}

/// What services there are.
pub trait Known: Send + Sync {
    /// The instances of a service.
    ///
    /// # Errors
    /// When there is no such service, or nobody knows yet.
    fn instances(&self, name: &ServiceName) -> Result<Vec<Arc<InstanceRecord>>, Problem>;

    /// Who leads a service.
    ///
    /// # Errors
    /// When nobody does, or nobody knows yet.
    fn leader(&self, name: &ServiceName) -> Result<Arc<InstanceRecord>, Problem>;
}

impl Known for Services {
    fn instances(&self, name: &ServiceName) -> Result<Vec<Arc<InstanceRecord>>, Problem> {
        Self::instances(self, name)
    }

    fn leader(&self, name: &ServiceName) -> Result<Arc<InstanceRecord>, Problem> {
        Self::leader(self, name)
    }
}

/// What is said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub code: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The domain's `SOA` where there is nothing: how long that may be kept.
    pub authorities: Vec<Record>,
    /// The addresses of what `answers` name.
    pub additionals: Vec<Record>,
}

impl Answer {
    /// One without records.
    #[must_use]
    pub fn empty(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    /// Whether it is the domain that says so, and not this server of itself.
    #[must_use]
    pub fn is_authoritative(&self) -> bool {
        matches!(self.code, ResponseCode::NoError | ResponseCode::NXDomain)
    }
}

/// Where an instance is reached.
#[derive(Clone, Debug)]
struct Place {
    service: ServiceName,
    id: InstanceId,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug)]
enum Host {
    Ip(IpAddr),
    /// A host with a name of its own, which others resolve.
    Named(Name),
}

impl Place {
    /// None where nobody could reach it: without a host, or with one that is no
    /// name in DNS.
    fn of(record: &InstanceRecord) -> Option<Self> {
        let (host, port) = record.instance.addr.rsplit_once(':')?;
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => Host::Ip(ip.to_canonical()),
            Err(_) => Host::Named(host_name(host)?),
        };
        Some(Self {
            service: record.service.clone(),
            id: record.instance.id,
            host,
            port: port.parse().ok()?,
        })
    }

    fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Named(_) => None,
        }
    }
}

/// The name of a host, from the root.
fn host_name(text: &str) -> Option<Name> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(fits) {
        return None;
    }
    let mut name = Name::from_ascii(text).ok().filter(|name| !name.is_root())?;
    name.set_fqdn(true);
    Some(name)
}

impl Zone {
    /// What is said to a question. Where more than `most` records of a type would
    /// answer it, `rng` draws them; it draws their order too.
    #[must_use]
    pub fn answer(&self, query: &Query, known: &dyn Known, most: usize, rng: &mut Rng) -> Answer {
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Answer::empty(ResponseCode::Refused);
        }
        let asked = self.domain.asked(query.name());
        if asked == Asked::Elsewhere
            || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR)
        {
            return Answer::empty(ResponseCode::Refused);
        }
        let instances = match find(&asked, known) {
            Ok(instances) => instances,
            Err(Missing::Knowledge) => return Answer::empty(ResponseCode::ServFail),
            Err(Missing::Name) => return self.nothing(ResponseCode::NXDomain),
        };
        let places = instances.iter().filter_map(|record| Place::of(record));
        let mut answer = self.records(query, &places.collect::<Vec<_>>(), most, rng);
        if query.query_type() == RecordType::SOA && query.name() == self.domain.name() {
            answer.answers.push(self.soa(query.name().clone()));
        }
        if answer.answers.is_empty() {
            return self.nothing(ResponseCode::NoError);
        }
        answer
    }

    fn records(&self, query: &Query, places: &[Place], most: usize, rng: &mut Rng) -> Answer {
        let (name, wanted) = (query.name(), query.query_type());
        let wants = |kind| wanted == kind || wanted == RecordType::ANY;
        let mut answer = Answer::empty(ResponseCode::NoError);

        let mut ips: Vec<IpAddr> = places.iter().filter_map(Place::ip).collect();
        ips.retain(|ip| wants(kind(*ip)));
        ips.sort_unstable();
        ips.dedup();
        draw(&mut ips, most, rng);
        answer
            .answers
            .extend(ips.into_iter().map(|ip| self.address(name.clone(), ip)));

        if wants(RecordType::SRV) {
            let mut places: Vec<&Place> = places.iter().collect();
            draw(&mut places, most, rng);
            for place in places {
                let target = match &place.host {
                    Host::Named(host) => Some(host.clone()),
                    Host::Ip(_) => self.name_of(place),
                };
                let Some(target) = target else {
                    continue;
                };
                if let Host::Ip(ip) = place.host {
                    answer.additionals.push(self.address(target.clone(), ip));
                }
                let data = RData::SRV(SRV::new(PRIORITY, WEIGHT, place.port, target));
                answer.answers.push(self.record(name.clone(), data));
            }
        }
        answer
    }

    fn nothing(&self, code: ResponseCode) -> Answer {
        Answer {
            authorities: vec![self.soa(self.domain.name().clone())],
            ..Answer::empty(code)
        }
    }

    /// The name that an instance has of its own. The bounds of its parts make it
    /// fit.
    fn name_of(&self, place: &Place) -> Option<Name> {
        let id = place.id.to_string();
        let labels = [&id, place.service.as_str(), INSTANCES].map(str::as_bytes);
        let name = Name::from_labels(labels).ok()?;
        name.append_domain(self.domain.name()).ok()
    }

    fn address(&self, name: Name, ip: IpAddr) -> Record {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(ip.into()),
            IpAddr::V6(ip) => RData::AAAA(ip.into()),
        };
        self.record(name, data)
    }

    /// Nobody transfers the domain, so its serial number says nothing, and neither
    /// do the times. The last figure is how long "nothing" may be kept (RFC 2308).
    fn soa(&self, name: Name) -> Record {
        let within = |label: &str| {
            let domain = self.domain.name();
            domain
                .prepend_label(label)
                .unwrap_or_else(|_| domain.clone())
        };
        let (primary, mailbox) = (within("ns"), within("hostmaster"));
        let data = SOA::new(primary, mailbox, 1, 3_600, 600, 86_400, self.seconds());
        self.record(name, RData::SOA(data))
    }

    fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.seconds(), data)
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX)
    }
}

/// Why there is nothing to answer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// There is no such name.
    Name,
    /// Nobody knows yet.
    Knowledge,
}

impl From<Problem> for Missing {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::NotReady => Self::Knowledge,
            _ => Self::Name,
        }
    }
}

/// The instances that are asked for.
fn find(asked: &Asked, known: &dyn Known) -> Result<Vec<Arc<InstanceRecord>>, Missing> {
    let mut instances = match asked {
        Asked::Elsewhere | Asked::Nothing => return Err(Missing::Name),
        Asked::Within => return Ok(Vec::new()),
        Asked::Leader(name) => return Ok(vec![known.leader(name)?]),
        Asked::WithinService(name)
        | Asked::Service(name)
        | Asked::Protocol(name, _)
        | Asked::Instance(name, _) => known.instances(name)?,
    };
    match asked {
        Asked::WithinService(_) => instances.clear(),
        Asked::Protocol(_, protocol) => {
            instances.retain(|record| record.instance.proto == *protocol);
        }
        Asked::Instance(_, id) => {
            instances.retain(|record| record.instance.id == *id);
            if instances.is_empty() {
                return Err(Missing::Name);
            }
        }
        _ => {}
    }
    Ok(instances)
}

fn kind(ip: IpAddr) -> RecordType {
    match ip {
        IpAddr::V4(_) => RecordType::A,
        IpAddr::V6(_) => RecordType::AAAA,
    }
}

/// Leaves at most so many, in any order.
fn draw<T>(all: &mut Vec<T>, most: usize, rng: &mut Rng) {
    rng.shuffle(all);
    all.truncate(most);
}

#[cfg(test)]
pub(crate) mod tests;
