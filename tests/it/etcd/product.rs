//! Replicas of the product on one etcd, as processes.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::server::{Server, prefix};
use crate::process::{Net, Setup, folder};

/// Where the product runs.
pub struct Product {
    store: String,
    /// What all keys begin with.
    pub prefix: String,
    /// The n-th replica is on the n-th host.
    pub net: Net,
    folder: TempDir,
}

impl Product {
    pub fn new(server: &Server) -> Self {
        Self {
            store: server.store(),
            prefix: prefix(),
            net: Net::take(),
            folder: folder(),
        }
    }

    /// How the n-th replica is started.
    pub fn replica(&self, n: u8) -> Setup {
        self.replica_at(n, &self.store)
    }

    /// The same, with another value of `--store`.
    pub fn replica_at(&self, n: u8, store: &str) -> Setup {
        let mut setup = Setup::new(self.net, self.folder.path());
        setup.listen = self.net.at(n, 8000);
        setup.admin = self.net.at(n, 8090);
        setup.store = Some(store.into());
        setup.flags(&format!("--identity r{n} --etcd-prefix {}", self.prefix))
    }

    /// The connectors that are stored; none while etcd does not answer.
    pub async fn stored(&self, server: &Server) -> Option<BTreeSet<String>> {
        let pairs = server.range(&self.key("endpoint/")).await.ok()?;
        let connectors = pairs.iter().map(|pair| {
            let connector = &pair.json()["record"]["connector"];
            connector.as_str().unwrap().to_owned()
        });
        Some(connectors.collect())
    }

    /// A key of this registry.
    pub fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }
}
