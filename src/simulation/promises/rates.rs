//! How much is written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::record::{EndpointKey, Key};
use crate::registry::refresh::writes_a_second;
use crate::simulation::agenda::{ClientId, Time};
use crate::simulation::api::Edit;
use crate::simulation::client::Process;
use crate::simulation::promises::By;
use crate::simulation::world::World;

/// Writes are counted over so long.
const WINDOW: Duration = Duration::from_secs(60);
/// And ownership over so long.
const LONG: Duration = Duration::from_secs(300);
/// A replica takes an endpoint over and releases it again at most so often in
/// [`LONG`]: once a minute each (issue 4), and once more.
const OWNED_IN_LONG: usize = 11;
/// A lease of 60 s is written anew after 18 s at the earliest.
const LEAST_REFRESH: f64 = 18.0;
/// A replica's lease is written anew after 9 s at the earliest.
const LEAST_VOUCH: f64 = 9.0;
/// Its suspects change at the ends of connections and at the next calls; so many
/// such writes a minute are no steady state's.
const OTHER_VOUCHES: f64 = 4.0;

/// What was written lately.
#[derive(Debug, Default)]
pub struct Rates {
    /// Leases of endpoints that were written anew for their age, and of replicas.
    refreshed: VecDeque<Time>,
    vouched: VecDeque<Time>,
    /// Who became or ceased to be the holder of what.
    owned: BTreeMap<(EndpointKey, ClientId), VecDeque<Time>>,
    /// When replicas ended, by identity.
    pub died: BTreeMap<Arc<str>, Time>,
    /// What has ended and is stored longer than it may be, and since when.
    pub overdue: BTreeMap<EndpointKey, Time>,
    /// When a controller was last seen to brake.
    pub braked: Option<Time>,
}

fn keep(times: &mut VecDeque<Time>, now: Time, window: Duration) {
    while times.front().is_some_and(|at| *at + window < now) {
        times.pop_front();
    }
}

impl World {
    /// Notes what kind of write was made.
    pub(super) fn count_write(&mut self, by: By, edit: &Edit) {
        let By::Client(client) = by else {
            return;
        };
        let now = self.now;
        if let (Key::Replica(_), Some(_)) = (&edit.key, &edit.after) {
            self.rates.vouched.push_back(now);
            keep(&mut self.rates.vouched, now, WINDOW);
            return;
        }
        if let (Some(before), Some(after)) = (edit.before(), edit.after())
            && before.lease.holder == after.lease.holder
            && before.endpoint == after.endpoint
            && self.is_replica(client)
        {
            self.rates.refreshed.push_back(now);
            keep(&mut self.rates.refreshed, now, WINDOW);
        }
    }

    /// "No two holders fight" (issue 4: at most one ownership write a minute each):
    /// a replica makes at most [`OWNED_IN_LONG`] ownership writes of an endpoint in
    /// five minutes in which nothing stands in anybody's way.
    pub(super) fn holders_do_not_fight(&mut self, by: By, edit: &Edit) {
        let By::Client(client) = by else {
            return;
        };
        let (Some(before), Some(after)) = (edit.before(), edit.after()) else {
            return;
        };
        if before.lease.holder == after.lease.holder {
            return;
        }
        self.counts.add("ownership write", 1);
        let now = self.now;
        let key = after.endpoint.key.clone();
        let owned = self.rates.owned.entry((key.clone(), client)).or_default();
        owned.push_back(now);
        keep(owned, now, LONG);
        let often = owned.len() > OWNED_IN_LONG;
        if often && self.calm_since().is_some_and(|calm| now >= calm + LONG) {
            let text = format!("{} fights for {key}", self.name_of(client));
            self.broken("holders_do_not_fight", text);
        }
    }

    /// "Renewing costs the cluster a constant" (DESIGN.md, Liveness): in a minute in
    /// which nothing stands in anybody's way, leases of endpoints are written anew
    /// at most once in [`LEAST_REFRESH`] each, or at the cluster's rate and a tenth,
    /// whichever is less; leases of replicas once in [`LEAST_VOUCH`] each.
    pub(super) fn writes_are_few(&mut self) {
        let since = self.calm_since();
        if since.is_none_or(|calm| self.now < calm + 2 * WINDOW) {
            return;
        }
        let now = self.now;
        keep(&mut self.rates.refreshed, now, WINDOW);
        keep(&mut self.rates.vouched, now, WINDOW);
        let minute = WINDOW.as_secs_f64();
        let endpoints = self.truths.iter().filter(|(key, truth)| {
            let lately = |at: Time| at + WINDOW >= now;
            self.api.endpoint(key).is_some() || truth.removed.is_some_and(lately)
        });
        let running = (0..self.replicas.len()).filter(|at| {
            let state = &self.clients[*at];
            state.process != Process::Down || state.down_since + WINDOW > now
        });
        let (endpoints, running) = (endpoints.count() as f64, running.count());
        let rate = 1.1 * writes_a_second(running) * minute + 2.0 * running as f64;
        let refreshes = (endpoints * (minute / LEAST_REFRESH + 1.0)).min(rate.max(endpoints));
        let vouches = running as f64 * (minute / LEAST_VOUCH + 1.0 + OTHER_VOUCHES);
        let (refreshed, vouched) = (self.rates.refreshed.len(), self.rates.vouched.len());
        self.counts.add("checked: writes in a minute", 1);
        if refreshed as f64 > refreshes || vouched as f64 > vouches {
            let text = format!(
                "{refreshed} leases of endpoints and {vouched} of replicas were written in a minute, not {refreshes} and {vouches}"
            );
            self.broken("writes_are_few", text);
        }
    }
}
