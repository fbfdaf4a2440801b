//! Services that several replicas share: what is registered at one is told by all,
//! while replicas die and while the API server is away.

mod agreement;
mod client;
mod liveness;
mod rights;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde_json::Value;
use tunnel_registry::resources::lease::HOLDER;
use tunnel_registry::resources::{DiscoveryInstance, DiscoveryService};

use super::accounts::{Account, SERVICES};
use super::env::Env;
use super::product::Product;
use crate::process::{Setup, until};
use client::Client;

/// Far longer than any pause between two heartbeats.
const TTL: Duration = Duration::from_secs(8);

impl Env {
    fn discovery_services(&self) -> Api<DiscoveryService> {
        self.api()
    }

    fn discovery_instances(&self) -> Api<DiscoveryInstance> {
        self.api()
    }

    /// The holder of the instance at an address.
    async fn holder(&self, addr: &str) -> Option<String> {
        let all = self
            .discovery_instances()
            .list(&ListParams::default())
            .await
            .unwrap();
        let mut all = all.items.into_iter();
        let instance = all.find(|instance| instance.spec.addr == addr)?;
        instance.annotations().get(HOLDER).cloned()
    }

    /// How many writes of services and instances the replicas have made, by verb
    /// and kind.
    fn writes(&self) -> BTreeMap<String, usize> {
        let user = Account::Plugin.user(&self.namespace);
        let log = fs::read_to_string(self.site.audit_log()).unwrap();
        // The last line may be in the making.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let mut writes = BTreeMap::new();
        for line in whole.lines().filter(|line| line.contains(&user)) {
            let event: Value = serde_json::from_str(line).unwrap();
            let kind = event["objectRef"]["resource"].as_str().unwrap_or_default();
            let verb = event["verb"].as_str().unwrap_or_default();
            let is_write = matches!(verb, "create" | "patch" | "update" | "delete");
            if is_write && kind.starts_with("discovery") {
                *writes.entry(format!("{verb} {kind}")).or_default() += 1;
            }
        }
        writes
    }
}

/// How the n-th replica is started so that it serves services.
async fn serving(env: &Env, product: &Product<'_>, n: u8) -> Setup {
    env.grant(SERVICES, Account::Plugin).await;
    with_flags(product.replica(n).await, n)
}

fn with_flags(setup: Setup, n: u8) -> Setup {
    let ttl = TTL.as_secs();
    setup.flags(&format!(
        "--services --identity replica-{n} --replica-lease 4s --service-ttl {ttl}s"
    ))
}

/// Waits until two replicas list the same; returns that.
async fn agree(a: &Client, b: &Client, service: &str, count: usize) -> Vec<(String, u64)> {
    until("both replicas list the same", async || {
        let (at_a, at_b) = (a.listed(service).await?, b.listed(service).await?);
        match at_a == at_b && at_a.len() == count {
            true => Ok(at_a),
            false => Err(format!("{at_a:?} and {at_b:?}")),
        }
    })
    .await
}
