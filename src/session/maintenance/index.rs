//! Whose page is wanted, by the host and the path of a request.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU16;

use crate::session::engine::view::Offer;
use crate::session::host::HostName;
use crate::session::place::Place;

/// Where a page of maintenance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub host: HostName,
    pub port: NonZeroU16,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.host.with_port(self.port.get()))
    }
}

/// Where the pages of all places are.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By domain; of each the longest path first.
    domains: HashMap<String, Vec<(String, Option<At>)>>,
}

impl Index {
    /// The places of what is served. A place's page is that of the newest of its
    /// sessions in maintenance that has one.
    pub fn of(served: &BTreeMap<Place, Vec<Offer>>) -> Self {
        let mut index = Self::default();
        for (place, offers) in served {
            let away = offers
                .iter()
                .rev()
                .filter(|offer| offer.session.maintenance);
            let page = away.map(|offer| &offer.session.registration);
            let page = page.into_iter().find_map(|registration| {
                Some(At {
                    host: registration.instance.host.clone(),
                    port: registration.maintenance_port?,
                })
            });
            let domain = place.domain.as_str().to_owned();
            let paths = index.domains.entry(domain).or_default();
            paths.push((normal(place.path.as_str()), page));
        }
        for paths in index.domains.values_mut() {
            paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        index
    }

    /// Where the page for a request is: of the closest place, as a proxy finds it.
    pub fn find(&self, host: &str, path: &str) -> Option<At> {
        self.place(host, path)?.clone()
    }

    /// Whether anybody serves what a request is for.
    pub fn serves(&self, host: &str, path: &str) -> bool {
        self.place(host, path).is_some()
    }

    /// The closest place, by its page.
    fn place(&self, host: &str, path: &str) -> Option<&Option<At>> {
        let host = name(host);
        let path = normal(path);
        let here = |domain: &str| {
            let paths = self.domains.get(domain)?;
            paths.iter().find(|(front, _)| is_below(&path, front))
        };
        let exact = here(&host);
        let wildcards = || {
            let dots = host.match_indices('.');
            // At least one label is what the asterisk stands for.
            dots.filter(|(at, _)| *at > 0)
                .find_map(|(at, _)| here(&format!("*{}", host.get(at..)?)))
        };
        Some(&exact.or_else(wildcards)?.1)
    }
}

/// A host without its port and the dot of the root, in lower case.
fn name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a path begins with the segments of another.
fn is_below(path: &str, front: &str) -> bool {
    front == "/"
        || path
            .strip_prefix(front)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path as it is compared (RFC 3986 §6.2.2): what need not be escaped is not,
/// and escapes have capital letters.
fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut parts = path.split('%');
    normal.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (hex, rest) = match part.split_at_checked(2) {
            Some(split) => split,
            None => (part, ""),
        };
        match u8::from_str_radix(hex, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
            }
            _ => {
                normal.push('%');
                normal.push_str(&hex.to_ascii_uppercase());
            }
        }
        normal.push_str(rest);
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::serving::testing::{served, session_with_page};

    /// The port of the page for a request to sessions, of which each has a place
    /// and a port for maintenance.
    fn found(places: &[(&str, u16)], host: &str, path: &str) -> Option<u16> {
        let session = |(place, port): &(&str, u16)| {
            let (domain, path) = place.split_once('/').unwrap();
            let route = format!("ROUTE|s|{domain}|/{path}|http://h");
            session_with_page("api", 1, *port, &[&route, "MAINT_ENTER|s"])
        };
        let sessions: Vec<_> = places.iter().map(session).collect();
        let at = Index::of(&served(&sessions)).find(host, path)?;
        Some(at.port.get())
    }

    #[test]
    fn the_closest_place_is_found() {
        let places = [
            ("a.b.com/", 1),
            ("a.b.com/v2", 2),
            ("*.b.com/", 3),
            ("*.b.com/v2/x", 4),
            ("*.a.b.com/", 5),
            ("only.b.com/here", 6),
            ("odd.com/a%7eb%2c", 7),
        ];
        for (host, path, port) in [
            ("a.b.com", "/", Some(1)),
            ("A.B.com.:8080", "/v2x", Some(1)),
            ("a.b.com", "/v2", Some(2)),
            ("a.b.com", "/v2/x", Some(2)),
            ("a.b.com", "/%76%32/", Some(2)),
            ("x.b.com", "/", Some(3)),
            ("y.x.b.com", "/v2/x", Some(4)),
            ("x.a.b.com", "/v2/x", Some(5)),
            // An exact domain is only for the paths that it has.
            ("only.b.com", "/here", Some(6)),
            ("only.b.com", "/there", Some(3)),
            ("odd.com", "/a~b%2C/c", Some(7)),
            ("b.com", "/", None),
            (".b.com", "/", None),
            ("xb.com", "/", None),
            ("", "/", None),
            ("[::1]:80", "/", None),
            ("a.b.com", "/%", Some(1)),
        ] {
            assert_eq!(found(&places, host, path), port, "{host}{path}");
        }
    }

    #[test]
    fn the_newest_page_of_a_place_is_shown() {
        let route = "ROUTE|s|a.com|/|http://h";
        let away = [route, "MAINT_ENTER|s"];
        let sessions = [
            session_with_page("api", 1, 1, &away),
            session_with_page("api", 2, 2, &away),
            session_with_page("api", 3, 0, &away),
            // It is only drained.
            session_with_page("api", 4, 4, &[route, "OPTIONS|s|weight|0"]),
        ];
        let page = |sessions: &[_]| {
            let at = Index::of(&served(sessions)).find("a.com", "/");
            at.map(|at| at.to_string())
        };
        assert_eq!(page(&sessions).as_deref(), Some("127.0.0.1:2"));
        assert_eq!(page(&sessions[2..]), None);
    }
}
