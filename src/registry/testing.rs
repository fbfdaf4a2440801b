//! Makes names, records and registries for tests.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::backend::Backend;
use crate::backend::memory::Memory;
use crate::lease::{Lease, Timing};
use crate::record::{Endpoint, EndpointKey, EndpointRecord, Name, Network};
use crate::registry::core::Setup;
use crate::registry::{Limits, Registry};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn key(tunnel: &str, node: &str, connector: &str) -> EndpointKey {
    EndpointKey {
        tunnel: name(tunnel),
        node: name(node),
        connector: name(connector),
    }
}

/// A TCP endpoint at 10.0.0.1:80.
pub(crate) fn endpoint(tunnel: &str, node: &str, connector: &str) -> Endpoint {
    Endpoint {
        key: key(tunnel, node, connector),
        network: Network::Tcp,
        address: "10.0.0.1:80".parse().unwrap(),
        origin: Some([10, 0, 0, 1].into()),
        pod: None,
        attributes: Default::default(),
    }
}

pub(crate) fn record(tunnel: &str, node: &str, connector: &str) -> EndpointRecord {
    EndpointRecord {
        endpoint: endpoint(tunnel, node, connector),
        lease: Lease::held(
            Arc::from("test"),
            Timestamp::UNIX_EPOCH,
            Duration::from_secs(60),
        ),
        is_static: false,
    }
}

pub(crate) fn setup() -> Setup {
    Setup {
        identity: "here".into(),
        pod: None,
        sharing: None,
        timing: Timing::default(),
        limits: Limits::default(),
        seed: 1,
    }
}

/// A registry that has not read a store.
pub(crate) fn registry() -> Registry {
    let store: Arc<dyn Backend> = Arc::new(Memory::new());
    Registry::new(setup(), &store, Duration::ZERO)
}
