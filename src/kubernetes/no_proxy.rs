//! Which hosts are reached without the proxy that the environment names, by
//! `NO_PROXY` as Go's programs read it: kubectl then goes the same way. Pure.
//!
//! Entries are separated by commas: `*` for all; an IP address; a network
//! (`10.0.0.0/8`); a name, for itself and for what is below it, or with a dot
//! before it for what is below it only. An address or a name may have a port.

use std::net::IpAddr;

/// Whether `url` is reached without the proxy.
#[must_use]
pub fn covers(no_proxy: &str, url: &http::Uri) -> bool {
    let Some(host) = url.host() else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(443);
    let entries = no_proxy.split(',').map(str::trim);
    entries
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry_covers(&entry.to_ascii_lowercase(), &host, port))
}

fn entry_covers(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let Some((network, bits)) = entry.split_once('/') {
        let network = network.parse().ok().zip(bits.parse().ok());
        return address
            .zip(network)
            .is_some_and(|(address, (network, bits))| is_in(address, network, bits));
    }
    if let Some(entry) = ip(entry) {
        return address == Some(entry);
    }
    let (name, entry_port) = match entry.rsplit_once(':') {
        Some((name, digits)) => (name, digits.parse().ok()),
        None => (entry, Some(port)),
    };
    if entry_port != Some(port) {
        return false;
    }
    if let Some(name) = ip(name) {
        return address == Some(name);
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => {
            let above = host.strip_suffix(name);
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        }
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let prefix = |address: u128, width: u32| match bits {
        0 => Some(0),
        bits if bits <= width => Some(address >> (width - bits)),
        _ => None,
    };
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u32::from(address).into(), u32::from(network).into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.into(), network.into(), 128),
        _ => return false,
    };
    let network = prefix(network, width);
    network.is_some() && prefix(address, width) == network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_proxy_covers() {
        for (no_proxy, url, expected) in [
            ("", "https://10.0.0.1:6443", false),
            ("*", "https://10.0.0.1:6443", true),
            ("10.0.0.1", "https://10.0.0.1:6443", true),
            ("10.0.0.1:6443", "https://10.0.0.1:6443", true),
            ("10.0.0.1:443", "https://10.0.0.1:6443", false),
            ("10.0.0.1:443", "https://10.0.0.1", true),
            ("10.0.0.2, 10.0.0.0/8", "https://10.0.0.1:6443", true),
            ("10.0.0.0/8", "https://11.0.0.1:6443", false),
            ("0.0.0.0/0", "https://11.0.0.1:6443", true),
            ("10.0.0.0/33", "https://10.0.0.1:6443", false),
            ("fd00::/8", "https://[fd12::1]:6443", true),
            ("[fd12::1]:6443", "https://[fd12::1]:6443", true),
            ("fd12::2", "https://[fd12::1]:6443", false),
            ("::/0", "https://10.0.0.1:6443", false),
            ("example.com", "https://api.Example.com:6443", true),
            ("EXAMPLE.com", "https://example.com.:6443", true),
            (".example.com", "https://example.com:6443", false),
            (".example.com", "https://api.example.com:6443", true),
            ("*.example.com", "https://api.example.com:6443", true),
            ("example.com", "https://notexample.com:6443", false),
            ("example.com:443", "https://api.example.com:6443", false),
            ("example.com:x", "https://api.example.com:6443", false),
            (",,other", "https://api.example.com:6443", false),
        ] {
            let covered = covers(no_proxy, &url.parse().unwrap());
            assert_eq!(covered, expected, "{no_proxy:?} {url}");
        }
    }
}
