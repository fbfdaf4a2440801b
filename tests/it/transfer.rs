//! `export` and `import`: between stores, and from the peer's Redis. The program
//! itself, on real files, beside a real Redis and a real peer where they are.

mod peer;
mod redis;
mod stores;

use std::path::Path;
use std::process::Stdio;

use tokio::time::timeout;

use crate::process::{PATIENCE, command};

/// What a command came to.
struct Done {
    code: Option<i32>,
    /// What it printed.
    out: String,
    /// What it said beside that.
    said: String,
}

impl Done {
    /// It succeeded, and said this.
    fn well(self, part: &str) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.said);
        assert!(self.said.contains(part), "{part} is not in: {}", self.said);
        self
    }

    /// It did not, or not all of it, and said why.
    fn not(self, part: &str) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.said);
        assert!(self.said.contains(part), "{part} is not in: {}", self.said);
        self
    }
}

/// Runs the program with these words, in a folder.
async fn run(folder: &Path, words: &str) -> Done {
    run_with(folder, words, &[]).await
}

async fn run_with(folder: &Path, words: &str, environment: &[(&str, &Path)]) -> Done {
    let mut command = command(folder, &[]);
    command
        .args(words.split_whitespace())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {words:?} to end"))
        .unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        said: String::from_utf8(output.stderr).unwrap(),
    }
}
