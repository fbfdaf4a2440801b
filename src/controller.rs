//! Collecting what nobody maintains. [`plan`] decides; [`collect`] does.

pub mod collect;
pub mod plan;
