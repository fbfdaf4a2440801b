//! Where text goes: results to standard output, all else to standard error.

use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;

use crate::cli::problem::Problem;

/// The two streams.
pub(super) struct Output;

impl Output {
    /// Prints a text that ends with its line, or is empty.
    pub fn text(&self, text: &str) -> Result<(), Problem> {
        let mut stdout = io::stdout().lock();
        let printed = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        printed.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Problem::NobodyReads,
            _ => Problem::Output(error),
        })
    }

    /// Prints a line.
    pub fn line(&self, line: &str) -> Result<(), Problem> {
        self.text(&format!("{line}\n"))
    }

    /// Prints a value as a line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Problem> {
        let line = serde_json::to_string(value).map_err(|error| Problem::Output(error.into()))?;
        self.line(&line)
    }

    /// Says something that is no result.
    pub fn note(&self, text: &str) {
        // Nobody is left to tell when standard error is gone.
        let _gone = writeln!(io::stderr(), "tunnel-registry: {text}");
    }
}
