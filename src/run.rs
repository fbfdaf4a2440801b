//! The only wiring: from the command line to a process that runs and ends.

mod controller;
mod dns;
mod files;
mod parts;
mod pulse;
mod serve;
mod services;
mod sessions;
mod store;
pub mod supervisor;
mod transfer;

use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tracing::{Level, error, info, warn};

use crate::args::{self, Args, Controller, Serve};
use crate::cli::{self, pages};
use crate::healthcheck;
use crate::resources;
use crate::telemetry;
use supervisor::Ended;

/// How long work on blocking threads may take when everything else has ended.
const BLOCKING: Duration = Duration::from_secs(1);

/// Why a process could not start.
type StartError = Box<dyn Error>;

/// Does what the command line asks for. The exit code is 0 after an orderly
/// end, 1 when something is wrong, and 128 + its number for a second signal.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let code = match args {
        Args::Serve(args) => serve_until_ended(args),
        Args::Controller(args) => control_until_ended(args),
        Args::Healthcheck(what) => ask(what),
        Args::Crd => print_definitions(),
        Args::Client(args) => be_client(args),
        Args::Completions(shell) => print(&pages::completions(*shell)),
        Args::Man(folder) => print_manual(folder.as_deref()),
        Args::Export(args) => transfer::export(args),
        Args::Import(args) => transfer::import(args),
    };
    code.unwrap_or_else(|error| {
        report(&*error);
        ExitCode::FAILURE
    })
}

fn ask(what: &crate::args::Healthcheck) -> Result<ExitCode, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(healthcheck::ask(what));
    // A name that is being looked up does not hold the process up.
    runtime.shutdown_background();
    answer?;
    Ok(ExitCode::SUCCESS)
}

fn print_definitions() -> Result<ExitCode, StartError> {
    let text = resources::definitions_in_yaml()?;
    print(text.as_bytes())
}

fn print_manual(folder: Option<&Path>) -> Result<ExitCode, StartError> {
    match folder {
        None => print(&pages::manual()?),
        Some(folder) => {
            let written = pages::write_manual(folder);
            written.map_err(|error| format!("{}: {error}", folder.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print(text: &[u8]) -> Result<ExitCode, StartError> {
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn be_client(args: &args::Client) -> Result<ExitCode, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(cli::run(args));
    // A name that is being looked up does not hold the process up.
    runtime.shutdown_background();
    Ok(code)
}

fn serve_until_ended(args: &Serve) -> Result<ExitCode, StartError> {
    telemetry::start(&args.logs.log_level, args.logs.log_format)?;
    let connections = args.limits.max_connections;
    let connections = connections.saturating_add(args.session.connections());
    files::allow_many(connections.saturating_add(args.dns.connections()));
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve::serve(args));
    end(runtime, ended)
}

fn control_until_ended(args: &Controller) -> Result<ExitCode, StartError> {
    telemetry::start(&args.logs.log_level, args.logs.log_format)?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(controller::control(args));
    end(runtime, ended)
}

/// Says which of our environment variables mean nothing.
fn warn_of_misspelt() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in args::misspelt(names) {
        warn!("{name} is set and means nothing; see --help for the variables that there are");
    }
}

fn end(runtime: Runtime, ended: Result<Ended, StartError>) -> Result<ExitCode, StartError> {
    match ended {
        Ok(Ended::Aborted(signal)) => {
            runtime.shutdown_background();
            Ok(signal.exit_code().into())
        }
        Ok(Ended::Failed(failure)) => {
            runtime.shutdown_timeout(BLOCKING);
            Err(failure.into())
        }
        Ok(Ended::Stopped) => {
            runtime.shutdown_timeout(BLOCKING);
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            runtime.shutdown_timeout(BLOCKING);
            Err(error)
        }
    }
}

/// Tells why the process ends, once: in the log, or plainly where there is none.
fn report(error: &dyn Error) {
    if tracing::enabled!(Level::ERROR) {
        error!("{error}");
    } else {
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(io::stderr(), "tunnel-registry: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::supervisor::Failure;
    use super::*;
    use crate::signals::Signal;

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        let code = |ended| {
            let runtime = Builder::new_current_thread().build().unwrap();
            end(runtime, Ok(ended)).map_err(|error| error.to_string())
        };
        assert_eq!(code(Ended::Stopped), Ok(ExitCode::SUCCESS));
        let aborted = Ended::Aborted(Signal::Terminate);
        assert_eq!(code(aborted), Ok(ExitCode::from(143)));
        let failed = Ended::Failed(Failure {
            task: "writer",
            reason: "ended by itself".into(),
        });
        assert_eq!(code(failed), Err("the writer ended by itself".into()));
    }
}
