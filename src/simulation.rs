//! Replicas, controllers, gosts and an API server in one thread, with clocks of
//! their own and everything going wrong that can, by a schedule that is drawn
//! from a seed.
//!
//! The decisions are the product's own, with nothing replaced:
//! [`Core`](crate::registry::core::Core) and
//! [`ClusterPlan`](crate::controller::plan::cluster::ClusterPlan). What surrounds
//! them is a model: the API server, the network, processes that are killed and
//! frozen, gosts that call as gost does. After every step it is checked that the
//! promises hold (`promises`). A schedule is a function of its seed and size, so
//! that whatever is found can be seen again. `docs/simulation.md` tells more.

mod agenda;
mod api;
mod chaos;
mod client;
mod controller;
mod gost;
mod mutation;
mod network;
mod pods;
mod promises;
mod replica;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod truth;
mod world;

pub use mutation::Mutation;
pub use report::{Counts, Failure, Report, Violation};
pub use settings::Size;
use world::World;

/// Runs the schedule of a seed.
///
/// # Errors
/// The promise that was broken, and what happened before.
pub fn run(seed: u64, size: Size, mutation: Option<Mutation>) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed, size, mutation, false);
    world.run();
    let Some(violation) = world.violation else {
        return Ok(world.report());
    };
    // Once more, to tell what happened: that it is the same shows nothing else
    // than the seed decides.
    let mut again = World::new(seed, size, mutation, true);
    again.run();
    let history = again.history.unwrap_or_default();
    Err(Box::new(Failure {
        seed,
        history: match again.violation == Some(violation.clone()) {
            true => history.to_string(),
            false => format!("{history}\nit went otherwise when it was run again"),
        },
        violation,
        replay: match size {
            Size::Small => format!("SIMULATION_SEED={seed} cargo test --lib simulation"),
            Size::Large => format!(
                "cargo bench --features simulation --bench simulation -- --from {seed} --seeds 1"
            ),
        },
    }))
}
