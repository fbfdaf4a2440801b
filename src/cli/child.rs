//! The program that an instance is registered for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{self, Pid, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::Command;

use crate::cli::problem::Problem;
use crate::signals::Signal;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Child(tokio::process::Child);

impl Child {
    /// Starts it, with this process's own streams and environment.
    pub fn start(program: &OsString, arguments: &[OsString]) -> Result<Self, Problem> {
        let child = Command::new(program).args(arguments).spawn();
        let name = || program.to_string_lossy().into_owned();
        Ok(Self(child.map_err(|error| Problem::Start(name(), error))?))
    }

    /// Waits for its end: its exit code, or 128 + the number of the signal that
    /// ended it.
    pub async fn ended(&mut self) -> io::Result<u8> {
        self.0.wait().await.map(code)
    }

    /// Passes a signal on, if it has not ended.
    pub fn forward(&self, signal: Signal) {
        // A terminal tells everybody in the foreground itself.
        if signal == Signal::Interrupt && is_in_the_foreground() {
            return;
        }
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may just have ended.
            let _gone = kill_process(pid, number(signal));
        }
    }
}

fn is_in_the_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}

fn number(signal: Signal) -> process::Signal {
    match signal {
        Signal::Interrupt => process::Signal::INT,
        Signal::Terminate => process::Signal::TERM,
        Signal::Hangup => process::Signal::HUP,
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_programs_own() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(15)), 143);
    }
}
