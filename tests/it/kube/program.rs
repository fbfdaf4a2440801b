//! A program of a cluster, which can be ended and started again as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;

use super::supervisor::Supervised;
use crate::process::{stands_still, until};

/// A program, running or not.
#[derive(Debug)]
pub struct Program {
    command: Vec<String>,
    folder: PathBuf,
    log: PathBuf,
    running: Option<Supervised>,
}

impl Program {
    /// Starts it in `folder`, to which paths among its arguments are relative.
    pub fn start(path: &Path, arguments: Vec<String>, folder: &Path) -> io::Result<Self> {
        let mut command = vec!["env".into(), "-C".into(), folder.display().to_string()];
        command.push(path.display().to_string());
        command.extend(arguments);
        let name = path.file_name().unwrap_or_default();
        let mut program = Self {
            command,
            folder: folder.into(),
            log: folder.join(name).with_extension("log"),
            running: None,
        };
        program.run()?;
        Ok(program)
    }

    /// Starts it again, unless it runs.
    pub fn run(&mut self) -> io::Result<()> {
        if !self.runs()? {
            let command: Vec<_> = self.command.iter().map(String::as_str).collect();
            self.running = Some(Supervised::start(&self.folder, &self.log, &command)?);
        }
        Ok(())
    }

    pub fn runs(&mut self) -> io::Result<bool> {
        Ok(self.running.is_some() && self.ended()?.is_none())
    }

    /// How it ended, if it did without being told to.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match &mut self.running {
            Some(running) => running.ended(),
            None => Ok(None),
        }
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match &mut self.running {
            Some(running) => running.signal(signal),
            None => Ok(()),
        }
    }

    /// It stands still when this returns, until it gets `Signal::CONT`.
    pub async fn freeze(&mut self) {
        let running = self.running.as_mut().expect("it runs");
        running.signal(Signal::STOP).unwrap();
        stands_still(running.program()).await;
    }

    /// Ends it by a signal, and waits until it is gone.
    pub async fn end(&mut self, signal: Signal) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.signal(signal).unwrap();
        let what = format!("{} has ended", self.log.display());
        until(&what, async || running.ended().unwrap()).await;
    }

    /// The end of what it said.
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}
