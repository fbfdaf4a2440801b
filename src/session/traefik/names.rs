//! Names in Traefik: to be read by people, and the same for the same thing.

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use crate::session::place::Place;
use crate::session::registration::ServiceName;

/// How much of a service's name is in others.
const SERVICE: usize = 40;
/// How many bytes of a hash tell things apart: of 640,000 places (10,000
/// sessions of 64) two are the same once in a thousand registries, and of the
/// usual tens of thousands never.
const HASH: usize = 6;

/// The name of a place's router and service.
pub(super) fn place(service: &ServiceName, place: &Place) -> String {
    let parts = [service.as_str(), place.domain.as_str(), place.path.as_str()];
    format!("{}-{}", plain(service), hash(&parts))
}

/// The name of something that a service needs, by what it is: `kind`, and the
/// whole of it as text.
pub(super) fn extra(service: &ServiceName, kind: &str, whole: &str) -> String {
    let parts = [service.as_str(), whole];
    format!("{}-{kind}-{}", plain(service), hash(&parts))
}

/// A service's name without what Traefik takes for something else, such as `@`.
fn plain(service: &ServiceName) -> String {
    let name = service.as_str().chars().take(SERVICE);
    let plain = name.map(|c| match c {
        'a'..='z' | '0'..='9' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '-',
    });
    let plain: String = plain.collect();
    match plain.trim_matches('-') {
        "" => "service".to_owned(),
        plain => plain.to_owned(),
    }
}

fn hash(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part.as_bytes());
        // No part has one.
        context.update(&[0]);
    }
    let hash = context.finish();
    HEXLOWER.encode(hash.as_ref().get(..HASH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::place::{Domain, Path};

    fn name(service: &str, domain: &str, path: &str) -> String {
        let at = Place {
            domain: Domain::parse(domain).unwrap(),
            path: Path::parse(path).unwrap(),
        };
        place(&ServiceName::parse(service).unwrap(), &at)
    }

    #[test]
    fn names_are_readable_and_safe() {
        let plain = |service| {
            let name = name(service, "a.com", "/");
            let (front, hash) = name.rsplit_once('-').unwrap();
            assert_eq!(hash.len(), 2 * HASH);
            front.to_owned()
        };
        assert_eq!(plain("api-service"), "api-service");
        assert_eq!(plain("Api Service@docker"), "api-service-docker");
        assert_eq!(plain("`@`"), "service");
        assert_eq!(plain(&"x".repeat(253)), "x".repeat(SERVICE));
    }

    #[test]
    fn names_are_the_same_for_the_same_and_differ_for_others() {
        let this = name("api", "a.com", "/v2");
        assert_eq!(this, name("api", "a.com", "/v2"));
        for other in [
            name("api2", "a.com", "/v2"),
            name("API", "a.com", "/v2"),
            name("api", "b.com", "/v2"),
            name("api", "a.com", "/"),
        ] {
            assert_ne!(this, other);
        }
        let service = ServiceName::parse("api").unwrap();
        let headers = extra(&service, "headers", "x");
        assert!(headers.starts_with("api-headers-"), "{headers}");
        assert_ne!(headers, extra(&service, "headers", "y"));
    }
}
