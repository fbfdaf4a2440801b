//! The order of Get's answer. gost dials the first entry of the network it
//! wants and makes no second try, so the order *is* the routing.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use crate::map::Map;
use crate::record::{EndpointRecord, Name, Network};

/// At most so many entries a network are told: gost uses one, people read a few.
pub const MAX_PER_NETWORK: usize = 32;

/// How good an endpoint is to route to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Maintained: its holder lives and its node is not suspect.
    Healthy,
    /// It may be gone: offered after the healthy ones.
    Doubtful {
        /// When it was last heard; the freshest is offered first.
        heard: Option<Instant>,
    },
}

/// An endpoint that may be offered.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What is offered.
    pub record: Arc<EndpointRecord>,
    /// How good it is.
    pub standing: Standing,
}

/// Puts candidates into the order of routing: healthy ones first, shuffled so
/// that load spreads, a node's second one after every node's first; then
/// doubtful ones, freshest first; at most [`MAX_PER_NETWORK`] of each network.
pub fn route(
    mut candidates: Vec<Candidate>,
    random: &mut fastrand::Rng,
) -> Vec<Arc<EndpointRecord>> {
    if candidates.len() > 1 {
        random.shuffle(&mut candidates);
        candidates = spread(candidates);
    }
    let (mut tcp, mut udp) = (0, 0);
    candidates
        .into_iter()
        .map(|candidate| candidate.record)
        .filter(|record| {
            let told = match record.endpoint.network {
                Network::Tcp => &mut tcp,
                Network::Udp => &mut udp,
            };
            *told += 1;
            *told <= MAX_PER_NETWORK
        })
        .collect()
}

/// Sorts what was shuffled, keeping the shuffled order among equals.
fn spread(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let turns = turns(&candidates);
    let mut sorted: Vec<_> = turns.into_iter().zip(candidates).collect();
    sorted.sort_by_key(|(turn, candidate)| match candidate.standing {
        Standing::Healthy => (false, *turn, Reverse(None)),
        Standing::Doubtful { heard } => (true, 0, Reverse(heard)),
    });
    sorted.into_iter().map(|(_, candidate)| candidate).collect()
}

/// For each candidate, how many healthy ones of its node and network come before
/// it. A tunnel has few connectors: counting is quicker than hashing then.
fn turns(candidates: &[Candidate]) -> Vec<usize> {
    const FEW: usize = 16;
    let healthy = |candidate: &Candidate| candidate.standing == Standing::Healthy;
    if candidates.len() <= FEW {
        let before = |at: usize| {
            let own = place(&candidates[at]);
            let earlier = candidates[..at].iter();
            earlier
                .filter(|other| healthy(other) && place(other) == own)
                .count()
        };
        return (0..candidates.len()).map(before).collect();
    }
    let mut seen: Map<(Network, &Name), usize> = Map::default();
    let count = |candidate| {
        let before = seen.entry(place(candidate)).or_default();
        let turn = *before;
        *before += usize::from(healthy(candidate));
        turn
    };
    candidates.iter().map(count).collect()
}

fn place(candidate: &Candidate) -> (Network, &Name) {
    let endpoint = &candidate.record.endpoint;
    (endpoint.network, &endpoint.key.node)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::testing::record;
    use crate::time::Now;

    fn candidate(node: &str, connector: &str, standing: Standing) -> Candidate {
        Candidate {
            record: Arc::new(record("tunnel", node, connector)),
            standing,
        }
    }

    fn connectors(candidates: &[Candidate], seed: u64) -> Vec<String> {
        route(candidates.to_vec(), &mut fastrand::Rng::with_seed(seed))
            .iter()
            .map(|record| record.endpoint.key.connector.to_string())
            .collect()
    }

    #[test]
    fn healthy_ones_come_first_then_the_freshest() {
        let now = Now::read().mono;
        let heard = |ago| Standing::Doubtful {
            heard: now.checked_sub(Duration::from_secs(ago)),
        };
        let candidates = [
            candidate("a", "stale", heard(30)),
            candidate("b", "unheard", Standing::Doubtful { heard: None }),
            candidate("c", "fresh", heard(1)),
            candidate("d", "healthy", Standing::Healthy),
        ];
        for seed in 0..20 {
            assert_eq!(
                connectors(&candidates, seed),
                ["healthy", "fresh", "stale", "unheard"]
            );
        }
    }

    #[test]
    fn every_node_has_its_first_turn_before_any_has_its_second() {
        let candidates: Vec<_> = ["a1", "a2", "a3", "b1", "c1"]
            .iter()
            .map(|name| candidate(&name[..1], name, Standing::Healthy))
            .collect();
        for seed in 0..50 {
            let told = connectors(&candidates, seed);
            let mut first: Vec<_> = told[..3].iter().map(|name| &name[..1]).collect();
            first.sort_unstable();
            assert_eq!(first, ["a", "b", "c"], "seed {seed}: {told:?}");
        }
    }

    #[test]
    fn many_are_counted_like_few() {
        let candidates: Vec<_> = (0..90)
            .map(|at| {
                candidate(
                    &format!("n{}", at % 30),
                    &format!("c{at}"),
                    Standing::Healthy,
                )
            })
            .collect();
        let told = route(candidates, &mut fastrand::Rng::with_seed(3));
        let mut nodes: Vec<_> = told[..30]
            .iter()
            .map(|record| &record.endpoint.key.node)
            .collect();
        nodes.sort();
        nodes.dedup();
        assert_eq!(nodes.len(), 30);
    }

    #[test]
    fn load_spreads_over_nodes_and_their_connectors() {
        let candidates: Vec<_> = ["a1", "a2", "b1"]
            .iter()
            .map(|name| candidate(&name[..1], name, Standing::Healthy))
            .collect();
        let mut first = std::collections::BTreeMap::<String, u32>::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..3000 {
            let told = route(candidates.clone(), &mut random);
            *first
                .entry(told[0].endpoint.key.connector.to_string())
                .or_default() += 1;
        }
        assert!(first.values().all(|&times| times > 800), "{first:?}");
    }

    #[test]
    fn at_most_so_many_of_each_network() {
        let mut candidates: Vec<_> = (0..100)
            .map(|at| candidate("a", &format!("tcp{at}"), Standing::Healthy))
            .collect();
        for at in 0..3 {
            let mut udp = record("tunnel", "a", &format!("udp{at}"));
            udp.endpoint.network = Network::Udp;
            candidates.push(Candidate {
                record: Arc::new(udp),
                standing: Standing::Doubtful { heard: None },
            });
        }
        let told = connectors(&candidates, 1);
        assert_eq!(told.len(), MAX_PER_NETWORK + 3);
        assert_eq!(
            told.iter().filter(|name| name.starts_with("udp")).count(),
            3
        );
    }
}
