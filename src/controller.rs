//! Collecting what nobody maintains. [`plan`] decides; [`collect`] does.

pub mod collect;
pub mod conditions;
pub mod plan;
pub mod status;
