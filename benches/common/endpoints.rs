//! Who is registered: tunnels with two connectors each, named by UUIDs.

use uuid::{Builder, Variant, Version};

use super::wire::{CONNECTORS, Endpoint};

/// An endless supply of endpoints; the same pool gives the same ones each time.
/// The connectors of a tunnel are at different nodes.
#[derive(Debug)]
pub struct Endpoints {
    random: fastrand::Rng,
    nodes: Vec<Node>,
    given: usize,
    tunnel: String,
}

#[derive(Debug)]
struct Node {
    id: String,
    address: String,
}

/// More nodes than this have no address in a pool.
const MOST_NODES: usize = 10_000;

impl Endpoints {
    /// The endpoints of a pool, spread over `nodes` gost servers. Pools share
    /// no name and no address: two nodes behind one address would be taken for
    /// two lives of one server. All addresses have the same length.
    pub fn new(pool: u8, nodes: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(pool.into());
        let nodes = (0..nodes.clamp(CONNECTORS, MOST_NODES))
            .map(|node| Node {
                id: uuid(&mut random),
                address: format!(
                    "10.{}.{}.{}:80",
                    100 + pool % 100,
                    100 + node / 100,
                    100 + node % 100
                ),
            })
            .collect();
        Self {
            random,
            nodes,
            given: 0,
            tunnel: String::new(),
        }
    }

    /// The next endpoint.
    pub fn give(&mut self) -> Endpoint {
        let (tunnel, connector) = (self.given / CONNECTORS, self.given % CONNECTORS);
        if connector == 0 {
            self.tunnel = uuid(&mut self.random);
        }
        self.given += 1;
        let node = &self.nodes[(tunnel + connector) % self.nodes.len()];
        Endpoint {
            id: uuid(&mut self.random),
            name: self.tunnel.clone(),
            node: node.id.clone(),
            network: "tcp".into(),
            address: node.address.clone(),
        }
    }

    /// The next `count` tunnels, complete.
    pub fn tunnels(&mut self, count: usize) -> Vec<Endpoint> {
        (0..count * CONNECTORS).map(|_| self.give()).collect()
    }
}

fn uuid(random: &mut fastrand::Rng) -> String {
    Builder::from_u128(random.u128(..))
        .with_version(Version::Random)
        .with_variant(Variant::RFC4122)
        .into_uuid()
        .to_string()
}
