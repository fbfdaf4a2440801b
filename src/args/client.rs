//! What the commands that ask a running registry are told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use tunnel_registry_client::LeaderType;

use crate::args::values;

const CODES: &str = "\
Exit codes: 0; 1 it failed; 2 wrong usage; 3 not found, or nobody leads.";

const REGISTER_CODES: &str = "\
Exit codes: 0; 1 it failed; 2 wrong usage; 3 there is no such service. With a command, that
command's own, 128 + its number when a signal ended it, and 126 or 127 when it was not started.";

/// What to ask a running registry, or to have it do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Client {
    /// Show the instances of a service, or all services
    #[command(after_help = CODES)]
    Get(Get),
    /// Tell what happens to a service, until interrupted
    #[command(after_help = CODES)]
    Watch(Watch),
    /// Show, follow or name the leader of a service
    #[command(after_help = CODES)]
    Leader(Leader),
    /// Register an instance, and keep it registered until interrupted
    #[command(after_help = REGISTER_CODES)]
    Register(Register),
    /// Make and remove services, and read and write their meta data
    #[command(subcommand)]
    Service(Service),
}

/// Where the registry is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Registry")]
pub struct Connection {
    /// Where the registry is; several are tried one after the other
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_SERVER",
        value_name = "URL[,URL]",
        default_value = "http://127.0.0.1:8000"
    )]
    pub server: String,
    /// A file whose first token is sent; only writing needs one
    #[arg(long, env = "TUNNEL_REGISTRY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The first token in [`TOKEN_VARIABLE`](super::TOKEN_VARIABLE), in place of a file.
    #[arg(skip)]
    pub token: Option<Secret>,
    /// The authorities to trust with https (PEM); unset, the system's
    #[arg(long, env = "TUNNEL_REGISTRY_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A certificate chain to be known by with https (PEM); needs --client-key
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key"
    )]
    pub client_cert: Option<PathBuf>,
    /// The private key of --client-cert (PEM)
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert"
    )]
    pub client_key: Option<PathBuf>,
    /// How long one server may take to answer
    #[arg(
        long,
        env = "TUNNEL_REGISTRY_TIMEOUT",
        value_name = "TIME",
        default_value = "5s",
        value_parser = values::time(Duration::from_millis(10), Duration::from_secs(60))
    )]
    pub timeout: Duration,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}

/// How to show instances and services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// A table, in which what is long is cut off.
    #[default]
    Table,
    /// A table of everything.
    Wide,
    /// An array, as the API has it.
    Json,
    /// The addresses of instances, or the names of services, one a line.
    Name,
}

/// How to show one thing after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// A line of text for people.
    #[default]
    Text,
    /// An object a line for machines.
    Json,
}

/// What `get` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Get {
    /// The service; all services unless one is named
    pub service: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Listing,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

/// What `watch` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Watch {
    /// The service, which need not exist yet
    pub service: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Lines,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

/// What `leader` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Leader {
    /// The service
    pub service: String,
    /// Go on, and show every change, until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Name the leader by its id or its address, where leaders are named by hand
    #[arg(long, value_name = "ID|ADDR", conflicts_with = "watch")]
    pub set: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Lines,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

/// What `register` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Register {
    /// The service
    pub service: String,
    /// Where the instance is reached: HOST:PORT
    pub addr: String,
    /// How it is reached: lower-case letters and digits
    #[arg(long, value_name = "NAME", default_value = "tcp")]
    pub proto: String,
    /// An attribute; may be given several times
    #[arg(long, value_name = "NAME=TEXT", value_parser = attribute)]
    pub meta: Vec<(String, String)>,
    /// Make the service if there is none; its leader is the oldest instance, or named by hand
    #[arg(
        long,
        value_name = "oldest|manual",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "oldest"
    )]
    pub create: Option<LeaderType>,
    /// Run this, and register the instance while it runs
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

/// What to do with a service.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Service {
    /// Make a service
    #[command(after_help = CODES)]
    Create(Create),
    /// Remove a service with its instances
    #[command(after_help = CODES)]
    Delete(Delete),
    /// Show or replace the meta data of a service
    #[command(after_help = CODES)]
    Meta(Meta),
}

/// What `service create` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Create {
    /// Its name: lower-case letters, digits and dashes
    pub service: String,
    /// Who leads it: the oldest instance, or the one that is named by hand
    #[arg(long, value_name = "oldest|manual", default_value_t)]
    pub leader: LeaderType,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

/// What `service delete` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Delete {
    /// Its name
    pub service: String,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

/// What `service meta` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Meta {
    /// The name of the service
    pub service: String,
    /// Replace it by this
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub set: Option<Value>,
    /// Replace it only if it has this index, 0 if there must be none; unset, the one that it has now
    #[arg(long, value_name = "N", requires = "set")]
    pub index: Option<u64>,
    /// The registry.
    #[command(flatten)]
    pub connection: Connection,
}

impl Client {
    /// Where the registry is, and who asks.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        match self {
            Self::Get(Get { connection, .. })
            | Self::Watch(Watch { connection, .. })
            | Self::Leader(Leader { connection, .. })
            | Self::Register(Register { connection, .. })
            | Self::Service(
                Service::Create(Create { connection, .. })
                | Service::Delete(Delete { connection, .. })
                | Service::Meta(Meta { connection, .. }),
            ) => connection,
        }
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        match self {
            Self::Get(Get { connection, .. })
            | Self::Watch(Watch { connection, .. })
            | Self::Leader(Leader { connection, .. })
            | Self::Register(Register { connection, .. })
            | Self::Service(
                Service::Create(Create { connection, .. })
                | Service::Delete(Delete { connection, .. })
                | Service::Meta(Meta { connection, .. }),
            ) => connection,
        }
    }
}

impl Connection {
    /// Takes the first of the tokens in the environment.
    ///
    /// # Errors
    /// When there is a file of tokens, too.
    pub(super) fn take(&mut self, tokens: &str) -> Result<(), String> {
        if self.token_file.is_some() {
            return Err(format!(
                "set --token-file or {}, not both",
                super::TOKEN_VARIABLE
            ));
        }
        let mut tokens = tokens.split(',').map(str::trim);
        let first = tokens.find(|token| !token.is_empty());
        self.token = first.map(|token| Secret(token.to_owned()));
        Ok(())
    }
}

fn attribute(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, text)) if !name.is_empty() => Ok((name.into(), text.into())),
        _ => Err("must be NAME=TEXT, such as zone=b"),
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("must be JSON: {error}"))
}
