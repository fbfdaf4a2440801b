//! The client library and the commands on it, against the program itself.

mod commands;
mod field;
mod kept;
mod lost;
mod program;
mod relay;
mod secured;
mod shell;
mod told;
