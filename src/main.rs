//! Parses the command line and runs; nothing else.

use std::process::ExitCode;

use tunnel_registry::args::Args;
use tunnel_registry::run;

fn main() -> ExitCode {
    run::run(&Args::parse())
}
