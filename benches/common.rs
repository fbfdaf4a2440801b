//! What the speed programs share: the servers they measure, the load they put
//! on them, and the report they print.

pub mod client;
pub mod endpoints;
pub mod load;
pub mod machine;
pub mod options;
pub mod process;
pub mod report;
pub mod round;
pub mod servers;
pub mod wire;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

/// Why a run ended early; for the reader of the terminal.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a step of a run gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs a program to its end, or to SIGINT or SIGTERM; either way everything
/// that it started is ended first. One thread makes the load, so that the
/// servers have the other cores. The exit code is 1 when `strict` and a promise
/// does not hold, 2 when the run failed.
pub fn main(strict: bool, program: impl Future<Output = Result<report::Verdict>>) -> ExitCode {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                verdict = program => verdict,
                _ = interrupt.recv() => Err("interrupted".into()),
                _ = terminate.recv() => Err("terminated".into()),
            }
        })
    };
    match run() {
        Ok(report::Verdict::Broken) if strict => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
