//! Pools: places with one path and the same offers, and in which Services their
//! backends are.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{Addresses, Standing};
use crate::map::Map;
use crate::resources::gateway::MAX_BACKENDS;
use crate::resources::gateway::MAX_PATH;
use crate::session::header::Header;
use crate::session::options::Options;
use crate::session::place::{Domain, Path, Place};
use crate::session::route::{BackendUrl, Scheme};
use crate::session::served::Offer;
use crate::session::{SessionKey, SessionRecord};

/// The most headers that one rule sets.
const MAX_HEADERS: usize = 16;

/// How a Gateway speaks to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS.
    H2c,
    /// Websockets, over HTTP/1.1.
    Ws,
    /// HTTP over TLS.
    Https,
    /// Websockets over TLS.
    Wss,
}

impl Protocol {
    /// A backend that may have websockets as well is spoken to in HTTP/1.1, which
    /// every backend with them understands.
    #[must_use]
    pub fn of(backend: &BackendUrl, options: &Options) -> Self {
        let ws = options.websocket == Some(true);
        match backend.scheme() {
            Scheme::Ws => Self::Ws,
            Scheme::Wss => Self::Wss,
            Scheme::Https if ws => Self::Wss,
            Scheme::Https => Self::Https,
            Scheme::Http if ws => Self::Ws,
            Scheme::Http if options.http2 == Some(true) => Self::H2c,
            Scheme::Http => Self::Http,
        }
    }

    /// What `appProtocol` says of it. HTTP/1.1 is said, too: what nobody says may be
    /// said by somebody else.
    #[must_use]
    pub fn app_protocol(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "kubernetes.io/h2c",
            Self::Ws => "kubernetes.io/ws",
            Self::Https => "https",
            Self::Wss => "kubernetes.io/wss",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.app_protocol())
    }
}

/// What one Service can hold: backends that are spoken to in one way, and have
/// the same weight. None of its addresses has two ports: there are Gateways that
/// tell the backends of a Service apart by their address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// How they are spoken to.
    pub protocol: Protocol,
    /// The weight of each.
    pub weight: u16,
    /// Tells classes apart that are otherwise the same.
    pub lane: usize,
}

/// A session in a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The session.
    pub session: Arc<SessionRecord>,
    /// Where it serves.
    pub backend: BackendUrl,
    /// At which addresses; none when they are not known.
    pub addresses: Vec<IpAddr>,
}

impl Member {
    /// Whether requests may go to it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.session.maintenance
    }

    /// Whether requests can go to it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_active() && !self.addresses.is_empty()
    }
}

/// Places of one service with one path and the same offers.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The name of the service.
    pub service: String,
    /// The path.
    pub path: Path,
    /// The domains, in order.
    pub domains: Vec<Domain>,
    /// All sessions that serve it, the oldest first.
    pub sessions: Vec<SessionKey>,
    /// Who is in which Service, the oldest first.
    pub classes: BTreeMap<Class, Vec<Member>>,
    /// What takes the place of the path, if anything does.
    pub rewrite: Option<String>,
    /// The headers that are set, each once.
    pub headers: Vec<Header>,
    /// How long a request may take, in milliseconds; 0 is without end.
    pub timeout_ms: Option<u64>,
    /// Who is left out because the newest session's backend has another path.
    other_path: Vec<SessionKey>,
    /// Who is left out because a rule has too few backends.
    too_many: Vec<SessionKey>,
    /// Who has a host without an address, or with none that could be dialled.
    unknown: Vec<(SessionKey, BackendUrl, bool)>,
}

/// The pools of what is served, in the order of their paths and first domains.
#[must_use]
pub fn pools(served: BTreeMap<Place, Vec<Offer>>, addresses: &Addresses) -> Vec<Pool> {
    type Key = (Path, Vec<(SessionKey, Arc<str>)>);
    let mut grouped: BTreeMap<Key, (Vec<Domain>, Vec<Offer>)> = BTreeMap::new();
    for (place, offers) in served {
        let who = offers
            .iter()
            .map(|offer| (offer.session.key, offer.backend.as_str().into()));
        let key = (place.path, who.collect());
        let (domains, _) = grouped.entry(key).or_insert_with(|| (Vec::new(), offers));
        domains.push(place.domain);
    }
    let pools = grouped.into_iter();
    let mut pools: Vec<_> = pools
        .filter_map(|((path, _), (domains, offers))| pool(path, domains, offers, addresses))
        .collect();
    pools.sort_by(|one, other| (&one.path, &one.domains).cmp(&(&other.path, &other.domains)));
    pools
}

fn pool(
    path: Path,
    domains: Vec<Domain>,
    offers: Vec<Offer>,
    addresses: &Addresses,
) -> Option<Pool> {
    // Who gets requests decides, as long as there is anybody.
    let deciding: Vec<_> = offers
        .iter()
        .filter(|offer| gets_requests(&offer.session))
        .collect();
    let deciding = match deciding.is_empty() {
        true => offers.iter().collect(),
        false => deciding,
    };
    let newest = *deciding.last()?;
    let service = newest.session.registration.instance.service.to_string();
    let base = base(&newest.backend).to_owned();
    let rewrite = rewrite(&base, &path);
    let sessions = offers.iter().map(|offer| offer.session.key).collect();
    let newest_first = || deciding.iter().rev().map(|offer| &*offer.session);
    let mut pool = Pool {
        service,
        path,
        domains,
        sessions,
        classes: BTreeMap::new(),
        rewrite,
        headers: headers(newest_first()),
        timeout_ms: newest_first().find_map(|session| session.options.timeout_ms),
        other_path: Vec::new(),
        too_many: Vec::new(),
        unknown: Vec::new(),
    };
    let too_long = pool
        .rewrite
        .as_ref()
        .is_some_and(|path| path.len() > MAX_PATH);
    let mut lanes: Map<(Protocol, u16), Lanes> = Map::default();
    for offer in offers {
        let key = offer.session.key;
        if too_long || self::base(&offer.backend) != base {
            pool.other_path.push(key);
            continue;
        }
        let member = pool.member(offer, addresses);
        let options = &member.session.options;
        let protocol = Protocol::of(&member.backend, options);
        let weight = options.weight.unwrap_or(Options::WEIGHT);
        let lanes = lanes.entry((protocol, weight)).or_default();
        let class = Class {
            protocol,
            weight,
            lane: lanes.take(&member),
        };
        if pool.classes.len() >= MAX_BACKENDS && !pool.classes.contains_key(&class) {
            pool.too_many.push(key);
            continue;
        }
        pool.classes.entry(class).or_default().push(member);
    }
    Some(pool)
}

impl Pool {
    fn member(&mut self, offer: Offer, addresses: &Addresses) -> Member {
        let Offer { session, backend } = offer;
        let known = addresses.get(backend.host()).map_or(&[][..], |known| known);
        let usable: Vec<_> = known.iter().copied().filter(is_usable).collect();
        if usable.is_empty() {
            let unreachable = !known.is_empty();
            self.unknown
                .push((session.key, backend.clone(), unreachable));
        }
        Member {
            session,
            backend,
            addresses: usable,
        }
    }

    /// Tells how sessions stand here.
    pub fn tell(&self, standings: &mut BTreeMap<SessionKey, Standing>) {
        let place = || match (self.domains.first(), self.domains.len()) {
            (Some(first), 1) => format!("{first}{}", self.path),
            (Some(first), count) => format!("{first}{} and {} more", self.path, count - 1),
            (None, _) => self.path.to_string(),
        };
        for key in &self.other_path {
            if let Some(standing) = standings.get_mut(key) {
                standing.other_path.push(place());
            }
        }
        for key in &self.too_many {
            if let Some(standing) = standings.get_mut(key) {
                standing.too_many.push(place());
            }
        }
        for (key, backend, unreachable) in &self.unknown {
            if let Some(standing) = standings.get_mut(key) {
                let hosts = match unreachable {
                    true => &mut standing.unreachable,
                    false => &mut standing.unresolved,
                };
                if !hosts.contains(backend.host()) {
                    hosts.push(backend.host().clone());
                }
            }
        }
    }

    /// Whether no session may get requests: all are in maintenance, or drain.
    #[must_use]
    pub fn is_in_maintenance(&self) -> bool {
        let mut members = self.classes.values().flatten();
        !members.any(|member| gets_requests(&member.session))
    }

    /// The classes that requests go to, each with its weight; none says no more
    /// than one class alone does.
    #[must_use]
    pub fn shares(&self) -> Vec<(Class, Option<u32>)> {
        let count = |fits: fn(&Member) -> bool| -> Vec<(Class, u64)> {
            let classes = self.classes.iter();
            let counted = classes.map(|(class, members)| {
                let count = members.iter().filter(|member| fits(member)).count();
                (*class, count as u64)
            });
            counted.filter(|(_, count)| *count > 0).collect()
        };
        // Those that nobody can reach get no requests while others can be reached.
        let mut counted = count(Member::is_ready);
        if counted.is_empty() {
            counted = count(Member::is_active);
        }
        if counted.is_empty() {
            counted = count(|_| true);
        }
        if let [(class, _)] = counted.as_slice() {
            let drained = (class.weight == 0).then_some(0);
            return vec![(*class, drained)];
        }
        let weights = counted
            .iter()
            .map(|(class, count)| u64::from(class.weight) * count);
        let heaviest = weights.clone().max().unwrap_or_default();
        let most = u64::from(crate::resources::gateway::MAX_WEIGHT);
        let scaled = weights.map(|weight| match heaviest > most {
            true if weight > 0 => (weight.saturating_mul(most) / heaviest).max(1),
            _ => weight,
        });
        let scaled: Vec<_> = scaled.map(|weight| u32::try_from(weight).ok()).collect();
        let classes = counted.into_iter().map(|(class, _)| class);
        classes.zip(scaled).collect()
    }
}

/// Whether a session gets requests: it is not in maintenance, and does not drain.
fn gets_requests(session: &SessionRecord) -> bool {
    !session.maintenance && session.options.weight.unwrap_or(Options::WEIGHT) > 0
}

/// Which addresses the lanes have, and at which port.
#[derive(Debug, Default)]
struct Lanes(Vec<Map<IpAddr, NonZeroU16>>);

impl Lanes {
    /// The first lane in which none of the addresses has another port.
    fn take(&mut self, member: &Member) -> usize {
        let Some(port) = NonZeroU16::new(member.backend.port()) else {
            return 0;
        };
        let fits = |lane: &Map<IpAddr, NonZeroU16>| {
            let mut known = member.addresses.iter().filter_map(|ip| lane.get(ip));
            known.all(|known| *known == port)
        };
        let lane = self.0.iter().position(fits).unwrap_or(self.0.len());
        if lane == self.0.len() {
            self.0.push(Map::default());
        }
        if let Some(lane) = self.0.get_mut(lane) {
            lane.extend(member.addresses.iter().map(|ip| (*ip, port)));
        }
        lane
    }
}

/// Whether the API server takes it for the address of a backend: another host
/// can dial it.
fn is_usable(ip: &IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local)
}

/// What a backend has before the paths that it is asked for.
fn base(backend: &BackendUrl) -> &str {
    backend.path().trim_end_matches('/')
}

/// What takes the place of a path so that a backend's own is before it.
fn rewrite(base: &str, path: &Path) -> Option<String> {
    match (base, path.as_str()) {
        ("", _) => None,
        (base, "/") => Some(base.into()),
        (base, path) => Some(format!("{base}{path}")),
    }
}

/// The headers of all sessions; of several with one name the newest session's. In
/// the order of their names, so that it is the same whoever came first.
fn headers<'a>(newest_first: impl Iterator<Item = &'a SessionRecord>) -> Vec<Header> {
    let mut all: Vec<Header> = Vec::new();
    for session in newest_first {
        for header in &session.headers {
            let known = all.iter().any(|known| known.name.is(&header.name));
            if !known && all.len() < MAX_HEADERS {
                all.push(header.clone());
            }
        }
    }
    all.sort_by_key(|header| header.name.as_str().to_ascii_lowercase());
    all
}
