//! What is registered, as people are shown it.
//!
//! The registry answers a [`Listing`]; the admin port prints it. Neither knows
//! the other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::record::{Address, EndpointKey, Name, Network};

/// Something that can list its endpoints. What it locks for that it locks
/// briefly at a time, however many there are.
pub trait Listing: Send + Sync + 'static {
    /// The keys of the endpoints that pass `filter`, in their order. One that is
    /// registered all the while is among them.
    fn keys(&self, filter: &Filter) -> Vec<EndpointKey>;

    /// The endpoints of `keys` that are still there. The caller asks for a page
    /// of keys at a time.
    fn rows(&self, keys: &[EndpointKey]) -> Vec<Row>;
}

/// Which endpoints to list: those that match all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tunnel.
    pub tunnel: Option<Name>,
    /// At this node.
    pub node: Option<Name>,
}

impl Filter {
    /// Whether an endpoint passes.
    #[must_use]
    pub fn passes(&self, key: &EndpointKey) -> bool {
        self.tunnel.as_ref().is_none_or(|name| *name == key.tunnel)
            && self.node.as_ref().is_none_or(|name| *name == key.node)
    }
}

/// One endpoint, as people are shown it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The tunnel.
    pub tunnel: Name,
    /// The node that holds the connector.
    pub node: Name,
    /// The connector.
    pub connector: Name,
    /// What it carries.
    pub network: Network,
    /// Where other servers dial it.
    pub address: Address,
    /// The host that registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<IpAddr>,
    /// The replica that maintains it; none once it was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Arc<str>>,
    /// Whether it is offered first or last.
    #[serde(flatten)]
    pub health: Health,
    /// How long ago this replica last heard it; none if it never did.
    #[serde(
        rename = "heard_ago_seconds",
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds"
    )]
    pub heard_ago: Option<Duration>,
    /// When its lease was last written, by the writer's wall clock.
    pub renew_time: Timestamp,
    /// How long the lease is valid from then.
    pub lease_seconds: u32,
    /// Whether the store has it: a word of a closed set, such as `stored` or
    /// `pending`.
    pub stored: &'static str,
}

impl Row {
    /// The key that the row is listed under.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        EndpointKey {
            tunnel: self.tunnel.clone(),
            node: self.node.clone(),
            connector: self.connector.clone(),
        }
    }
}

/// Whether an endpoint is offered first or last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "health", content = "reason", rename_all = "lowercase")]
pub enum Health {
    /// Offered first.
    Healthy,
    /// Offered last. Why is a word of a closed set, such as `suspect`,
    /// `released` or `unheard`.
    Doubtful(&'static str),
}

/// Milliseconds are precise enough: a renewal comes every 15 s.
fn seconds<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    age.map(|age| (age.as_secs_f64() * 1e3).round() / 1e3)
        .serialize(serializer)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A healthy endpoint of `tunnel` at `node`.
    pub(crate) fn row(tunnel: &str, node: &str, connector: &str) -> Row {
        let peer = IpAddr::from([10, 42, 0, 100]);
        Row {
            tunnel: tunnel.parse().unwrap(),
            node: node.parse().unwrap(),
            connector: connector.parse().unwrap(),
            network: Network::Tcp,
            address: Address::announced(":80", peer, &[]).unwrap(),
            origin: Some(peer),
            holder: Some("replica-1".into()),
            health: Health::Healthy,
            heard_ago: Some(Duration::from_micros(1_500_400)),
            renew_time: Timestamp::UNIX_EPOCH,
            lease_seconds: 60,
            stored: "stored",
        }
    }

    /// A list that does not change.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Fixed(pub(crate) Vec<Row>);

    impl Listing for Fixed {
        fn keys(&self, filter: &Filter) -> Vec<EndpointKey> {
            let mut keys: Vec<_> = self.0.iter().map(Row::key).collect();
            keys.retain(|key| filter.passes(key));
            keys.sort();
            keys
        }

        fn rows(&self, keys: &[EndpointKey]) -> Vec<Row> {
            let row = |key: &EndpointKey| self.0.iter().find(|row| row.key() == *key).cloned();
            keys.iter().filter_map(row).collect()
        }
    }

    #[test]
    fn a_row_in_json() {
        let mut row = row("t", "n", "c");
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "tunnel": "t", "node": "n", "connector": "c", "network": "tcp",
                "address": "10.42.0.100:80", "origin": "10.42.0.100", "holder": "replica-1",
                "health": "healthy", "heard_ago_seconds": 1.5,
                "renew_time": "1970-01-01T00:00:00Z", "lease_seconds": 60, "stored": "stored",
            })
        );
        row.health = Health::Doubtful("released");
        row.holder = None;
        row.heard_ago = None;
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["health"], "doubtful");
        assert_eq!(json["reason"], "released");
        assert_eq!(json.get("holder"), None);
        assert_eq!(json.get("heard_ago_seconds"), None);
    }

    #[test]
    fn a_filter_passes_what_matches_all_of_it() {
        let key = row("t", "n", "c").key();
        let filter = |tunnel: Option<&str>, node: Option<&str>| Filter {
            tunnel: tunnel.map(|name| name.parse().unwrap()),
            node: node.map(|name| name.parse().unwrap()),
        };
        assert!(filter(None, None).passes(&key));
        assert!(filter(Some("t"), Some("n")).passes(&key));
        assert!(!filter(Some("t"), Some("x")).passes(&key));
        assert!(!filter(Some("x"), None).passes(&key));
    }
}
