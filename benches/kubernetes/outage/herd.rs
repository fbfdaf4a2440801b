//! Simulated gosts: endpoints that are renewed and asked for all the time.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::common::client::Client;
use crate::common::wire::{CONNECTORS, Call, Endpoint, Protocol, Request};
use crate::common::{Error, Result};
use crate::{any, call_each, gets, requests};

/// How long whoever asks all the time rests between two answers.
const ASK: Duration = Duration::from_millis(20);
/// Registrations that are made at once, at most.
const AT_ONCE: usize = 64;
/// Renewals may come so close together, where there is little to renew.
const CLOSEST: Duration = Duration::from_millis(1);

/// Calls of one kind that were made.
#[derive(Debug, Default)]
pub struct Tally {
    made: Cell<usize>,
    failed: Cell<usize>,
    longest: Cell<Duration>,
}

/// A tally at a time.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Calls that were made.
    pub made: usize,
    /// Those that did not come to what they should.
    pub failed: usize,
    /// The longest one.
    pub longest: Duration,
}

impl Tally {
    /// Waits for a call and counts it. What is wrong is told at once.
    pub async fn count(&self, what: &str, call: impl Future<Output = Result<()>>) {
        let began = Instant::now();
        let result = call.await;
        self.made.set(self.made.get() + 1);
        self.longest.set(self.longest.get().max(began.elapsed()));
        if let Err(error) = result {
            self.failed.set(self.failed.get() + 1);
            eprintln!("outage: {what}: {error}");
        }
    }

    /// What was counted since this was asked last.
    pub fn take(&self) -> Count {
        Count {
            made: self.made.take(),
            failed: self.failed.take(),
            longest: self.longest.take(),
        }
    }
}

/// The replica at which an endpoint of a list of whole tunnels registers: each
/// has one connector of every tunnel, and serves the other's, too.
fn place(index: usize) -> usize {
    (index / CONNECTORS + index % CONNECTORS) % 2
}

/// The endpoints of whole tunnels, by the replica at which they register.
pub fn places(endpoints: &[Endpoint]) -> [Vec<Endpoint>; 2] {
    let mut places = [Vec::new(), Vec::new()];
    for (index, endpoint) in endpoints.iter().enumerate() {
        places[place(index)].push(endpoint.clone());
    }
    places
}

/// The gosts of one replica.
#[derive(Debug)]
pub struct Herd {
    at: SocketAddr,
    /// What is renewed, in turns.
    renewals: RefCell<Vec<Request>>,
    /// Registered and deregistered last. Open until the next one is: a node whose
    /// last connection closes is suspect. Made anew each time, because a registry
    /// closes one that is idle for long.
    client: RefCell<Option<Client>>,
}

impl Herd {
    /// Nothing is registered yet.
    pub fn new(at: SocketAddr) -> Self {
        Self {
            at,
            renewals: RefCell::default(),
            client: RefCell::default(),
        }
    }

    async fn connect(&self, callers: usize) -> Result<Client> {
        Client::connect(Protocol::Grpc, self.at, callers, 1).await
    }

    /// Registers endpoints, all at once, and renews them from now on.
    pub async fn register(&self, endpoints: &[Endpoint]) -> Result<()> {
        self.call(Call::Register, endpoints).await?;
        let renewals = requests(Call::Renew, endpoints)?;
        self.renewals.borrow_mut().extend(renewals);
        Ok(())
    }

    /// Renews endpoints no longer, and deregisters them, all at once.
    pub async fn deregister(&self, endpoints: &[Endpoint]) -> Result<()> {
        let gone = requests(Call::Renew, endpoints)?;
        self.renewals.borrow_mut().retain(|one| !gone.contains(one));
        self.call(Call::Deregister, endpoints).await
    }

    async fn call(&self, call: Call, endpoints: &[Endpoint]) -> Result<()> {
        let mut client = self.connect(AT_ONCE).await?;
        call_each(&mut client, call, endpoints).await?;
        self.client.replace(Some(client));
        Ok(())
    }

    /// Renews each endpoint so often, one after the other, for ever.
    pub async fn renew(&self, every: Duration, tally: &Tally) -> Error {
        let mut client = match self.connect(1).await {
            Ok(client) => client,
            Err(error) => return error,
        };
        let pause =
            |count: usize| (every / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).max(CLOSEST);
        let (mut next, mut count) = (0, self.renewals.borrow().len());
        let mut ticks = ticks(pause(count));
        loop {
            ticks.tick().await;
            let now = self.renewals.borrow().len();
            if now != count {
                count = now;
                ticks = self::ticks(pause(count));
                ticks.tick().await;
            }
            let renewal = self.renewals.borrow().get(next % count.max(1)).cloned();
            next += 1;
            if let Some(renewal) = renewal {
                let call = async { client.callers[0].ask(&renewal).await.map(drop) };
                tally.count("Renew", call).await;
            }
        }
    }

    /// Asks for tunnels by chance, for ever: both connectors must be listed.
    pub async fn ask(&self, endpoints: &[Endpoint], tally: &Tally) -> Error {
        let prepared = async { Result::Ok((self.connect(1).await?, gets(endpoints)?)) };
        let (mut client, gets) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return error,
        };
        loop {
            let get = any(&gets);
            let call = async { client.callers[0].call(&get).await.map(drop) };
            tally.count("Get", call).await;
            sleep(ASK).await;
        }
    }

    /// How many connectors of a tunnel it offers.
    pub async fn offers(&self, endpoint: &Endpoint) -> Result<usize> {
        let get = Request::new(Protocol::Grpc, Call::Get, endpoint)?;
        let mut client = self.connect(1).await?;
        Ok(client.callers[0].ask(&get).await?.len())
    }
}

fn ticks(pause: Duration) -> tokio::time::Interval {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
