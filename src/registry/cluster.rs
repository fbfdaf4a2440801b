//! Several replicas on one store, in a world whose time the test tells.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::task::coop::unconstrained;

use crate::backend::memory::Memory;
use crate::backend::{Backend, Change, Revision, Stored, WatchError, Write, WriteError};
use crate::pods::{Pod, PodChange};
use crate::record::{Address, Endpoint, EndpointRecord, Key, Kind, Network, Record};
use crate::registry::core::{Core, Setup};
use crate::registry::sync::Made;
use crate::registry::testing::setup;
use crate::registry::vouch::Sharing;
use crate::registry::world::Gost;
use crate::registry::{Caller, ClosedBy, ConnectionId};
use crate::time::Now;

/// How long a replica's lease is valid.
pub(crate) const VALIDITY: Duration = Duration::from_secs(40);

pub(crate) struct Cluster {
    pub now: Now,
    pub store: Memory,
    pub replicas: Vec<Replica>,
}

pub(crate) struct Replica {
    pub core: Core,
    /// Whether it reaches the store.
    pub connected: bool,
    /// Whether its process runs.
    pub alive: bool,
    /// Writes of endpoints that were made.
    pub writes: usize,
    watch: BoxStream<'static, Result<Change, WatchError>>,
    /// The writes that the store was given while it hung.
    hung: Vec<(Made, Write)>,
    pub hangs: bool,
    /// Whether it may write its own lease.
    pub may_vouch: bool,
}

impl Cluster {
    /// Replicas `r0`, `r1`, … that have read the store and whose grace is over.
    pub async fn new(count: usize) -> Self {
        let mut cluster = Self {
            now: Now::read(),
            store: Memory::new(),
            replicas: Vec::new(),
        };
        for at in 0..count {
            let replica = cluster.started(at);
            cluster.replicas.push(replica);
        }
        cluster.pass(150, |_, _| {}).await;
        cluster
    }

    fn started(&self, at: usize) -> Replica {
        let setup = Setup {
            identity: format!("r{at}").into(),
            sharing: Some(Sharing { validity: VALIDITY }),
            seed: at as u64,
            ..setup()
        };
        Replica {
            core: Core::new(setup, self.now),
            connected: true,
            alive: true,
            writes: 0,
            watch: self.store.watch(),
            hung: Vec::new(),
            hangs: false,
            may_vouch: true,
        }
    }

    /// The process of a replica starts anew: it forgets all but who it is.
    pub fn restart(&mut self, at: usize) {
        self.replicas[at] = self.started(at);
    }

    /// The watch of a replica begins anew with a list.
    pub fn relist(&mut self, at: usize) {
        self.replicas[at].watch = self.store.watch();
    }

    /// Requests of a replica are received from now on, and neither made nor answered.
    pub fn hang(&mut self, at: usize) {
        self.replicas[at].hangs = true;
    }

    /// What hung is made now; whoever asked has long given up.
    pub async fn thaw(&mut self, at: usize) {
        self.replicas[at].hangs = false;
        for (_, write) in std::mem::take(&mut self.replicas[at].hung) {
            // Nobody hears the answer.
            let _unheard = self.store.write(write).await;
        }
    }

    /// Time passes, a second at a time; `each` makes the calls of each second.
    pub async fn pass(&mut self, seconds: u64, mut each: impl FnMut(u64, &mut Self)) {
        for second in 1..=seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            each(second, self);
            self.settle().await;
        }
    }

    /// Every replica that can does what its tasks do.
    pub async fn settle(&mut self) {
        let (now, store) = (self.now, self.store.clone());
        for _ in 0..2 {
            for replica in self.replicas.iter_mut().filter(|replica| replica.alive) {
                replica.hear(now);
                replica.core.sweep(now, 0, usize::MAX);
                if replica
                    .core
                    .vouch_due(now)
                    .is_some_and(|due| due <= now.mono)
                    && let Some(write) = replica.core.vouch(now, false)
                {
                    let result = match replica.may_vouch {
                        true => replica.send(&store, write).await,
                        false => Err(WriteError::Refused("exceeded quota".into())),
                    };
                    replica.core.vouched(now, &result);
                }
                while let Some((made, write)) = replica.core.next_write(now) {
                    if replica.hangs {
                        replica.hung.push((made.clone(), write.clone()));
                    }
                    let result = replica.send(&store, write).await;
                    replica.writes += usize::from(result.is_ok());
                    replica.core.written(now, &made, &result);
                }
            }
        }
        for replica in self.replicas.iter_mut().filter(|replica| replica.alive) {
            replica.hear(now);
        }
    }

    /// What is stored of an endpoint.
    pub async fn stored(&self, gost: &Gost) -> Option<Stored> {
        let mut watch = self.store.watch();
        while let Some(Ok(Change::Reset(kind, all, _))) = watch.next().await {
            if kind == Kind::Endpoint {
                let key = Key::Endpoint(gost.key.clone());
                return all.into_iter().find(|stored| stored.record.key() == key);
            }
        }
        None
    }

    /// The record that is stored of an endpoint.
    pub async fn record(&self, gost: &Gost) -> Arc<EndpointRecord> {
        match self.stored(gost).await.unwrap().record {
            Record::Endpoint(record) => record,
            other => unreachable!("{:?} is stored under the key of an endpoint", other.kind()),
        }
    }

    /// Who holds an endpoint in the store: `Some(None)` when it is released.
    pub async fn holder(&self, gost: &Gost) -> Option<Option<String>> {
        self.stored(gost).await?;
        let record = self.record(gost).await;
        Some(record.lease.holder.as_ref().map(ToString::to_string))
    }

    /// Somebody writes an endpoint by hand.
    pub async fn write_by_hand(&mut self, record: EndpointRecord) {
        let write = Write::Create(Record::Endpoint(record.into()));
        self.store.write(write).await.unwrap();
        self.settle().await;
    }

    pub fn register(&mut self, at: usize, gost: &Gost) {
        let address = Address::announced(&gost.address, gost.caller.peer, &[]).unwrap();
        let endpoint = Endpoint {
            key: gost.key.clone(),
            network: Network::Tcp,
            address,
            origin: Some(gost.caller.host),
            pod: None,
            attributes: Default::default(),
        };
        let now = self.now;
        let core = &mut self.replicas[at].core;
        core.register(now, &gost.caller, endpoint).unwrap();
    }

    pub fn renew(&mut self, at: usize, gost: &Gost) {
        let now = self.now;
        self.replicas[at].core.renew(now, &gost.caller, &gost.key);
    }

    pub fn deregister(&mut self, at: usize, gost: &Gost) {
        let now = self.now;
        let core = &mut self.replicas[at].core;
        core.deregister(now, &gost.caller, &gost.key);
    }

    /// The peer closes the connection over which `gost` calls at a replica.
    pub fn hang_up(&mut self, at: usize, gost: &Gost) {
        let core = &mut self.replicas[at].core;
        core.closed(gost.caller.connection, ClosedBy::Peer);
    }

    /// Every replica sees a pod, or that it goes.
    pub fn pod(&mut self, change: &PodChange) {
        for replica in &mut self.replicas {
            replica.core.apply_pods(self.now, change.clone());
        }
    }

    /// The connectors of tunnel "t" that a stranger is told by a replica, in order.
    pub fn told(&mut self, at: usize) -> Vec<String> {
        let caller = Caller::new(ConnectionId(u64::MAX), [10, 0, 9, 9].into(), &[]);
        let tunnel = "t".parse().unwrap();
        let told = self.replicas[at].core.get(self.now, &caller, &tunnel);
        let told = told.unwrap();
        told.iter()
            .map(|record| record.endpoint.key.connector.to_string())
            .collect()
    }

    /// The health in which a replica sees an endpoint.
    pub fn health(&mut self, at: usize, gost: &Gost) -> Option<String> {
        let row = self.replicas[at].core.row(self.now, &gost.key)?;
        Some(match row.health {
            crate::listing::Health::Healthy => "healthy".into(),
            crate::listing::Health::Doubtful(why) => why.into(),
        })
    }
}

impl Replica {
    async fn send(&self, store: &Memory, write: Write) -> Result<Revision, WriteError> {
        match self.connected && !self.hangs {
            true => store.write(write).await,
            false => Err(WriteError::Unavailable("cut off by the test".into())),
        }
    }

    /// Hears what the store tells.
    fn hear(&mut self, now: Now) {
        // Without tokio's bound on what one task may receive before it yields.
        while self.connected
            && !self.hangs
            && let Some(Some(change)) = unconstrained(self.watch.next()).now_or_never()
        {
            self.core.apply(now, change.unwrap());
        }
    }
}

/// A pod at 10.0.0.`host`.
pub(crate) fn pod(uid: u128, host: u8, terminating: bool) -> Pod {
    Pod {
        uid: uuid::Uuid::from_u128(uid),
        ips: vec![[10, 0, 0, host].into()],
        terminating,
    }
}
