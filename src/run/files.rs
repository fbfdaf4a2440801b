//! How many files the process may have open. Each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::admin::server::CONNECTIONS as ADMIN_CONNECTIONS;

/// Files beside connections: the store, listeners, the runtime's own.
const OTHERS: u64 = 64;

/// Raises the soft limit to the hard one, and warns when that is too low for
/// `connections`.
pub fn allow_many(connections: usize) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files could not be raised");
    }
    // None is no limit.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    info!(allowed, "open files");
    let needed = needed(connections);
    if allowed < needed {
        warn!(
            allowed,
            needed,
            "too few files may be open; raise the limit (ulimit -Hn, LimitNOFILE=) or lower --max-connections and --session-max-connections"
        );
    }
}

fn needed(connections: usize) -> u64 {
    let connections = connections.saturating_add(ADMIN_CONNECTIONS);
    u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        allow_many(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn every_connection_is_a_file() {
        assert_eq!(needed(10_000), 10_000 + 256 + 64);
        assert_eq!(needed(usize::MAX), u64::MAX);
    }
}
