//! `register`: an instance that is registered for as long as something runs.

use std::process::ExitCode;

use futures::{Stream, StreamExt as _};
use tokio::pin;
use tunnel_registry_client::{Client, Instance, Registration, State};

use crate::args::client::Register;
use crate::cli::child::Child;
use crate::cli::output::Output;
use crate::cli::problem::Problem;
use crate::signals::Signal;

/// What is told of how the registration fares.
struct Told<'a> {
    args: &'a Register,
    output: &'a Output,
    is_failing: bool,
}

impl Told<'_> {
    fn state(&mut self, state: &State) {
        let (service, addr) = (&self.args.service, &self.args.addr);
        match state {
            State::Registered => {
                self.is_failing = false;
                self.output
                    .note(&format!("{addr} is registered in {service}"));
            }
            // Once, not with every attempt.
            State::Failing(error) if !std::mem::replace(&mut self.is_failing, true) => {
                let text = format!("{addr} is not registered for now: {error}; trying again");
                self.output.note(&text);
            }
            _ => {}
        }
    }
}

pub(super) async fn run(
    args: &Register,
    client: &Client,
    mut signals: impl Stream<Item = Signal> + Unpin,
    output: &Output,
) -> Result<ExitCode, Problem> {
    let mut told = Told {
        args,
        output,
        is_failing: false,
    };
    let begun = tokio::select! {
        begun = begin(args, client) => begun?,
        Some(signal) = signals.next() => return Ok(signal.exit_code().into()),
    };
    let (registration, state) = begun;
    told.state(&state);
    let mut child = match args.command.split_first() {
        None => None,
        Some((program, arguments)) => match Child::start(program, arguments) {
            Ok(child) => Some(child),
            Err(problem) => {
                unregister(registration, output).await;
                return Err(problem);
            }
        },
    };
    let mut states = registration.states();
    let code = loop {
        tokio::select! {
            signal = signals.next() => {
                if let (Some(child), Some(signal)) = (&child, signal) {
                    child.forward(signal);
                }
                break None;
            }
            code = ended(&mut child) => break Some(code),
            // It ends with the registration, which is ended below.
            Ok(()) = states.changed() => {
                let state = states.borrow_and_update().clone();
                told.state(&state);
            }
        }
    };
    Ok(end(registration, child, code, signals, output).await.into())
}

/// Registers it. What the registry refuses ends the command; a registry that is away
/// does not.
async fn begin(args: &Register, client: &Client) -> Result<(Registration, State), Problem> {
    let mut instance = Instance::new(&args.addr).with_proto(&args.proto);
    for (name, text) in &args.meta {
        instance = instance.with_meta(name, text);
    }
    let mut register = client.register(&args.service, instance);
    if let Some(leader) = args.create {
        register = register.create(leader);
    }
    match register.clone().await {
        Ok(registration) => Ok((registration, State::Registered)),
        Err(error) if error.is_temporary() => Ok((register.start(), State::Failing(error))),
        Err(error) => Err(error.into()),
    }
}

/// Unregisters the instance, and waits for the end of the program, if there is one.
/// Signals go to that; without one they end the waiting.
async fn end(
    registration: Registration,
    mut child: Option<Child>,
    mut code: Option<u8>,
    mut signals: impl Stream<Item = Signal> + Unpin,
    output: &Output,
) -> u8 {
    let unregister = unregister(registration, output);
    pin!(unregister);
    let mut is_gone = false;
    if child.is_none() {
        code = Some(0);
    }
    loop {
        match code {
            Some(code) if is_gone => return code,
            _ => {}
        }
        tokio::select! {
            () = &mut unregister, if !is_gone => is_gone = true,
            ended = ended(&mut child), if code.is_none() => code = Some(ended),
            Some(signal) = signals.next() => match (&child, code) {
                (Some(child), None) => child.forward(signal),
                _ => return signal.exit_code(),
            },
        }
    }
}

async fn unregister(registration: Registration, output: &Output) {
    if let Err(error) = registration.unregister().await {
        let text = format!("{error}; it was not unregistered, and goes when 10 s have passed");
        output.note(&text);
    }
}

/// The exit code of a program; never, if there is none.
async fn ended(child: &mut Option<Child>) -> u8 {
    match child {
        None => std::future::pending().await,
        // There is nothing to wait for, then.
        Some(child) => child.ended().await.unwrap_or(1),
    }
}
