//! A registry with a real store and a collector, in a world whose time the
//! test tells: every rule is shown over every store, and nothing waits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::backend::{Backend, Change, Revision, WatchError, Write, WriteError};
use crate::controller::plan::{Census, Due, Pace, Plan};
use crate::lease::Timing;
use crate::record::{Address, Endpoint, EndpointKey, Key, Kind, Name, Network, Record};
use crate::registry::core::{Core, Registered, Setup};
use crate::registry::testing::{key, name, setup};
use crate::registry::{Caller, ClosedBy, ConnectionId, Refusal};
use crate::time::Now;

/// Longer than any store takes to tell of its own write.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub core: Core,
    pub plan: Plan,
    pub now: Now,
    /// Whether writes reach the store.
    pub store_up: bool,
    backend: Arc<dyn Backend>,
    watch: BoxStream<'static, Result<Change, WatchError>>,
    told: Revision,
}

/// A connector of a gost: who calls, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Gost {
    pub caller: Caller,
    pub key: EndpointKey,
    pub address: String,
}

/// A gost that calls over gRPC from 10.0.0.`host`, with connector `connector`
/// of tunnel "t" at node "node-`host`".
pub(crate) fn gost(host: u8, connector: &str) -> Gost {
    let node = format!("node-{host}");
    Gost {
        caller: Caller {
            lasting: true,
            ..Caller::new(ConnectionId(host.into()), [10, 0, 0, host].into(), &[])
        },
        key: key("t", &node, connector),
        address: ":80".into(),
    }
}

impl Gost {
    /// The same, over HTTP, each call with a connection of its own.
    pub fn over_http(mut self) -> Self {
        self.caller.lasting = false;
        self
    }

    /// The same connector and host, at another node.
    pub fn at_node(mut self, node: &str) -> Self {
        self.key.node = name(node);
        self
    }

    /// The same over another connection.
    pub fn over(mut self, connection: u64) -> Self {
        self.caller.connection = ConnectionId(connection);
        self
    }
}

impl World {
    /// A registry that has read its store and whose grace after the start is over.
    pub async fn new(backend: Arc<dyn Backend>) -> Self {
        let mut world = Self::just_started(backend, setup(), Now::read()).await;
        world.pass(Timing::default().start_grace).await;
        world
    }

    /// A registry that starts on `backend` at `now`.
    pub async fn just_started(backend: Arc<dyn Backend>, setup: Setup, now: Now) -> Self {
        let mut world = Self {
            core: Core::new(setup, now),
            plan: Plan::new(Pace::default(), now.mono),
            now,
            store_up: true,
            watch: backend.watch(),
            backend,
            told: Revision::default(),
        };
        for _ in Kind::ALL {
            world.hear_the_store(None).await;
        }
        world.settle().await;
        world
    }

    /// The process is killed and started again after `away`.
    pub async fn restart_after(&mut self, away: Duration) {
        let now = self.now.plus(away);
        *self = Self::just_started(Arc::clone(&self.backend), setup(), now).await;
    }

    pub async fn register(&mut self, gost: &Gost) -> Result<Registered, Refusal> {
        let registered = self.announce(gost);
        self.settle().await;
        registered
    }

    /// Registers, and leaves the write in the queue.
    pub fn announce(&mut self, gost: &Gost) -> Result<Registered, Refusal> {
        let address = Address::announced(&gost.address, gost.caller.peer, &[]).unwrap();
        let endpoint = Endpoint {
            key: gost.key.clone(),
            network: Network::Tcp,
            address,
            origin: Some(gost.caller.host),
            pod: None,
            attributes: Default::default(),
        };
        self.core.register(self.now, &gost.caller, endpoint)
    }

    pub async fn renew(&mut self, gost: &Gost) {
        self.core.renew(self.now, &gost.caller, &gost.key);
        self.settle().await;
    }

    pub async fn deregister(&mut self, gost: &Gost) {
        self.core.deregister(self.now, &gost.caller, &gost.key);
        self.settle().await;
    }

    /// The peer closes the connection over which `gost` calls.
    pub fn hang_up(&mut self, gost: &Gost) {
        self.core.closed(gost.caller.connection, ClosedBy::Peer);
    }

    /// The connectors of tunnel "t" that a caller on 10.0.0.`host` is told, in order.
    pub fn told_to(&mut self, host: u8) -> Vec<String> {
        self.told_to_peer([10, 0, 0, host].into())
    }

    pub fn told_to_peer(&mut self, peer: IpAddr) -> Vec<String> {
        let caller = Caller::new(ConnectionId(u64::MAX), peer, &[]);
        let told = self.core.get(self.now, &caller, &name("t")).unwrap();
        told.iter()
            .map(|record| record.endpoint.key.connector.to_string())
            .collect()
    }

    /// The connectors that the store holds, and whether each lease is held.
    pub async fn stored(&self) -> Vec<(String, bool)> {
        let Some(Ok(Change::Reset(_, all, _))) = self.backend.watch().next().await else {
            panic!("a watch begins with a reset");
        };
        let mut stored: Vec<_> = all
            .into_iter()
            .map(|stored| {
                let Record::Endpoint(record) = stored.record else {
                    panic!("endpoints are told first");
                };
                let connector = record.endpoint.key.connector.to_string();
                (connector, record.lease.is_held())
            })
            .collect();
        stored.sort();
        stored
    }

    /// Somebody removes an endpoint from the store by hand.
    pub async fn delete_by_hand(&mut self, gost: &Gost) {
        let revision = self.core.index.get(&gost.key).unwrap().revision.unwrap();
        let write = Write::Delete(Key::Endpoint(gost.key.clone()), revision);
        let made = self.backend.write(write).await.unwrap();
        self.hear_the_store(Some(made)).await;
        self.settle().await;
    }

    /// Time passes, a second at a time, and all tasks do what they do.
    pub async fn pass(&mut self, time: Duration) {
        self.pass_renewing(time, &[], Duration::from_secs(1)).await;
    }

    /// Time passes while `renewing` are renewed each `every`.
    pub async fn pass_renewing(&mut self, time: Duration, renewing: &[Gost], every: Duration) {
        for second in 1..=time.as_secs() {
            self.now = self.now.plus(Duration::from_secs(1));
            if second % every.as_secs() == 0 {
                for gost in renewing {
                    self.core.renew(self.now, &gost.caller, &gost.key);
                }
            }
            self.core.sweep(self.now, 0, usize::MAX);
            self.settle().await;
            self.collect().await;
        }
    }

    /// The process does not run for a while, and the world goes on.
    pub fn freeze(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    async fn collect(&mut self) {
        if !self.store_up {
            return;
        }
        self.plan.contact(self.now.mono);
        let due = self.plan.take_due(self.now.mono, &CoreCensus(&self.core));
        for Due { key, revision, .. } in due {
            let result = self
                .backend
                .write(Write::Delete(Key::Endpoint(key), revision))
                .await;
            match result {
                Ok(made) => self.hear_the_store(Some(made)).await,
                Err(WriteError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.settle().await;
    }

    /// Makes the writes that are due, and hears what the store tells of them.
    pub async fn settle(&mut self) {
        while let Some((made, write)) = self.core.next_write(self.now) {
            let removes_nothing = match &write {
                Write::Delete(_, revision) => *revision == Revision::default(),
                _ => false,
            };
            let result = match self.store_up {
                true => self.backend.write(write).await,
                false => Err(WriteError::Unavailable("taken down by the test".into())),
            };
            self.core.written(self.now, &made, &result);
            if let Ok(revision) = result
                && !removes_nothing
            {
                self.hear_the_store(Some(revision)).await;
            }
        }
    }

    /// Applies what the store tells, up to `revision` (else one change).
    async fn hear_the_store(&mut self, revision: Option<Revision>) {
        while revision.is_none_or(|revision| self.told < revision) {
            let change = tokio::time::timeout(TOLD_WITHIN, self.watch.next())
                .await
                .expect("a store tells of its own writes")
                .unwrap()
                .unwrap();
            self.told = match &change {
                Change::Reset(_, _, revision) | Change::Delete(_, revision) => *revision,
                Change::Put(stored) => stored.revision,
            };
            self.plan.apply(std::slice::from_ref(&change));
            self.core.apply(self.now, change);
            if revision.is_none() {
                return;
            }
        }
    }
}

struct CoreCensus<'a>(&'a Core);

impl Census for CoreCensus<'_> {
    fn nodes(&self) -> usize {
        self.0.presence.len()
    }

    fn endpoints_of(&self, node: &Name) -> usize {
        self.0.presence.endpoints(node)
    }
}
