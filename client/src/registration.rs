//! An instance that is registered, and kept registered.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pause::{Pauses, shortened};
use crate::{Client, Error, Instance, LeaderType};

/// How often an instance is told to live: a third of the 10 s after which the
/// registry lets it go.
const EVERY: Duration = Duration::from_millis(3_333);
/// The share of [`EVERY`] by which a pause may be shorter, at random.
const JITTER: f64 = 0.1;
/// How many orders may wait for the one that is being carried out.
const ORDERS: usize = 16;

/// How an instance is to be registered; [`Client::register`] begins one.
///
/// `.await` it to have the first registration made, or refused: what trying again
/// does not mend (an unknown service, a wrong token) is an error then. Or
/// [`start`](Register::start) it, to go on with whatever is next at once.
#[derive(Clone, Debug)]
#[must_use = "nothing is registered unless this is awaited or started"]
pub struct Register {
    client: Client,
    service: String,
    instance: Instance,
    create: Option<LeaderType>,
    every: Duration,
}

/// Whether an instance is registered.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Not yet.
    Registering,
    /// The registry has it, as far as the last heartbeat tells.
    Registered,
    /// The last attempt failed, for this reason; more are made, with pauses of at
    /// most 5 s. What the registry was told before stands there for 10 s.
    Failing(Error),
}

/// An instance that is kept registered, by heartbeats, and by registering it again
/// after the registry lost it or could not be reached.
///
/// A task does that, which this owns. Dropping it ends the task at once; the instance
/// is not unregistered then, and goes when the registry has heard nothing for 10 s.
/// [`Registration::unregister`] makes it go at once.
#[derive(Debug)]
pub struct Registration {
    instance: Instance,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    /// The one task; it is aborted when this is dropped.
    _task: JoinSet<()>,
}

#[derive(Debug)]
enum Order {
    Update(BTreeMap<String, String>, oneshot::Sender<Result<(), Error>>),
    Unregister(oneshot::Sender<Result<(), Error>>),
}

impl Register {
    pub(crate) fn new(client: Client, service: &str, instance: Instance) -> Self {
        Self {
            client,
            service: service.to_owned(),
            instance,
            create: None,
            every: EVERY,
        }
    }

    /// Makes the service when there is none, also later, when it was removed.
    pub fn create(mut self, leader: LeaderType) -> Self {
        self.create = Some(leader);
        self
    }

    /// How often the registry is told; 3.3 s unless this is said, less up to a tenth
    /// at random. It lets an instance go that it has not heard for 10 s.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Begins at once, and goes on whatever comes: see [`Registration::state`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(self) -> Registration {
        self.begin(State::Registering)
    }

    fn begin(self, state: State) -> Registration {
        let instance = self.instance.clone();
        let (orders, received) = mpsc::channel(ORDERS);
        let (sender, state) = watch::channel(state);
        let mut task = JoinSet::new();
        task.spawn(self.keep(sender, received));
        Registration {
            instance,
            orders,
            state,
            _task: task,
        }
    }

    /// Until it is unregistered.
    async fn keep(mut self, state: watch::Sender<State>, mut orders: mpsc::Receiver<Order>) {
        let mut pauses = Pauses::default();
        let mut pause = match *state.borrow() {
            State::Registered => self.until_next(),
            _ => Duration::ZERO,
        };
        loop {
            let asked = match timeout(pause, orders.recv()).await {
                Err(_) => None,
                Ok(None) => return,
                Ok(Some(Order::Update(meta, asked))) => {
                    self.instance.meta = meta;
                    Some(asked)
                }
                // No heartbeat is under way that could come after it.
                Ok(Some(Order::Unregister(asked))) => {
                    let _gone = asked.send(self.end().await);
                    return;
                }
            };
            let outcome = self.beat().await;
            let is = match &outcome {
                Ok(()) => {
                    pauses = Pauses::default();
                    pause = self.until_next();
                    State::Registered
                }
                Err(error) => {
                    pause = pauses.next(fastrand::f64()).min(self.every);
                    State::Failing(error.clone())
                }
            };
            self.report(&state, is);
            if let Some(asked) = asked {
                // Who has asked need not wait.
                let _gone = asked.send(outcome);
            }
        }
    }

    fn until_next(&self) -> Duration {
        shortened(self.every, JITTER, fastrand::f64())
    }

    async fn beat(&self) -> Result<(), Error> {
        let outcome = self.client.beat(&self.service, &self.instance).await;
        match (outcome, self.create) {
            (Err(error), Some(leader)) if error.is_not_found() => {
                self.client.ensure(&self.service, leader).await?;
                self.client.beat(&self.service, &self.instance).await
            }
            (outcome, _) => outcome,
        }
    }

    async fn end(&self) -> Result<(), Error> {
        let outcome = self
            .client
            .unregister(&self.service, &self.instance.id)
            .await;
        match outcome {
            // It went with its service.
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome,
        }
    }

    fn report(&self, state: &watch::Sender<State>, new: State) {
        let (service, addr) = (&self.service, &self.instance.addr);
        state.send_if_modified(|state| {
            if *state == new {
                return false;
            }
            match (&*state, &new) {
                // Told once, not with every attempt.
                (State::Failing(_), State::Failing(_)) => {}
                (_, State::Failing(error)) => {
                    tracing::warn!(service, addr, %error, "not registered for now; trying again");
                }
                _ => tracing::info!(service, addr, "registered"),
            }
            *state = new;
            true
        });
    }
}

impl IntoFuture for Register {
    type Output = Result<Registration, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            if let Some(leader) = self.create {
                self.client.ensure(&self.service, leader).await?;
            }
            let (service, instance) = (&self.service, &self.instance);
            self.client.register_once(service, instance).await?;
            Ok(self.begin(State::Registered))
        }
        .boxed()
    }
}

impl Registration {
    /// What is registered, as it was at the start; the registry gives the index out.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Whether it is registered.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The same, to be told of each change.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until it is registered, which may be for ever.
    ///
    /// # Errors
    /// When nothing keeps it any more.
    pub async fn registered(&mut self) -> Result<(), Error> {
        let registered = self.state.wait_for(|state| *state == State::Registered);
        registered.await.map(|_| ()).map_err(|_| Error::Ended)
    }

    /// Replaces the attributes. They are what is registered from now on, also when
    /// the registry cannot be reached and this is an error.
    ///
    /// # Errors
    /// When the first attempt failed.
    pub async fn update(&self, meta: BTreeMap<String, String>) -> Result<(), Error> {
        self.order(|sender| Order::Update(meta, sender)).await
    }

    /// Unregisters it. Takes as long as a call may ([`crate::Builder::patience`]), after
    /// a heartbeat that is under way.
    ///
    /// # Errors
    /// When the registry does not answer. It goes all the same, when nothing has
    /// been heard of it for 10 s.
    pub async fn unregister(self) -> Result<(), Error> {
        self.order(Order::Unregister).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Order,
    ) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        let sent = self.orders.send(order(sender)).await;
        sent.map_err(|_| Error::Ended)?;
        receiver.await.unwrap_or(Err(Error::Ended))
    }
}
