//! Programs that end when this one does, however it does.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::tools::exists;

/// Runs `$2…` and ends it when standard input is closed, then removes the
/// folder `$1`. The other end of standard input is a pipe that only the test
/// program holds, so the kernel closes it whether that returns, panics, or is
/// killed. A program that ends by itself leaves its folder behind.
const SCRIPT: &str = r#"
folder=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- & program=$!
(while read -r _ <&3; do :; done; : >"$folder/closed"; kill -KILL "$program") & watcher=$!
exec 3<&-
wait "$program"; code=$?
kill "$watcher" 2>/dev/null
[ -e "$folder/closed" ] && rm -rf "$folder"
exit "$code"
"#;

/// A program under supervision. It ends when this is dropped, too.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
}

impl Supervised {
    /// Starts `command`, with its output in `log`. `folder` goes with it;
    /// several programs may share one.
    pub fn start(folder: &Path, log: &Path, command: &[&str]) -> io::Result<Self> {
        let log = std::fs::File::create(log)?;
        // Should the shell itself be killed with -9, the program still ends.
        let guard: &[&str] = if exists("setpriv") {
            &["setpriv", "--pdeathsig", "KILL"]
        } else {
            &[]
        };
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(folder)
            .args(guard)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the test program; this follows.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// How the program ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.shell.try_wait()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // What cannot be waited for has ended.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::path::PathBuf;
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
    use std::thread;

    use super::*;
    use crate::testenv::PATIENCE;

    /// Two folders: the program's, and the one it is in.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("own");
        fs::create_dir(&folder).unwrap();
        (outer, folder)
    }

    /// A pipe that tells about a program: that it runs, by a line; that it has
    /// ended, by the end of the lines.
    fn pipe(path: &Path) -> Receiver<String> {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
        let (sender, lines) = mpsc::channel();
        let path = path.to_owned();
        thread::spawn(move || {
            let pipe = fs::File::open(path).unwrap();
            for line in BufReader::new(pipe).lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        lines
    }

    /// A program that writes a line to the pipe and lasts for ever.
    fn for_ever(pipe: &Path) -> String {
        let pipe = pipe.display();
        format!("exec 4>'{pipe}'; echo started >&4; exec sleep 1000000")
    }

    #[test]
    fn a_program_ends_with_its_guard() {
        let (outer, folder) = folders();
        let path = outer.path().join("pipe");
        let lines = pipe(&path);
        let log = outer.path().join("log");
        let program = Supervised::start(&folder, &log, &["sh", "-c", &for_ever(&path)]).unwrap();
        assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok("started"));
        drop(program);
        let end = lines.recv_timeout(PATIENCE);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        assert!(!folder.exists());
    }

    #[test]
    fn a_program_that_ends_by_itself_is_noticed() {
        let (outer, folder) = folders();
        let log = outer.path().join("log");
        let command = ["sh", "-c", "echo why; exit 7"];
        let mut program = Supervised::start(&folder, &log, &command).unwrap();
        // To wait closes standard input unless somebody else holds it.
        let held = program.shell.stdin.take();
        let ended = program.shell.wait().unwrap();
        drop(held);
        assert_eq!(ended.code(), Some(7));
        assert_eq!(program.ended().unwrap(), Some(ended));
        assert_eq!(fs::read_to_string(&log).unwrap(), "why\n");
        assert!(folder.exists());
    }

    /// The variable with which [`a_program_ends_when_the_test_is_killed`] starts
    /// this test program again.
    const HELD: &str = "TUNNEL_REGISTRY_TEST_HELD_PIPE";

    /// Tests nothing by itself: the next one kills it.
    #[test]
    fn held_until_killed() {
        let Some(path) = std::env::var_os(HELD).map(PathBuf::from) else {
            return;
        };
        let outer = path.parent().unwrap();
        let (folder, log) = (outer.join("own"), outer.join("log"));
        let program = Supervised::start(&folder, &log, &["sh", "-c", &for_ever(&path)]).unwrap();
        // Nobody writes here.
        let _ = io::stdin().read(&mut [0]).unwrap();
        drop(program);
    }

    #[test]
    fn a_program_ends_when_the_test_is_killed() {
        let (outer, _) = folders();
        let path = outer.path().join("pipe");
        let lines = pipe(&path);
        let mut test = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kube::supervisor::tests::held_until_killed"])
            .env(HELD, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok("started"));
        // SIGKILL: no destructor runs.
        test.kill().unwrap();
        test.wait().unwrap();
        let end = lines.recv_timeout(PATIENCE);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    }
}
