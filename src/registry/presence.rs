//! Which nodes are there: when they were heard, over which connections, and
//! whether the last of those was closed from their side.

use std::time::{Duration, Instant};

use crate::lease::USUAL_INTERVAL;
use crate::map::{Map, Set};
use crate::record::Name;
use crate::registry::{Caller, ClosedBy, ConnectionId};

/// A connection that carried fewer calls than this says nothing by its end: a
/// client that makes one call and goes has not died.
const CALLS_THAT_COUNT: u32 = 2;

/// What is known of the nodes that have endpoints here.
#[derive(Debug, Default)]
pub struct Presence {
    nodes: Map<Name, Node>,
    connections: Map<ConnectionId, Connection>,
}

/// How long an interval is remembered, at least: longer than any that is believed.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// The longest of the intervals that were seen lately. One that an outage made
/// long is forgotten after two windows.
#[derive(Clone, Copy, Debug, Default)]
struct Longest {
    /// In the window before, and in this one.
    windows: [Duration; 2],
    since: Option<Instant>,
}

impl Longest {
    fn add(&mut self, interval: Duration, now: Instant) {
        let age = self.since.map(|since| now.saturating_duration_since(since));
        if age.is_none_or(|age| age >= WINDOW) {
            let before = match age {
                Some(age) if age < 2 * WINDOW => self.windows[1],
                _ => Duration::ZERO,
            };
            self.windows = [before, Duration::ZERO];
            self.since = Some(now);
        }
        self.windows[1] = self.windows[1].max(interval);
    }

    fn get(&self) -> Duration {
        self.windows[0].max(self.windows[1])
    }
}

#[derive(Debug, Default)]
struct Node {
    endpoints: usize,
    heard: Option<Instant>,
    longest: Longest,
    suspect: bool,
    /// Its last call came over a connection that lasts as long as the caller.
    lasting: bool,
    /// The open connections that carried its calls.
    connections: Vec<ConnectionId>,
}

#[derive(Debug, Default)]
struct Connection {
    calls: u32,
    nodes: Set<Name>,
}

impl Presence {
    /// One more endpoint of `node` is known.
    pub fn add_endpoint(&mut self, node: &Name) {
        self.nodes.entry(node.clone()).or_default().endpoints += 1;
    }

    /// One endpoint of `node` is gone; a node without endpoints is forgotten.
    pub fn remove_endpoint(&mut self, node: &Name) {
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        known.endpoints -= 1;
        if known.endpoints == 0
            && let Some(forgotten) = self.nodes.remove(node)
        {
            for connection in forgotten.connections {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.nodes.remove(node);
                }
            }
        }
    }

    /// How many endpoints `node` has.
    #[must_use]
    pub fn endpoints(&self, node: &Name) -> usize {
        self.nodes.get(node).map_or(0, |node| node.endpoints)
    }

    /// How many nodes have endpoints.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node has endpoints.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// `caller` made a call for `node`: it lives. Returns whether it was suspect.
    pub fn call(&mut self, caller: &Caller, node: &Name, now: Instant) -> bool {
        let connection = self.connections.entry(caller.connection).or_default();
        connection.calls = connection.calls.saturating_add(1);
        let Some(known) = self.nodes.get_mut(node) else {
            return false;
        };
        known.heard = Some(now);
        let was_suspect = std::mem::take(&mut known.suspect);
        known.lasting = caller.lasting;
        if !known.connections.contains(&caller.connection) {
            known.connections.push(caller.connection);
            connection.nodes.insert(node.clone());
        }
        was_suspect
    }

    /// The nodes that are suspect, in order; of more than `most` those that were
    /// heard last.
    #[must_use]
    pub fn suspects(&self, most: usize) -> Vec<Name> {
        let suspect = self.nodes.iter().filter(|(_, node)| node.suspect);
        let mut suspects: Vec<_> = suspect.map(|(name, node)| (node.heard, name)).collect();
        suspects.sort_unstable_by(|a, b| b.cmp(a));
        let mut names: Vec<Name> = suspects
            .into_iter()
            .take(most)
            .map(|(_, name)| name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// `node` renews at this interval, as seen or as told by the store.
    pub fn interval(&mut self, node: &Name, interval: Duration, now: Instant) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.longest.add(interval, now);
        }
    }

    /// A call over `connection` that names no node.
    pub fn call_without_node(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.calls = known.calls.saturating_add(1);
        }
    }

    /// A connection has ended. Returns the nodes that became suspect by that: over
    /// HTTP none, because a living gost closes its surplus connections all the time,
    /// and what it keeps may have carried other nodes' calls.
    pub fn closed(&mut self, connection: ConnectionId, by: ClosedBy) -> Vec<Name> {
        let Some(closed) = self.connections.remove(&connection) else {
            return Vec::new();
        };
        let mut suspects = Vec::new();
        for name in closed.nodes {
            let Some(node) = self.nodes.get_mut(&name) else {
                continue;
            };
            node.connections.retain(|open| *open != connection);
            if node.connections.is_empty()
                && node.lasting
                && by == ClosedBy::Peer
                && closed.calls >= CALLS_THAT_COUNT
            {
                node.suspect = true;
                suspects.push(name);
            }
        }
        suspects
    }

    /// Whether the peer has closed the last connection of `node`, and nothing
    /// was heard of it since.
    #[must_use]
    pub fn is_suspect(&self, node: &Name) -> bool {
        self.nodes.get(node).is_some_and(|node| node.suspect)
    }

    /// The longest interval that was lately seen between two renewals of one of
    /// `node`'s endpoints.
    #[must_use]
    pub fn longest_interval(&self, node: &Name) -> Duration {
        self.nodes
            .get(node)
            .map_or(Duration::ZERO, |node| node.longest.get())
    }

    /// Whether a connection that lasts as long as its caller, and that carried
    /// calls of `node`, is open: then `node` runs.
    #[must_use]
    pub fn is_connected(&self, node: &Name) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| node.lasting && !node.connections.is_empty())
    }

    /// Two of the intervals at which `node` renews.
    #[must_use]
    pub fn two_intervals(&self, node: &Name) -> Duration {
        2 * match self.longest_interval(node) {
            Duration::ZERO => USUAL_INTERVAL,
            seen => seen,
        }
    }

    /// Whether it is certain enough that `node` still runs to send a caller on
    /// the node's own host there: were it gone, that caller might be its next
    /// life and dial itself without end. A connection that carried its calls is
    /// open; or, where connections do not last (HTTP), it was heard within two
    /// of its intervals.
    #[must_use]
    pub fn surely_runs(&self, node: &Name, now: Instant) -> bool {
        let Some(known) = self.nodes.get(node) else {
            return false;
        };
        if known.suspect {
            return false;
        }
        let heard_lately = known
            .heard
            .is_some_and(|heard| now.saturating_duration_since(heard) <= self.two_intervals(node));
        !known.connections.is_empty() || (!known.lasting && heard_lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::name;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        presence: Presence,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let mut presence = Presence::default();
            presence.add_endpoint(&name("n"));
            Self {
                presence,
                now: Now::read().mono,
            }
        }

        fn call(&mut self, connection: u64, lasting: bool) {
            let mut caller = Caller::new(ConnectionId(connection), [10, 0, 0, 1].into(), &[]);
            caller.lasting = lasting;
            self.presence.call(&caller, &name("n"), self.now);
        }

        fn closed(&mut self, connection: u64, by: ClosedBy) -> bool {
            !self
                .presence
                .closed(ConnectionId(connection), by)
                .is_empty()
        }

        fn surely_runs(&self) -> bool {
            self.presence.surely_runs(&name("n"), self.now)
        }
    }

    #[test]
    fn suspect_when_the_peer_closes_the_last_connection() {
        let mut f = Fixture::new();
        for connection in [1, 1, 2, 2] {
            f.call(connection, true);
        }
        assert!(!f.closed(1, ClosedBy::Peer));
        assert!(f.closed(2, ClosedBy::Peer));
        assert!(f.presence.is_suspect(&name("n")));
        f.call(3, true);
        assert!(!f.presence.is_suspect(&name("n")));
    }

    #[test]
    fn a_connection_for_one_call_says_nothing() {
        let mut f = Fixture::new();
        f.call(1, true);
        assert!(!f.closed(1, ClosedBy::Peer));
    }

    #[test]
    fn over_http_the_end_of_a_connection_says_nothing() {
        let mut f = Fixture::new();
        for _ in 0..3 {
            f.call(1, false);
        }
        assert!(!f.closed(1, ClosedBy::Peer));
    }

    #[test]
    fn what_the_registry_closes_says_nothing() {
        let mut f = Fixture::new();
        f.call(1, true);
        f.call(1, true);
        assert!(!f.closed(1, ClosedBy::Registry));
    }

    #[test]
    fn over_lasting_connections_only_an_open_one_proves_life() {
        let mut f = Fixture::new();
        assert!(!f.surely_runs(), "not heard yet");
        f.call(1, true);
        assert!(f.surely_runs());
        f.closed(1, ClosedBy::Peer);
        assert!(
            !f.surely_runs(),
            "heard just now, but its connection is gone"
        );
    }

    #[test]
    fn over_http_two_intervals_prove_life() {
        let mut f = Fixture::new();
        f.call(1, false);
        f.closed(1, ClosedBy::Peer);
        f.now += 30 * SECOND;
        assert!(f.surely_runs());
        f.now += SECOND;
        assert!(!f.surely_runs());
        f.presence.interval(&name("n"), 60 * SECOND, f.now);
        f.now += 89 * SECOND;
        assert!(f.surely_runs());
        f.now += SECOND;
        assert!(!f.surely_runs());
    }

    #[test]
    fn an_interval_that_an_outage_made_long_is_forgotten() {
        let mut f = Fixture::new();
        f.presence.interval(&name("n"), 540 * SECOND, f.now);
        for _ in 0..120 {
            f.now += 15 * SECOND;
            f.presence.interval(&name("n"), 15 * SECOND, f.now);
        }
        assert_eq!(f.presence.longest_interval(&name("n")), 15 * SECOND);
    }

    #[test]
    fn a_slow_interval_is_not_forgotten() {
        let mut f = Fixture::new();
        for _ in 0..20 {
            f.presence.interval(&name("n"), 600 * SECOND, f.now);
            f.now += 600 * SECOND;
            assert_eq!(f.presence.longest_interval(&name("n")), 600 * SECOND);
        }
    }

    #[test]
    fn a_node_is_forgotten_with_its_last_endpoint() {
        let mut f = Fixture::new();
        f.presence.add_endpoint(&name("n"));
        f.call(1, true);
        f.presence.remove_endpoint(&name("n"));
        assert_eq!(f.presence.endpoints(&name("n")), 1);
        f.presence.remove_endpoint(&name("n"));
        assert!(f.presence.is_empty());
        assert!(f.presence.connections[&ConnectionId(1)].nodes.is_empty());
        assert!(!f.closed(1, ClosedBy::Peer));
    }
}
