//! Collecting what nobody maintains. [`plan`] decides; [`collect`] does it for a
//! store inside this process, [`work`] for a cluster.

pub mod collect;
pub mod conditions;
pub mod election;
pub mod notices;
pub mod objects;
pub mod plan;
pub mod sessions;
pub mod status;
pub mod work;
