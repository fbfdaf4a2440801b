//! The command line and the environment. Reads no file and opens nothing.
//!
//! Every flag of `serve` and `controller` has an environment variable named after it:
//! `--max-queue` is `TUNNEL_REGISTRY_MAX_QUEUE`. A flag wins over its variable. So have
//! the flags by which the commands of a client find a registry.

pub mod client;
pub mod controller;
pub mod dns;
pub mod etcd;
pub mod gateway;
pub mod kubernetes;
pub mod replica;
pub mod serve;
pub mod services;
pub mod session;
pub mod store;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod values;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::server::auth::Tokens;

pub use client::Client;
pub use controller::Controller;
pub use dns::Dns;
pub use etcd::Etcd;
pub use gateway::Gateways;
pub use kubernetes::{Kubernetes, WatchPods};
pub use replica::Replica;
pub use serve::{Access, Limits, Listening, Logs, Serve, Times};
pub use services::Services;
pub use session::Session;
pub use store::Store;
pub use transfer::{Export, Import};

/// The variable that holds tokens. It has no flag: a command line is public.
pub const TOKEN_VARIABLE: &str = "TUNNEL_REGISTRY_TOKEN";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Args {
    /// Run the registry.
    Serve(Box<Serve>),
    /// Collect what nobody maintains in a cluster.
    Controller(Box<Controller>),
    /// Ask a running registry how it is.
    Healthcheck(Healthcheck),
    /// Print the custom resource definitions.
    Crd,
    /// Ask a running registry for services, or have it do something.
    Client(Box<Client>),
    /// Print what a shell completes command lines with.
    Completions(Shell),
    /// Print the manual page, or write all of them into a folder.
    Man(Option<PathBuf>),
    /// Write what a store holds to a file.
    Export(Box<Export>),
    /// Put such a file, or what the peer has, into a store.
    Import(Box<Import>),
}

/// What `healthcheck` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Healthcheck {
    /// Where the registry's admin port is
    ///
    /// Its variable is the one that `serve` reads for --admin-listen, so that a
    /// container needs no flag here. An unspecified host is asked on loopback.
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_ADMIN_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8090",
        value_parser = values::host_port
    )]
    pub admin: String,
    /// Ask whether it is ready (/readyz), not only whether it lives (/livez)
    #[arg(long, env = "TUNNEL_REGISTRY_HEALTHCHECK_READY")]
    pub ready: bool,
    /// How long to wait for the answer
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_HEALTHCHECK_TIMEOUT",
        value_name = "TIME",
        default_value = "3s",
        value_parser = values::time(Duration::from_millis(10), Duration::from_secs(60))
    )]
    pub timeout: Duration,
}

/// Of the names of environment variables, those that look like one of ours and
/// are none: a slip of the hand that would silently leave a default in place.
/// Kubernetes sets variables for a Service called `tunnel-registry`; those are
/// not meant.
pub fn misspelt(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut known = vec![TOKEN_VARIABLE.to_owned()];
    collect_variables(&Cli::command(), &mut known);
    names
        .filter(|name| match name.strip_prefix("TUNNEL_REGISTRY_") {
            None => false,
            Some(rest) => {
                let service = rest.starts_with("SERVICE_")
                    || rest == "PORT"
                    || rest.starts_with("PORT_")
                    || rest.contains("_SERVICE_")
                    || rest.contains("_PORT");
                !service && !known.contains(name)
            }
        })
        .collect()
}

/// The variables of a command and of those below it.
fn collect_variables(command: &clap::Command, variables: &mut Vec<String>) {
    let arguments = command.get_arguments().filter_map(clap::Arg::get_env);
    variables.extend(arguments.map(|name| name.to_string_lossy().into_owned()));
    for below in command.get_subcommands() {
        collect_variables(below, variables);
    }
}

/// The command line, for what is made of its description.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[derive(Debug, Parser)]
#[command(
    name = "tunnel-registry",
    about = "A service registry for gost reverse-proxy tunnels",
    long_about = "A service registry for gost reverse-proxy tunnels.\n\n\
        Without a command it serves: `tunnel-registry` and `tunnel-registry serve` are the same.",
    version,
    long_version = LONG_VERSION,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = AFTER_HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the registry (also without this word)
    #[command(after_long_help = AFTER_HELP)]
    Serve(Box<Serve>),
    /// Remove what nobody maintains from a Kubernetes cluster, and keep statuses
    Controller(Box<Controller>),
    /// Ask a running registry how it is; exits with 0 when it is well
    Healthcheck(Healthcheck),
    /// Print the custom resource definitions for Kubernetes, as YAML
    Crd,
    #[command(flatten)]
    Client(Box<Client>),
    /// Print what a shell completes command lines with
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a folder
    Man {
        /// The folder, such as /usr/local/share/man/man1
        folder: Option<PathBuf>,
    },
    /// Write what a store holds to a file, to be moved to another store
    Export(Box<Export>),
    /// Put what `export` wrote, or the tunnels of gost-plugins' Redis, into a store
    Import(Box<Import>),
}

const COMPLETIONS_HELP: &str = "\
For one session:            source <(tunnel-registry completions bash)
bash, for good:             tunnel-registry completions bash > ~/.local/share/bash-completion/completions/tunnel-registry
zsh, in a folder of fpath:  tunnel-registry completions zsh > ~/.zfunc/_tunnel-registry
fish:                       tunnel-registry completions fish > ~/.config/fish/completions/tunnel-registry.fish";

const AFTER_HELP: &str = "\
Environment only:
  TUNNEL_REGISTRY_TOKEN  Tokens of which callers must present one, separated by commas.
                         There is no flag for it because everyone on the machine can read
                         a command line; use this variable or --token-file.

Times are a number and a unit, such as 500ms, 2s or 10m.";

const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("BUILD_COMMIT"),
    "\ntarget:   ",
    env!("BUILD_TARGET"),
    "\ncompiler: ",
    env!("BUILD_COMPILER"),
    "\nprofile:  ",
    env!("BUILD_PROFILE"),
);

impl Args {
    /// Reads the process's command line and environment. Prints what was asked
    /// for (`--help`, `--version`) or what is wrong, and exits, when there is
    /// nothing to run.
    #[must_use]
    pub fn parse() -> Self {
        Self::try_parse(env::args_os(), env::var_os(TOKEN_VARIABLE))
            .unwrap_or_else(|error| error.exit())
    }

    /// Reads a command line, of which the first item is the program's name, and
    /// the value of [`TOKEN_VARIABLE`].
    ///
    /// # Errors
    /// When a value is wrong; the error says which and how it should be. Also
    /// when help or the version is asked for: the error is their text.
    pub fn try_parse(
        arguments: impl IntoIterator<Item = OsString>,
        tokens: Option<OsString>,
    ) -> Result<Self, clap::Error> {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let mut serve = match cli.command {
            Some(Command::Healthcheck(healthcheck)) => return Ok(Self::Healthcheck(healthcheck)),
            Some(Command::Controller(controller)) => return Ok(Self::Controller(controller)),
            Some(Command::Crd) => return Ok(Self::Crd),
            Some(Command::Client(mut client)) => {
                if let Some(tokens) = tokens {
                    let taken = client.connection_mut().take(&tokens.to_string_lossy());
                    taken.map_err(|text| command.error(ErrorKind::ValueValidation, text))?;
                }
                return Ok(Self::Client(client));
            }
            Some(Command::Completions { shell }) => return Ok(Self::Completions(shell)),
            Some(Command::Man { folder }) => return Ok(Self::Man(folder)),
            Some(Command::Export(export)) => return Ok(Self::Export(export)),
            Some(Command::Import(import)) => return Ok(Self::Import(import)),
            Some(Command::Serve(serve)) => serve,
            None => Box::new(cli.serve),
        };
        let mut wrong = |text: String| command.error(ErrorKind::ValueValidation, text);
        if let Some(tokens) = tokens {
            // What is not UTF-8 is no visible ASCII either, and is refused for that.
            let tokens = Tokens::from_environment(&tokens.to_string_lossy())
                .map_err(|error| wrong(format!("{TOKEN_VARIABLE}: {error}")))?;
            if serve.access.token_file.is_some() {
                return Err(wrong(format!(
                    "set --token-file or {TOKEN_VARIABLE}, not both: a file can hold several tokens"
                )));
            }
            serve.access.tokens = Some(tokens);
        }
        if serve.times.request_timeout <= serve.times.register_wait {
            return Err(wrong(
                "--request-timeout must be longer than --register-wait: a Register may take that long"
                    .into(),
            ));
        }
        Ok(Self::Serve(serve))
    }
}
