//! Child processes: started, measured by their id, and always ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, Result};

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: fs::File,
}

/// How long an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How often a state that nobody announces is looked at.
const POLL: Duration = Duration::from_millis(2);
/// How much of a log is shown when something went wrong, in bytes.
const LOG_SHOWN: u64 = 2_000;

impl Process {
    /// Starts a child with nothing on its input; what it prints is kept.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let log = tempfile::tempfile()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .map_err(|error| format!("cannot start {name} ({command:?}): {error}"))?;
        Ok(Self { name, child, log })
    }

    /// Looks every 2 ms whether `probe` has something; fails when the child
    /// ends or `within` has passed.
    pub async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let from = Instant::now();
        loop {
            if let Some(found) = probe().await {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.blamed(format!("ended ({status}) before it was {what}").into()));
            }
            if from.elapsed() > within {
                return Err(self.blamed(format!("is not {what} after {within:?}").into()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// An error with the child's name and the end of its log.
    pub fn blamed(&self, error: Error) -> Error {
        let mut log = String::new();
        // Without its log the error is still worth telling.
        if let Ok(mut file) = self.log.try_clone() {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let from = SeekFrom::Start(length.saturating_sub(LOG_SHOWN));
            let mut end = Vec::new();
            if file
                .seek(from)
                .and_then(|_| file.read_to_end(&mut end))
                .is_ok()
            {
                log = String::from_utf8_lossy(&end).into_owned();
            }
        }
        format!("{}: {error}\n{log}", self.name).into()
    }

    /// Asks the child to end (SIGTERM) and waits for it. It must exit with 0.
    pub async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let from = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.blamed(format!("stopped with {status}").into())),
                None if from.elapsed() > STOP_WITHIN => {
                    return Err(self.blamed("did not stop".into()));
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Ends the child at once (SIGKILL).
    pub fn kill(self) {
        drop(self);
    }

    /// The processor time of the child's threads so far.
    pub fn cpu(&self) -> Result<Cpu> {
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let thread = thread?;
            // A thread may have ended since it was listed.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            threads.insert(thread.file_name().into_encoded_bytes(), on_cpu(&text)?);
        }
        Ok(Cpu(threads))
    }

    /// The child's resident memory (VmRSS) in bytes.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS")
    }

    /// The most resident memory that the child has had so far (VmHWM), in bytes.
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM")
    }

    fn status(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        Ok(kib.ok_or_else(|| format!("no {field} in /proc/PID/status"))? * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only fails for a child that has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The processor time of the thread that asks.
pub fn own_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(on_cpu(&text)?))
}

/// The time that a thread has run, in nanoseconds.
fn on_cpu(schedstat: &str) -> Result<u64> {
    let first = schedstat.split(' ').next();
    let on_cpu = first.and_then(|field| field.parse().ok());
    Ok(on_cpu.ok_or("this kernel keeps no /proc/PID/task/TID/schedstat")?)
}

/// Nanoseconds that each thread has run, from `schedstat`: `stat` counts in
/// steps of 10 ms.
#[derive(Clone, Debug)]
pub struct Cpu(BTreeMap<Vec<u8>, u64>);

impl Cpu {
    /// All of the time.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.values().sum())
    }

    /// The time run since `earlier`. A thread that ended in between is not
    /// counted; the servers' threads stay.
    pub fn since(&self, earlier: &Self) -> Duration {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or(0);
        let run = |(thread, now): (_, &u64)| now.saturating_sub(before(thread));
        Duration::from_nanos(self.0.iter().map(run).sum())
    }
}
