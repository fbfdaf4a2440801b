//! Commands, as they are typed.

use std::fs;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::process::{PATIENCE, Setup, command, until};

/// Whoever types.
pub struct Shell {
    folder: PathBuf,
    pub variables: Vec<(&'static str, String)>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Shell {
    /// With the registry in its environment, and the setup's folder as its home.
    pub fn of(setup: &Setup, folder: &std::path::Path) -> Self {
        let server = format!("http://{}", setup.listen);
        Self {
            folder: folder.to_owned(),
            variables: vec![("TUNNEL_REGISTRY_SERVER", server)],
        }
    }

    /// A command of these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = command(&self.folder, &[]);
        command
            .args(words)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, words: &[&str]) -> Said {
        let output = timeout(PATIENCE, self.command(words).output()).await;
        let output = output.expect("it does not end").unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it, which must succeed; what it printed.
    pub async fn prints(&self, words: &[&str]) -> String {
        let said = self.run(words).await;
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.err);
        said.out
    }

    /// Starts it.
    pub fn start(&self, words: &[&str]) -> Running {
        let errors = tempfile::Builder::new()
            .prefix("stderr-")
            .tempfile_in(&self.folder)
            .unwrap();
        let (file, path) = errors.keep().unwrap();
        let mut child = self
            .command(words)
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, out, path }
    }
}

/// A command that runs. Killed when dropped.
pub struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    path: PathBuf,
}

impl Running {
    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.out.next_line()).await;
        line.unwrap_or_else(|_| panic!("it prints nothing; it said {}", self.said()))
            .unwrap()
            .unwrap_or_else(|| panic!("it prints no more; it said {}", self.said()))
    }

    /// What it has said beside.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    /// Waits until it has said these words.
    pub async fn says(&self, words: &str) {
        until(&format!("it says {words:?}"), async || {
            self.said().contains(words).then_some(())
        })
        .await;
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it has ended");
        let pid = Pid::from_raw(id.try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end; it said {}", self.said()))
            .unwrap()
    }
}
