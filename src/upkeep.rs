//! The tasks that keep a registry and its sessions going: mirroring their store,
//! and sweeping.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::backend::follow::follow;
use crate::controller::plan::own::Own;
use crate::discoverd::Services;
use crate::discoverd::tunnels::LOOK_EVERY;
use crate::pods::PodChange;
use crate::registry::Registry;
use crate::registry::events::Event;
use crate::session::Sessions;

/// How often the registry looks for what has become silent.
const TICK: Duration = Duration::from_millis(250);
/// Every endpoint is looked at once in so many ticks,
const TICKS_A_PASS: usize = 8;
/// so many at a time, so that nobody waits long for the lock.
const SLICE: usize = 512;
/// Events of one tick that are logged one by one.
const EVENTS_LOGGED: usize = 20;

/// How often every session, and every instance of a service, is looked at.
const SESSIONS_TICK: Duration = Duration::from_secs(1);

/// Tells the registry, the sessions and the services what the store holds, until
/// `stop`; and so the plan by which this process collects it, if it is the one that does.
pub async fn mirror(
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    services: Option<Arc<Services>>,
    plan: Option<Arc<Mutex<Own>>>,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
) {
    let mut changes = follow(backend);
    loop {
        tokio::select! {
            Some(batch) = changes.next() => {
                if let Some(plan) = &plan {
                    plan.lock().apply(&batch);
                }
                sessions.apply(&batch);
                if let Some(services) = &services {
                    services.apply(&batch);
                }
                registry.apply(batch);
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Tells the registry of the pods that gosts run in, until `stop`.
pub async fn pods(
    registry: Arc<Registry>,
    mut changes: impl Stream<Item = PodChange> + Unpin,
    stop: CancellationToken,
) {
    while let Some(Some(change)) = stop.run_until_cancelled(changes.next()).await {
        registry.apply_pods(change);
    }
    stop.cancelled().await;
}

/// Looks at every endpoint every two seconds, until `stop`.
pub async fn sweep(registry: Arc<Registry>, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut from = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let slices = registry.positions().div_ceil(SLICE * TICKS_A_PASS).max(1);
        for _ in 0..slices {
            from = match registry.sweep(from, SLICE) {
                true => from + SLICE,
                false => 0,
            };
            tokio::task::yield_now().await;
        }
        log(&registry.take_events());
    }
}

/// Looks at every session every second, until `stop`.
pub async fn sessions(registry: Arc<Registry>, sessions: Arc<Sessions>, stop: CancellationToken) {
    let mut ticks = interval(SESSIONS_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => sessions.sweep(&registry.run_out(sessions.holders())),
            () = stop.cancelled() => return,
        }
    }
}

/// Looks at every instance of a service every second, until `stop`.
pub async fn services(registry: Arc<Registry>, services: Arc<Services>, stop: CancellationToken) {
    let mut ticks = interval(SESSIONS_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => services.sweep(&registry.run_out(services.holders())),
            () = stop.cancelled() => return,
        }
    }
}

/// Looks at the tunnels that somebody follows as services, until `stop`.
pub async fn tunnels(registry: Arc<Registry>, services: Arc<Services>, stop: CancellationToken) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => services.look(&*registry),
            () = stop.cancelled() => return,
        }
    }
}

/// Tells the subscribers of services what was held back, until `stop`.
pub async fn service_events(services: Arc<Services>, stop: CancellationToken) {
    stop.run_until_cancelled(services.tell()).await;
}

fn log(events: &[Event]) {
    for event in events.iter().take(EVENTS_LOGGED) {
        match event {
            Event::Suspect(node) => {
                tracing::info!(%node, "suspect: its last connection was closed from its side");
            }
            Event::Released(key, why) => {
                tracing::info!(endpoint = %key, ?why, "released: nothing was heard of it");
            }
            Event::Expired(key) => tracing::info!(endpoint = %key, "gone from the store"),
            Event::Superseded(key) => {
                tracing::info!(endpoint = %key, "superseded: its gost has restarted");
            }
            Event::Restored(key) => tracing::info!(endpoint = %key, "restored by a renewal"),
            Event::AddressShared(node) => {
                tracing::info!(%node, "shares its address with another node that lives");
            }
        }
    }
    if let Some(more) = events
        .len()
        .checked_sub(EVENTS_LOGGED)
        .filter(|more| *more > 0)
    {
        tracing::info!(
            more,
            "further endpoints were suspect, released, gone or restored"
        );
    }
}
