//! The only wiring.
pub mod supervisor;
