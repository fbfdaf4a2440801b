//! What people and metrics are shown of a registry.

use std::time::Duration;

use crate::index::Entry;
use crate::listing::{Filter, Health, Row};
use crate::record::{EndpointKey, Kind};
use crate::registry::core::Core;
use crate::registry::doubt::Doubt;
use crate::registry::events::Counts;
use crate::time::Now;

/// How many endpoints are in which health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Maintained.
    pub healthy: u64,
    /// Nobody maintains them any more.
    pub released: u64,
    /// Their node's last connection was closed from its side.
    pub suspect: u64,
    /// Their node may be a previous life of another.
    pub challenged: u64,
    /// Read from the store and not heard since the start.
    pub unheard: u64,
    /// The lease of the replica that holds them was not seen to be renewed.
    pub holder_silent: u64,
    /// Their pod was asked to end.
    pub terminating: u64,
    /// Held by this replica, in whichever health.
    pub held: u64,
}

impl Tally {
    pub(super) fn add(&mut self, doubt: Option<Doubt>) {
        let count = match doubt {
            None => &mut self.healthy,
            Some(Doubt::Released) => &mut self.released,
            Some(Doubt::Suspect) => &mut self.suspect,
            Some(Doubt::Challenged) => &mut self.challenged,
            Some(Doubt::Unheard) => &mut self.unheard,
            Some(Doubt::HolderSilent) => &mut self.holder_silent,
            Some(Doubt::Terminating) => &mut self.terminating,
        };
        *count += 1;
    }
}

/// Figures of a registry, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Whether the store has been read.
    pub ready: bool,
    /// Endpoints that are known now.
    pub endpoints: usize,
    /// Tunnels that have endpoints.
    pub tunnels: usize,
    /// Nodes that have endpoints.
    pub nodes: usize,
    /// Health of the endpoints, as of the last sweep.
    pub tally: Tally,
    /// Endpoints that a renewal would bring back.
    pub ghosts: usize,
    /// Replicas that live, as far as can be seen, this one among them.
    pub replicas: usize,
    /// How long ago a shared store gave its last sign of life; none before the
    /// first, and when the store is not shared.
    pub contact_age: Option<Duration>,
    /// Times that somebody else had changed this replica's own lease.
    pub disturbed: u64,
    /// Writes that wait or are under way.
    pub queue: usize,
    /// How long the oldest of them has been in the queue.
    pub queue_age: Duration,
    /// Whether the store took no writes at the last attempt.
    pub store_away: bool,
    /// Time in which this process was frozen, in all.
    pub frozen: Duration,
    /// What happened since the start.
    pub counts: Counts,
}

impl Core {
    /// The figures at `now`.
    #[must_use]
    pub fn figures(&self, now: Now) -> Figures {
        Figures {
            ready: self.is_ready(),
            endpoints: self.index.len(),
            tunnels: self.index.tunnels(),
            nodes: self.presence.len(),
            tally: self.tally,
            ghosts: self.memory.ghosts.len(),
            replicas: self.living,
            contact_age: self
                .replicas
                .time()
                .last()
                .map(|last| now.mono.saturating_duration_since(last)),
            disturbed: self.vouch.disturbed,
            queue: self.queue.len(),
            queue_age: self.queue.oldest_age(now.mono),
            store_away: self.queue.store_is_away(),
            frozen: self.patience.left_out(),
            counts: self.events.counts,
        }
    }

    /// Whether the store has been read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        [Kind::Endpoint, Kind::Replica]
            .iter()
            .all(|kind| self.read[*kind as usize])
    }

    /// The keys at positions `from..from + count` that pass `filter`.
    #[must_use]
    pub fn keys(&self, from: usize, count: usize, filter: &Filter) -> Vec<EndpointKey> {
        self.index
            .slice(from, count)
            .map(Entry::key)
            .filter(|key| filter.passes(key))
            .cloned()
            .collect()
    }

    /// How an endpoint is shown, if it is there.
    pub fn row(&mut self, now: Now, key: &EndpointKey) -> Option<Row> {
        let at = self.patience.counted(now.mono);
        let entry = self.index.get(key)?;
        let endpoint = &entry.record.endpoint;
        let lease = &entry.record.lease;
        Some(Row {
            tunnel: key.tunnel.clone(),
            node: key.node.clone(),
            connector: key.connector.clone(),
            network: endpoint.network,
            address: endpoint.address.clone(),
            origin: endpoint.origin,
            holder: lease.holder.clone(),
            health: match self.doubt(entry, at) {
                None => Health::Healthy,
                Some(doubt) => Health::Doubtful(doubt.as_str()),
            },
            heard_ago: entry.heard.map(|heard| at.saturating_duration_since(heard)),
            renew_time: lease.renew_time,
            lease_seconds: lease.duration_seconds,
            stored: match (entry.revision, self.queue.contains(key)) {
                (_, false) => "stored",
                (Some(_), true) => "changing",
                (None, true) => "pending",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::memory::Memory;
    use crate::registry::world::{World, gost};

    #[tokio::test]
    async fn rows_tell_health_and_whether_it_is_stored() {
        let mut w = World::new(Arc::new(Memory::new())).await;
        let (a, b) = (gost(1, "a"), gost(2, "b"));
        w.register(&a).await.unwrap();
        w.renew(&a).await;
        w.hang_up(&a);
        w.store_up = false;
        w.register(&b).await.unwrap();
        w.pass(Duration::from_secs(3)).await;

        let row = |w: &mut World, key| w.core.row(w.now, key).unwrap();
        let suspect = row(&mut w, &a.key);
        assert_eq!(suspect.health, Health::Doubtful("suspect"));
        assert_eq!(
            (suspect.stored, suspect.heard_ago),
            ("stored", Some(Duration::from_secs(3)))
        );
        assert_eq!(suspect.holder.as_deref(), Some("here"));
        let pending = row(&mut w, &b.key);
        assert_eq!(
            (pending.health, pending.stored),
            (Health::Healthy, "pending")
        );

        let figures = w.core.figures(w.now);
        assert_eq!(
            (figures.endpoints, figures.tunnels, figures.nodes),
            (2, 1, 2)
        );
        assert_eq!((figures.tally.healthy, figures.tally.suspect), (1, 1));
        assert_eq!(
            (figures.queue, figures.queue_age),
            (1, Duration::from_secs(3))
        );
        assert!(figures.ready && figures.store_away);
    }

    #[tokio::test]
    async fn keys_are_listed_by_tunnel_and_node() {
        let mut w = World::new(Arc::new(Memory::new())).await;
        for host in [1, 2] {
            w.register(&gost(host, "a")).await.unwrap();
        }
        let keys = |tunnel: Option<&str>, node: Option<&str>| {
            let filter = Filter {
                tunnel: tunnel.map(|name| name.parse().unwrap()),
                node: node.map(|name| name.parse().unwrap()),
            };
            w.core.keys(0, usize::MAX, &filter).len()
        };
        assert_eq!(keys(None, None), 2);
        assert_eq!(keys(Some("t"), Some("node-2")), 1);
        assert_eq!(keys(Some("u"), None), 0);
    }
}
