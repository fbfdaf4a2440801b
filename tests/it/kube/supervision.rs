//! That supervised programs end when they should, and only then.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;

use rustix::process::Signal;

use super::supervisor::Supervised;
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
    let ended = program.shell.wait().unwrap();
    assert_eq!(ended.code(), Some(7));
    assert_eq!(program.ended().unwrap(), Some(ended));
    assert_eq!(fs::read_to_string(&log).unwrap(), "why\n");
    assert!(folder.exists());
}

#[test]
fn what_the_test_ends_leaves_the_folder_and_what_it_freezes_goes_on() {
    let (outer, folder) = folders();
    let path = outer.path().join("pipe");
    let lines = pipe(&path);
    let log = outer.path().join("log");
    // Not HUP: under nohup it is ignored, and a shell cannot trap what it was
    // started to ignore.
    let script = format!(
        "exec 4>'{}'; trap 'echo asked >&4' USR1; trap 'echo ended >&4; exit 3' TERM\n\
         echo started >&4; while :; do sleep 0.01; done",
        path.display()
    );
    let mut program = Supervised::start(&folder, &log, &["sh", "-c", &script]).unwrap();
    let next = || lines.recv_timeout(PATIENCE);
    assert_eq!(next().as_deref(), Ok("started"));
    program.signal(Signal::STOP).unwrap();
    program.signal(Signal::USR1).unwrap();
    assert_eq!(program.ended().unwrap(), None);
    assert_eq!(lines.try_recv(), Err(TryRecvError::Empty));
    program.signal(Signal::CONT).unwrap();
    assert_eq!(next().as_deref(), Ok("asked"));
    program.signal(Signal::TERM).unwrap();
    assert_eq!(next().as_deref(), Ok("ended"));
    assert_eq!(program.shell.wait().unwrap().code(), Some(3));
    // Whoever it was whose process id this has been is left alone.
    program.signal(Signal::KILL).unwrap();
    drop(program);
    assert!(folder.exists());
}

#[test]
fn a_stopped_program_ends_with_its_guard() {
    let (outer, folder) = folders();
    let path = outer.path().join("pipe");
    let lines = pipe(&path);
    let log = outer.path().join("log");
    let mut program = Supervised::start(&folder, &log, &["sh", "-c", &for_ever(&path)]).unwrap();
    assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok("started"));
    program.signal(Signal::STOP).unwrap();
    drop(program);
    let end = lines.recv_timeout(PATIENCE);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    assert!(!folder.exists());
}

/// Several share a folder, and the first to end may remove it.
#[test]
fn all_programs_of_a_folder_end() {
    let (outer, folder) = folders();
    let log = outer.path().join("log");
    let started: Vec<_> = (0..8)
        .map(|n| {
            let path = outer.path().join(format!("pipe-{n}"));
            let lines = pipe(&path);
            let command = ["sh", "-c", &for_ever(&path)];
            let program = Supervised::start(&folder, &log, &command).unwrap();
            assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok("started"));
            (program, lines)
        })
        .collect();
    for (program, lines) in started {
        drop(program);
        let end = lines.recv_timeout(PATIENCE);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    }
    assert!(!folder.exists());
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
        .args(["--exact", "kube::supervision::held_until_killed"])
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
