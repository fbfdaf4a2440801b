//! The commands that ask a running registry for services, or have it do something.
//!
//! A command makes calls through the [client library](tunnel_registry_client), and
//! prints what it made of the answers. What is printed where is decided in
//! `output` alone; what lines and tables look like, in plain functions.
//!
//! - `get`, `watch`, `leader`, `register`, `service`: a command each.
//! - `child`: the program that `register` runs.
//! - `problem`: what went wrong, what to do, and with which code to exit.
//! - [`pages`]: completions and manual pages.

mod child;
mod get;
mod leader;
mod output;
pub mod pages;
mod problem;
mod register;
mod service;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use tunnel_registry_client as client;

use crate::args::client::{Client as Args, Connection};
use crate::signals::signals;
use output::Output;
use problem::Problem;

/// Does what a command says, and tells how that went.
pub async fn run(args: &Args) -> ExitCode {
    let output = Output;
    match carry_out(args, &output).await {
        Ok(code) => code,
        Err(problem) => {
            if let Some(text) = problem.text() {
                output.note(&text);
            }
            problem.exit_code()
        }
    }
}

async fn carry_out(args: &Args, output: &Output) -> Result<ExitCode, Problem> {
    let signals = signals().map_err(Problem::Signals)?;
    let client = connect(args.connection())?;
    match args {
        Args::Get(args) => get::run(args, &client, output).await,
        Args::Watch(args) => watch::run(args, &client, signals, output).await,
        Args::Leader(args) => leader::run(args, &client, signals, output).await,
        Args::Register(args) => register::run(args, &client, signals, output).await,
        Args::Service(args) => service::run(args, &client, output).await,
    }
}

fn connect(connection: &Connection) -> Result<client::Client, Problem> {
    // Whoever types a command wants to know at once that nobody answers.
    let mut builder = client::Client::builder()
        .server(&connection.server)
        .timeout(connection.timeout)
        .patience(Duration::ZERO);
    if let Some(file) = &connection.token_file {
        builder = builder.token_file(file);
    }
    if let Some(token) = &connection.token {
        builder = builder.token(&token.0);
    }
    if let Some(file) = &connection.ca_file {
        builder = builder.ca_file(file);
    }
    if let Some((chain, key)) = connection
        .client_cert
        .as_ref()
        .zip(connection.client_key.as_ref())
    {
        builder = builder.client_certificate(chain, key);
    }
    Ok(builder.build()?)
}
