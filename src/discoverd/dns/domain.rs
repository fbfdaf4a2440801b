//! The domain, and what a name under it asks for.

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::Name;

use crate::discoverd::instance::InstanceId;
use crate::discoverd::name::ServiceName;

/// The longest domain, in bytes without its last dot. The longest name under it
/// has 101 bytes before that, and a name has 253 (RFC 1035 §2.3.4).
pub const MAX_BYTES: usize = 100;

/// The label under which each instance has a name of its own.
pub(super) const INSTANCES: &str = "_i";
/// The label of whoever leads a service.
const LEADER: &str = "leader";

/// The domain whose names are services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(Name);

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is not under the domain.
    Elsewhere,
    /// The domain itself, or what is only a part of longer names. There is
    /// nothing at it.
    Within,
    /// What is only a part of longer names, if there is such a service.
    WithinService(ServiceName),
    /// The instances of a service.
    Service(ServiceName),
    /// Those with this protocol.
    Protocol(ServiceName, String),
    /// The instance that leads a service.
    Leader(ServiceName),
    /// One instance.
    Instance(ServiceName, InstanceId),
    /// Nothing that there could be.
    Nothing,
}

impl Domain {
    /// Its name, which ends with the root.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// What a name asks for. Letters of either case are the same.
    pub(super) fn asked(&self, name: &Name) -> Asked {
        if !self.0.zone_of(name) {
            return Asked::Elsewhere;
        }
        let under = name.iter().count().saturating_sub(self.0.iter().count());
        let labels = name.iter().take(under);
        let labels: Option<Vec<String>> = labels.map(lower_case).collect();
        let Some(labels) = labels else {
            return Asked::Nothing;
        };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        asked(&labels).unwrap_or(Asked::Nothing)
    }
}

/// What these labels ask for, the first first.
fn asked(labels: &[&str]) -> Option<Asked> {
    let service = |label: &str| ServiceName::parse(label).ok();
    Some(match *labels {
        [] | [INSTANCES] => Asked::Within,
        [label] => match label.strip_prefix('_') {
            // `_tcp` and the like.
            Some(_) => Asked::Within,
            None => Asked::Service(service(label)?),
        },
        [name, INSTANCES] => Asked::WithinService(service(name)?),
        [LEADER, name] => Asked::Leader(service(name)?),
        [name, protocol] => {
            let (name, protocol) = (name.strip_prefix('_')?, protocol.strip_prefix('_')?);
            Asked::Protocol(service(name)?, protocol.to_owned())
        }
        [id, name, INSTANCES] => Asked::Instance(service(name)?, InstanceId::parse(id)?),
        _ => return None,
    })
}

fn lower_case(label: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(label).ok()?;
    Some(text.to_ascii_lowercase())
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Domain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = "must be a domain of letters, digits and dashes with at most 100 characters, such as discoverd. or services.example.com.";
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.len() > MAX_BYTES || !text.bytes().all(fits) || text.split('.').any(str::is_empty) {
            return Err(error);
        }
        Name::from_ascii(text + ".").map(Self).map_err(|_| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_asks_for() {
        let domain: Domain = "discoverd".parse().unwrap();
        let id = "cb6ddf019e39bc41371b307e22939e3d";
        let service = |name: &str| ServiceName::parse(name).unwrap();
        let (db, known) = (service("db"), InstanceId::parse(id).unwrap());
        for (name, expected) in [
            ("db.discoverd.", Asked::Service(db.clone())),
            ("DB.Discoverd.", Asked::Service(db.clone())),
            ("leader.discoverd.", Asked::Service(service("leader"))),
            (
                "_db._http.discoverd.",
                Asked::Protocol(db.clone(), "http".into()),
            ),
            (
                "_dB._TCP.discoverd.",
                Asked::Protocol(db.clone(), "tcp".into()),
            ),
            ("leader.db.discoverd.", Asked::Leader(db.clone())),
            ("Leader.Db.discoverd.", Asked::Leader(db.clone())),
            (
                &format!("{id}.db._i.discoverd."),
                Asked::Instance(db.clone(), known),
            ),
            (
                &format!("{}.db._I.discoverd.", id.to_uppercase()),
                Asked::Instance(db.clone(), known),
            ),
            ("discoverd.", Asked::Within),
            ("_tcp.discoverd.", Asked::Within),
            ("_i.discoverd.", Asked::Within),
            ("db._i.discoverd.", Asked::WithinService(db)),
            ("other.", Asked::Elsewhere),
            (".", Asked::Elsewhere),
            ("db.xdiscoverd.", Asked::Elsewhere),
            ("discoverd.example.", Asked::Elsewhere),
            ("x.db.discoverd.", Asked::Nothing),
            ("_db.tcp.discoverd.", Asked::Nothing),
            ("db._tcp.discoverd.", Asked::Nothing),
            ("d_b.discoverd.", Asked::Nothing),
            ("x.db._i.discoverd.", Asked::Nothing),
            ("leader.x.db.discoverd.", Asked::Nothing),
            ("*.discoverd.", Asked::Nothing),
        ] {
            let name = Name::from_ascii(name).unwrap();
            assert_eq!(domain.asked(&name), expected, "{name}");
        }
        let odd = Name::from_labels([&b"\xff"[..], b"discoverd"]).unwrap();
        assert_eq!(domain.asked(&odd), Asked::Nothing);
    }

    #[test]
    fn domains_have_bounds() {
        let long = "a".repeat(50) + "." + &"b".repeat(49);
        for (text, shown) in [
            ("discoverd", "discoverd."),
            ("Discoverd.", "discoverd."),
            ("services.example.com.", "services.example.com."),
            (&long, &format!("{long}.")),
        ] {
            assert_eq!(text.parse::<Domain>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "é",
            "a\\.b",
            &"a".repeat(64),
            &format!("{long}b"),
        ] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let domain = "a".repeat(50) + "." + &"b".repeat(49);
        let domain: Domain = domain.parse().unwrap();
        let id = InstanceId::of("tcp", "h:80").to_string();
        let service = "s".repeat(crate::discoverd::name::MAX_BYTES);
        let labels = [&id, &service, INSTANCES].map(str::as_bytes);
        let name = Name::from_labels(labels).unwrap();
        assert!(name.append_domain(domain.name()).is_ok());
    }
}
