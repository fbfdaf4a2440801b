//! Values of flags, each with an error that says how it should be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::SignedDuration;

use crate::session::route::{BackendUrl, Scheme};

/// A parser of times such as `500ms`, `2s` or `10m`, from `least` to `most`.
pub fn time(
    least: Duration,
    most: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let time: SignedDuration = text
            .parse()
            .map_err(|_| "must be a number and a unit, such as 500ms, 2s or 10m")?;
        Duration::try_from(time)
            .ok()
            .filter(|time| (least..=most).contains(time))
            .ok_or_else(|| format!("must be from {} to {}", friendly(least), friendly(most)))
    }
}

/// The time as [`time`] reads it.
fn friendly(time: Duration) -> String {
    SignedDuration::try_from(time).map_or_else(|_| format!("{time:?}"), |time| format!("{time:#}"))
}

/// An address to listen at.
///
/// # Errors
/// When it is no IP address with a port.
pub fn ip_port(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "must be IP:PORT, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000")
}

/// An address to connect to, as `host:port`; it is not resolved.
///
/// # Errors
/// When the host or the port is missing.
pub fn host_port(text: &str) -> Result<String, &'static str> {
    let error = "must be HOST:PORT, such as 127.0.0.1:8090 or [::1]:8090";
    let (host, port) = text.rsplit_once(':').ok_or(error)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']);
    let valid = plain || (bracketed && text.parse::<SocketAddr>().is_ok());
    if valid && port.parse::<u16>().is_ok_and(|port| port != 0) {
        Ok(text.to_owned())
    } else {
        Err(error)
    }
}

/// The URL of a server, without a path; a lone slash at its end is left out.
///
/// # Errors
/// When it is no URL, or has more than a scheme, a host and a port.
pub fn origin(text: &str) -> Result<String, &'static str> {
    let url = BackendUrl::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), Scheme::Http | Scheme::Https))
        .filter(|url| url.path() == "/");
    match url {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(
            "must be http:// or https:// with a host and perhaps a port, such as http://registry.example.com:8182",
        ),
    }
}

/// An address of the pod that this runs in; IPv4-mapped ones are unmapped.
///
/// # Errors
/// When it is no IP address that another host could dial.
pub fn pod_ip(text: &str) -> Result<IpAddr, &'static str> {
    let ip: IpAddr = text
        .trim()
        .parse()
        .map_err(|_| "must be IP addresses separated by commas, such as 10.42.0.7,fd00::7")?;
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return Err("must be the pod's own address, which others can dial");
    }
    Ok(ip)
}

/// The longest identity of a replica: what a lease may name as its holder.
pub const MAX_IDENTITY: usize = 253;

/// The identity of a replica.
///
/// # Errors
/// When it is not printable ASCII of a reasonable length.
pub fn identity(text: &str) -> Result<String, &'static str> {
    let fits = (1..=MAX_IDENTITY).contains(&text.len());
    if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 253 printable ASCII characters without spaces")
    }
}

/// A DNS label (RFC 1123), as the name of a namespace is one.
///
/// # Errors
/// When it is none.
pub fn label(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=63).contains(&text.len()) && text.bytes().all(inner);
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 of a to z, 0 to 9 and -, with no - at either end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_bounds() {
        let time = time(Duration::from_millis(100), Duration::from_secs(600));
        assert_eq!(time("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        for text in ["", "2", "s", "2 fortnights", "2s!", "99999999999999999999h"] {
            let error = time(text).unwrap_err();
            assert!(error.contains("a number and a unit"), "{text:?}: {error}");
        }
        for text in ["99ms", "0s", "601s", "-2s"] {
            let error = time(text).unwrap_err();
            assert_eq!(error, "must be from 100ms to 10m", "{text:?}");
        }
    }

    #[test]
    fn listening_takes_an_ip_and_a_port() {
        assert!(ip_port("0.0.0.0:8000").is_ok());
        assert!(ip_port("[::]:8000").is_ok());
        for text in ["", ":8000", "8000", "localhost:8000", "1.2.3.4", "::1:80:x"] {
            assert!(ip_port(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn connecting_takes_a_host_and_a_port() {
        for text in ["localhost:8090", "127.0.0.1:8090", "[::1]:8090"] {
            assert_eq!(host_port(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            ":8090",
            "8090",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:8090",
            "[x]:8090",
            "http://host:8090",
        ] {
            assert!(host_port(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        for text in ["http://h", "https://h:1", "http://[::1]:8182"] {
            assert_eq!(origin(text).as_deref(), Ok(text));
        }
        assert_eq!(origin("http://h:1/").as_deref(), Ok("http://h:1"));
        for text in [
            "",
            "h:1",
            "ws://h",
            "http://h/a",
            "http://h?a",
            "http://h:0",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_have_bounds() {
        assert!(identity("gost-0_8f14").is_ok() && identity(&"x".repeat(253)).is_ok());
        for text in ["", "a b", "é", &"x".repeat(254)] {
            assert!(identity(text).is_err(), "{text:?}");
        }
        assert!(label("a").is_ok() && label(&"x".repeat(63)).is_ok());
        for text in ["", "A", "a.b", "-a", "a-", &"x".repeat(64)] {
            assert!(label(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pod_has_an_address_of_its_own() {
        assert_eq!(pod_ip("10.42.0.7"), Ok([10, 42, 0, 7].into()));
        assert_eq!(pod_ip("::ffff:10.42.0.7"), Ok([10, 42, 0, 7].into()));
        for text in [
            "",
            "pod",
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "10.0.0.1/24",
        ] {
            assert!(pod_ip(text).is_err(), "{text:?}");
        }
    }
}
