//! Programs that end when this one does, however it does.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::tools::exists;

/// Runs `$2…`, tells its process id, and ends it when standard input is closed,
/// then removes the folder `$1`. The other end of standard input is a pipe that
/// only the test program holds, so the kernel closes it whether that returns,
/// panics, or is killed. A program that ends by itself, or because the test ends
/// it, leaves the folder behind.
///
/// The watcher can be stopped until it has begun to end the program; its exit
/// code tells which of the two came first.
const SCRIPT: &str = r#"
folder=$1; shift
exec 3<&0 4>&1 >&2 </dev/null
"$@" 3<&- 4>&- & program=$!
(exec 4>&-
 while read -r _ <&3; do :; done
 trap '' TERM; kill -KILL "$program"; exit 0) & watcher=$!
echo "$program" >&4
exec 3<&- 4>&-
wait "$program"; code=$?
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null && rm -rf "$folder"
exit "$code"
"#;

/// A program under supervision. It ends when this is dropped, too.
#[derive(Debug)]
pub struct Supervised {
    pub(super) shell: Child,
    /// Apart from the shell, because whoever waits for a child closes its input.
    guard: Option<ChildStdin>,
    program: Pid,
}

impl Supervised {
    /// Starts `command`, with its output at the end of `log`. `folder` goes with
    /// it when the test program ends; several programs may share one.
    pub fn start(folder: &Path, log: &Path, command: &[&str]) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        // Should the shell itself be killed with -9, the program still ends.
        let guard: &[&str] = if exists("setpriv") {
            &["setpriv", "--pdeathsig", "KILL"]
        } else {
            &[]
        };
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(folder)
            .args(guard)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for the test program; this follows.
            .process_group(0)
            .spawn()?;
        let guard = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let program = line.trim().parse().ok().and_then(Pid::from_raw);
        Ok(Self {
            shell,
            guard,
            program: program.ok_or_else(|| io::Error::other("the shell started nothing"))?,
        })
    }

    /// The program's process id, while it runs.
    pub fn program(&self) -> Pid {
        self.program
    }

    /// How the program ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.shell.try_wait()
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        match kill_process(self.program, signal) {
            // The shell is about to tell that it has ended.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.guard.take());
        // What cannot be waited for has ended.
        let _ = self.shell.wait();
    }
}
