//! Networks: an address and how many of its bits count.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

/// A network, as `10.0.0.0/8`; an address alone is one of that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads a network.
    ///
    /// # Errors
    /// When it is none; the text says how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no network; write one such as 10.0.0.0/8 or fd00::/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let most = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or_else(error)?,
        };
        let network = masked(address, bits);
        if network != address {
            return Err(format!(
                "{text} has bits behind its first {bits}; write {network}/{bits}, or {address} for that address alone"
            ));
        }
        Ok(Self { address, bits })
    }

    /// Whether an address is in it. IPv4-mapped ones are to be unmapped.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

/// An address with all bits but the first `bits` at zero.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_networks() {
        let is_in = |network: &str, address: &str| {
            Network::parse(network)
                .unwrap()
                .contains(address.parse().unwrap())
        };
        for (network, address) in [
            ("10.0.0.0/8", "10.255.0.1"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("::/0", "::1"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.0/31", "192.0.2.1"),
            ("fd00::/8", "fdff::1"),
            ("fd00::7", "fd00::7"),
        ] {
            assert!(is_in(network, address), "{network} {address}");
        }
        for (network, address) in [
            ("10.0.0.0/8", "11.0.0.0"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "1.2.3.4"),
            ("192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/31", "192.0.2.2"),
            ("fd00::/8", "fe00::1"),
        ] {
            assert!(!is_in(network, address), "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in [
            "",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "host",
            "1.2.3.4/-1",
        ] {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains("such as 10.0.0.0/8"), "{error}");
        }
        let error = Network::parse("10.1.2.3/8").unwrap_err();
        assert!(
            error.contains("10.0.0.0/8") && error.contains("10.1.2.3 for"),
            "{error}"
        );
    }
}
