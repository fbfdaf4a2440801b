//! The flags that every speed program has.

use std::path::PathBuf;
use std::time::Duration;

use super::{Error, Result};

/// Options of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Short rounds, to see that everything works; the figures mean little
    #[arg(long)]
    pub quick: bool,
    /// Exit with 1 when a promise does not hold
    #[arg(long)]
    pub check: bool,
    /// Length of a round in seconds [default: 2; with --quick 0.3]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Rounds of which the median is taken [default: 5; with --quick 1]
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
    /// The registry to measure
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tunnel-registry"))]
    pub server_bin: PathBuf,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// How many rounds.
    pub fn rounds(&self) -> usize {
        let usual = if self.quick { 1 } else { 5 };
        self.rounds.unwrap_or(usual).max(1)
    }

    /// How long a round is measured.
    pub fn round(&self) -> Result<Duration> {
        let usual = if self.quick { 0.3 } else { 2.0 };
        let seconds = self.seconds.unwrap_or(usual);
        if !(0.1..=60.0).contains(&seconds) {
            return Err(Error::from("--seconds is from 0.1 to 60"));
        }
        Ok(Duration::from_secs_f64(seconds))
    }
}
