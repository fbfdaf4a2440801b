//! Looks up the hosts of backends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::lookup_host;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Sessions, count};
use crate::causes::Causes;
use crate::session::host::HostName;
use crate::time::Now;

/// How often it is seen what is due.
const TICK: Duration = Duration::from_millis(250);
/// Lookups under way at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// How long a lookup may take. The system's resolver gives up by itself later:
/// until then a thread of its own waits.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Sessions {
    /// Looks hosts up until `stop`, while this controller leads.
    pub async fn resolve(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut causes = Causes::new();
        let mut looking = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.wanted.notified() => {}
                Some((host, found)) = looking.next() => self.found(&host, found, &mut causes),
            }
            if self.acts() {
                let room = LOOKUPS_AT_ONCE - looking.len();
                let due = self.state.lock().hosts.take_due(room, Now::read().mono);
                looking.extend(due.into_iter().map(look_up));
            }
        }
    }

    fn found(&self, host: &HostName, found: Result<Vec<IpAddr>, String>, causes: &mut Causes) {
        let now = Now::read().mono;
        if let Err(why) = &found {
            count(&self.counts.lookups_failed);
            if causes.is_news(&format!("{host}: {why}"), now) {
                tracing::warn!(%host, "a backend's host has no address now: {why}");
            }
        }
        let is_news = self.state.lock().hosts.resolved(host, found.ok(), now);
        if is_news {
            tracing::debug!(%host, "the addresses of a backend's host changed");
            self.look_again();
        }
    }
}

/// A host's addresses, by the system's resolver.
async fn look_up(host: HostName) -> (HostName, Result<Vec<IpAddr>, String>) {
    let found = match timeout(LOOKUP_TIMEOUT, lookup_host((host.as_str(), 0))).await {
        Ok(Ok(found)) => {
            let addresses: Vec<_> = found.map(|address| address.ip()).collect();
            match addresses.is_empty() {
                true => Err("the answer has none".into()),
                false => Ok(addresses),
            }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {LOOKUP_TIMEOUT:?}")),
    };
    (host, found)
}
