//! The peer's entries as endpoints. Pure.
//!
//! `gost-plugins sd` keeps each tunnel as a hash under the tunnel's own name, with a
//! field for each connector: `{"Node","Network","Address","Renew"}`, of which the
//! last is when it was last renewed, in seconds of the peer's clock. The hash
//! expires when nobody renews any of it; a dead field stays beside live ones.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::lease::{Lease, Released};
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Name, Record};
use crate::transfer::plan::UNHEARD_FOR;

/// A field of a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name of the hash.
    pub tunnel: Vec<u8>,
    /// The name of the field.
    pub connector: Vec<u8>,
    /// What is in it.
    pub value: Vec<u8>,
}

/// What a field says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    node: String,
    network: String,
    address: String,
    renew: i64,
}

/// What the peer's entries come to.
#[derive(Debug, Default)]
pub struct Found {
    /// The endpoints.
    pub records: Vec<Record>,
    /// How many entries were long behind the others.
    pub stale: usize,
    /// The entries that are none of the peer's, or that nobody could dial, each
    /// with what is wrong.
    pub skipped: Vec<(String, String)>,
}

/// The endpoints among these entries. Those that were not renewed for `stale_after`
/// when the last renewal of all came are left out: clocks are not compared, and an
/// outage makes all of them old together.
#[must_use]
pub fn endpoints(entries: &[Entry], stale_after: Duration, now: Timestamp) -> Found {
    let mut found = Found::default();
    let mut read = Vec::new();
    for entry in entries {
        match endpoint(entry) {
            Ok(endpoint) => read.push(endpoint),
            Err(why) => {
                let [tunnel, connector] =
                    [&entry.tunnel, &entry.connector].map(|text| String::from_utf8_lossy(text));
                found.skipped.push((format!("{tunnel}/{connector}"), why));
            }
        }
    }
    let newest = read.iter().map(|(_, renewed)| *renewed).max();
    let stale_after = i64::try_from(stale_after.as_secs()).unwrap_or(i64::MAX);
    for (endpoint, renewed) in read {
        let behind = newest.unwrap_or(renewed).saturating_sub(renewed);
        if behind > stale_after {
            found.stale += 1;
            continue;
        }
        found
            .records
            .push(Record::Endpoint(Arc::new(EndpointRecord {
                endpoint,
                lease: Lease::released(Released::Silent, now, UNHEARD_FOR),
                is_static: false,
            })));
    }
    found
}

/// The endpoint of an entry, and when it was last renewed.
fn endpoint(entry: &Entry) -> Result<(Endpoint, i64), String> {
    let service: Service = serde_json::from_slice(&entry.value)
        .map_err(|error| format!("it is no entry of the peer's: {error}"))?;
    let key = EndpointKey {
        tunnel: name("tunnel", &entry.tunnel)?,
        node: name("node", service.node.as_bytes())?,
        connector: name("connector", &entry.connector)?,
    };
    let network = parsed("network", &service.network)?;
    let address = parsed("address", &service.address)?;
    let endpoint = Endpoint {
        key,
        network,
        address,
        origin: None,
        pod: None,
        attributes: BTreeMap::new(),
    };
    Ok((endpoint, service.renew))
}

fn parsed<T: FromStr<Err: Display>>(what: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|error| format!("its {what} {text:?} {error}"))
}

fn name(what: &str, text: &[u8]) -> Result<Name, String> {
    let text =
        std::str::from_utf8(text).map_err(|_| format!("the name of its {what} is no text"))?;
    Name::parse(text).map_err(|error| format!("the name of its {what} {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Network;

    const TUNNEL: &str = "4d21094e-b74c-4916-86c1-d9fa36ea677b";

    fn entry(connector: &str, value: &str) -> Entry {
        Entry {
            tunnel: TUNNEL.into(),
            connector: connector.into(),
            value: value.into(),
        }
    }

    fn value(address: &str, renew: i64) -> String {
        format!(r#"{{"Node":"n","Network":"udp","Address":"{address}","Renew":{renew}}}"#)
    }

    fn found(entries: &[Entry]) -> Found {
        endpoints(entries, Duration::from_secs(300), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_entry_is_an_endpoint() {
        let found = found(&[entry("c", &value("10.0.0.1:80", 1_800_000_000))]);
        let [Record::Endpoint(record)] = &found.records[..] else {
            panic!("{found:?}");
        };
        let endpoint = &record.endpoint;
        assert_eq!(endpoint.key.to_string(), format!("{TUNNEL}/n/c"));
        assert_eq!(endpoint.network, Network::Udp);
        assert_eq!(endpoint.address.to_string(), "10.0.0.1:80");
        assert_eq!(record.lease.holder, None);
        assert_eq!(record.lease.duration(), UNHEARD_FOR);
        assert_eq!((found.stale, found.skipped.len()), (0, 0));
    }

    #[test]
    fn what_is_long_behind_is_left_out() {
        let at = |connector: &str, renew| entry(connector, &value("10.0.0.1:80", renew));
        let found = found(&[
            at("a", 1_000),
            at("b", 700),
            at("c", 699),
            at("d", i64::MIN),
        ]);
        assert_eq!((found.records.len(), found.stale), (2, 2));
        assert!(self::found(&[]).records.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_and_does_no_harm() {
        let good = value("10.0.0.1:80", 1);
        let mut entries = vec![entry("good", &good)];
        let faults = [
            ("c", "", "no entry of the peer's"),
            ("c", "[]", "no entry of the peer's"),
            ("c", r#"{"Node":"n"}"#, "missing field `Network`"),
            (
                "c",
                &good.replace("udp", "icmp"),
                "its network \"icmp\" must be",
            ),
            (
                "c",
                &good.replace("10.0.0.1:80", ":80"),
                "its address \":80\"",
            ),
            ("c", &good.replace("\"n\"", "\"\""), "the name of its node"),
            ("", &good, "the name of its connector"),
        ];
        entries.extend(
            faults
                .iter()
                .map(|(connector, value, _)| entry(connector, value)),
        );
        entries.push(Entry {
            tunnel: b"\xff".into(),
            ..entry("c", &good)
        });
        let found = found(&entries);
        assert_eq!(found.records.len(), 1);
        assert_eq!(found.skipped.len(), faults.len() + 1);
        for ((what, why), (_, _, part)) in found.skipped.iter().zip(&faults) {
            assert!(
                what.starts_with(TUNNEL) && why.contains(part),
                "{what}: {why}"
            );
        }
        assert!(found.skipped[faults.len()].1.contains("is no text"));
    }
}
