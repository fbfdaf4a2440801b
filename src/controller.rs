//! Collecting what nobody maintains. [`plan`] decides; [`collect`] does.

pub mod collect;
pub mod conditions;
pub mod election;
pub mod notices;
pub mod objects;
pub mod plan;
pub mod status;
